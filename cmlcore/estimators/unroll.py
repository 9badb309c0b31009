"""Backpropagation through training: differentiate the solver itself (MAML, Finn et al. 2017), and pay less for it.

All four are exact derivatives of something: of all steps (`unrolled`, and with other bills `checkpointed` and
`forward_mode`), or of the last few (`truncated`). With `problem.init = lambda theta, support: theta`, `unrolled` is MAML: the
learned initialization.
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from cmlcore.bilevel import Problem, Task, by_value, free
from cmlcore.estimate import Estimate, MetaGradient, phase
from cmlcore.solve import OfTheta, Repeated, Solver


def _learn_then_test(free_solver: Solver, problem: Problem, task: Task, key) -> Callable:
    """`theta -> (L_out after learning, (that again, Solved))`, the function that all of this module differentiates."""

    def run(theta):
        solver = free_solver.make(theta) if isinstance(free_solver, OfTheta) else free_solver
        solved = solver(free(problem, theta), problem.init(theta, task.support), task, key)
        value = problem.outer(solved.phi, theta, task.query)
        return value, (value, solved)

    return run


def _through(differentiate: Callable, free_solver: Solver) -> MetaGradient:
    """Differentiate learn-then-test with `jax.grad` or `jax.jacfwd`."""

    def estimate(problem, theta, task, key=None):
        run = _learn_then_test(free_solver, problem, task, key)
        grad, (value, solved) = differentiate(run, has_aux=True)(theta)
        return Estimate(grad, value, solved.phi, {"free": phase(solved)})

    return estimate


@by_value
def unrolled(free_solver: Solver) -> MetaGradient:
    """Reverse mode through every inner step (Maclaurin et al. 2015): exact for the steps taken, memory grows with them.

    `grad` is a tree shaped like theta, as for all estimators. Sees everything that touches the path, the starting point and the learning rates
    included (`cmlcore.solve.of_theta`). `free_solver` must not be `until` (a `while_loop` has no reverse mode).
    """
    return _through(jax.grad, free_solver)


@by_value
def forward_mode(free_solver: Solver) -> MetaGradient:
    """Forward mode through every inner step: equal to `unrolled`, with no path stored and nothing run backwards.

    The bill is another one: `d phi_t / d theta` is carried along, dim(theta) vectors shaped like phi, each advanced by
    a Hessian-vector product in every step. Time and memory are dim(theta) times those of learning, whatever the
    number of steps: for a few hyperparameters. Works with `until`, and then differentiates the steps taken
    (Franceschi et al. 2017).
    """
    return _through(jax.jacfwd, free_solver)


@by_value
def truncated(free_solver: Repeated, last: int) -> MetaGradient:
    """Reverse mode through the last `last` steps: `phi` before them, and the optimizer's state, are taken as given.

    Memory grows with `last`, not with the number of steps. What theta did earlier is missed, an error of order
    `rho^last` that more inner steps do not remove (Shaban et al. 2019). With `last` at or above the number of steps
    it is `unrolled`. Raises ValueError for `last < 1`, TypeError for a solver that cannot be taken apart.
    """
    if last < 1:
        raise ValueError(f"last is {last}; truncated backpropagation goes through at least one step.")
    _require_repeated("truncated", free_solver)
    return unrolled(free_solver._replace(loop=partial(_only_last, free_solver.loop, last)))


@by_value
def checkpointed(free_solver: Repeated, segment: int | None = None) -> MetaGradient:
    """Reverse mode through every step, storing `phi` once per `segment` steps and computing the rest again.

    Equal to `unrolled`, a tree shaped like theta. Memory of order `steps / segment + segment`, smallest at the default, `sqrt(steps)`; time of
    one more run of learning (Griewank & Walther 2000). Raises ValueError for `segment < 1`, TypeError for a solver
    that cannot be taken apart.
    """
    if segment is not None and segment < 1:
        raise ValueError(f"segment is {segment}; a segment holds at least one step.")
    _require_repeated("checkpointed", free_solver)
    size = segment or max(1, math.isqrt(free_solver.steps))
    return unrolled(free_solver._replace(loop=partial(_in_segments, free_solver.loop, size)))


def _require_repeated(name: str, solver: Solver) -> None:
    if not isinstance(solver, Repeated):
        raise TypeError(
            f"{name} takes its solver apart, step by step, and was given {solver!r}. Use gradient_descent, optimizer, "
            "minibatch or newton; for any other solver use `implicit` or `contrastive`, which only ask where it ended."
        )


def _only_last(loop: Callable, last: int, body: Callable, carry, xs, length: int):
    """A loop whose derivative knows the last `last` steps."""
    if last >= length:
        return loop(body, carry, xs, length=length)
    early, late = _split(xs, length - last)
    # Stopped in every step, not only at the end: so no residual of an early step is ever stored.
    blind = lambda carry, x: jax.lax.stop_gradient(body(carry, x))
    carry, before = loop(blind, jax.lax.stop_gradient(carry), early, length=length - last)
    carry, after = loop(body, carry, late, length=last)
    return carry, _join(before, after)


def _in_segments(loop: Callable, size: int, body: Callable, carry, xs, length: int):
    """A loop whose reverse mode stores the carry once per `size` steps."""
    run = partial(jax.checkpoint, prevent_cse=False)(lambda carry, xs: loop(body, carry, xs, length=size))
    whole = length // size
    first, rest = _split(xs, whole * size)
    segments = jax.tree.map(lambda x: x.reshape(whole, size, *x.shape[1:]), first)
    carry, ys = jax.lax.scan(run, carry, segments, length=whole)
    before = jax.tree.map(lambda y: y.reshape(whole * size, *y.shape[2:]), ys)
    carry, after = loop(body, carry, rest, length=length - whole * size)
    return carry, _join(before, after)


def _split(xs, count: int):
    """The first `count` rows of every leaf, and the others."""
    return jax.tree.map(lambda x: x[:count], xs), jax.tree.map(lambda x: x[count:], xs)


def _join(before, after):
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), before, after)
