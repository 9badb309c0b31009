"""All estimators against the exact answer: how wrong, what they ask for, what they cost, and what they wish for.

The measures and the scores are this book's own; the three wishes of a learning brain, locality, causality and
flexibility, are those of Zucchet et al. 2022.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from cmlcore import trees
from cmlcore.bilevel import Diverged, Problem, Task, Theta
from cmlcore.estimate import MetaGradient, check_phases, measured
from cmlcore.solve import Repeated, Solver
from cmlcore.theory.count import Counts, counts
from cmlcore.theory.diagnostics import compiled_memory, memory, seconds


class Row(NamedTuple):
    """One estimator against the exact meta-gradient; numbers.

    error:   relative error `|grad - exact| / |exact|`.
    cosine:  cosine of the angle between the two.
    asked:   derivatives of the losses that were computed, a `Counts`.
    memory:  bytes between inputs and outputs, by XLA's own analysis of the compiled `Estimate`.
    seconds: time of the quickest call, compiled before and waited for: what else runs on the machine only adds.
    compile_seconds: time to trace and compile, once.
    """

    error: float
    cosine: float
    asked: Counts
    memory: int
    seconds: float
    compile_seconds: float


def compare(problem: Problem, estimators: Mapping[str, MetaGradient], theta: Theta, task: Task, exact: Theta, key=None, *, repeats: int = 5) -> dict[str, Row]:
    """Each estimator of `{name: estimator}` on one task, against `exact`, a tree shaped like theta.

    Times depend on the machine and on the moment; everything else does not. Raises `Diverged` naming the estimator.
    """
    return {name: _row(name, problem, estimator, theta, task, exact, key, repeats) for name, estimator in estimators.items()}


def _row(name, problem, estimator, theta, task, exact, key, repeats) -> Row:
    begin = time.perf_counter()
    run = jax.jit(lambda theta, task: estimator(problem, theta, task, key)).lower(theta, task).compile()
    compile_seconds = time.perf_counter() - begin
    try:
        with measured():
            grad = check_phases(run(theta, task)).grad
    except Diverged as error:
        raise Diverged(f"{name}: {error}") from error
    quickest = min(seconds(run, theta, task, repeats=repeats))
    wrong, cosine = float(trees.relative_error(grad, exact)), float(trees.cosine(grad, exact))
    asked = counts(estimator, problem, theta, task, key)
    return Row(wrong, cosine, asked, compiled_memory(run).temporary, quickest, compile_seconds)


def errors_over_steps(
    problem: Problem, builds: Mapping[str, Callable], theta: Theta, task: Task, exact: Theta, steps: Sequence[int], key=None
) -> dict[str, jax.Array]:
    """Relative errors, (n,) for n step counts and each name of `{name: build}`, where `build(T)` is an estimator of T inner steps.

    What did not end finite has an infinite error. One compilation for every T.
    """
    columns = []
    for count in steps:
        estimators = {name: build(count) for name, build in builds.items()}
        run = lambda theta, task: {name: e(problem, theta, task, key).grad for name, e in estimators.items()}
        columns.append({n: trees.relative_error(g, exact) for n, g in jax.jit(run)(theta, task).items()})
    return {name: jnp.nan_to_num(jnp.stack([c[name] for c in columns]), nan=jnp.inf, posinf=jnp.inf) for name in builds}


class Wishes(NamedTuple):
    """Which wishes an estimator fulfills, and the evidence for each.

    local:    it asks for first derivatives only: `second` is 0.
    causal:   it never visits learning in reverse, and stores no path: `backward` is 0 and `growth` less than a byte.
    flexible: it does not care how learning is done: it works with a solver that nothing can be differentiated through.
    second:   products with second derivatives, of `Counts`; with the fewer steps.
    backward: those of them in reverse order.
    growth:   bytes of memory for each further inner step.
    """

    local: bool
    causal: bool
    flexible: bool
    second: float
    backward: float
    growth: float


def wishes(
    problem: Problem, builds: Mapping[str, Callable[[Solver], MetaGradient]], learner: Callable[[int], Repeated], theta: Theta, task: Task,
    key=None, *, steps: tuple[int, int] = (64, 256),
) -> dict[str, Wishes]:  # fmt: skip
    """Score each `build` of `{name: build}`, where `build(solver)` is an estimator, on locality, causality, flexibility.

    learner: `T -> solver`, inner learning of T steps. It is compiled for the two numbers of `steps` and not run.
    """
    return {name: _score(problem, build, learner, theta, task, key, steps) for name, build in builds.items()}


def _score(problem, build, learner, theta, task, key, steps) -> Wishes:
    few, many = steps
    asked = counts(build(learner(few)), problem, theta, task, key)

    def stored(count):
        estimator = build(learner(count))
        return memory(lambda theta, task: estimator(problem, theta, task, key).grad, theta, task).temporary

    growth = (stored(many) - stored(few)) / (many - few)
    flexible = _is_agnostic(problem, build, learner(few), theta, task, key)
    return Wishes(asked.second == 0, asked.backward == 0 and growth < 1, flexible, asked.second, asked.backward, growth)


def _is_agnostic(problem, build, solver, theta, task, key) -> bool:
    """Whether `build` works when its solver is sealed. The caller has seen that it works when it is not."""
    try:
        jax.eval_shape(lambda theta, task: build(sealed(solver))(problem, theta, task, key), theta, task)
    except (TypeError, ValueError):  # it takes steps apart, or differentiates: both are refused
        return False
    return True


def sealed(solver: Solver) -> Solver:
    """The same solver as a black box: it can be called, and neither taken apart nor differentiated (ValueError).

    The tree that it returns makes a detour through the host, through which no derivative goes.
    """

    def solve(objective, phi, task, key=None):
        solved = solver(objective, phi, task, key)
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), solved)
        return jax.pure_callback(lambda x: x, shapes, solved, vmap_method="expand_dims")

    return solve
