"""How good is a meta-gradient, how does its error scale, what does it cost, and what can it not see?

Definitions are this book's own. Everything is returned, nothing printed.
"""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from cmlcore import trees
from cmlcore.bilevel import Diverged, Problem, Task, Theta
from cmlcore.estimate import Estimate, MetaGradient, check_phases, measured, meta_gradient


class Agreement(NamedTuple):
    """How an estimate compares with the exact meta-gradient.

    error:  relative error `|grad - exact| / |exact|`, a scalar.
    cosine: cosine of the angle between the two; 1 is the right direction.
    estimate: the whole `Estimate`, to look further.
    """

    error: jax.Array
    cosine: jax.Array
    estimate: Estimate


def agreement(problem: Problem, estimators: Mapping[str, MetaGradient], theta: Theta, task: Task, exact: Theta, key=None) -> dict[str, Agreement]:
    """Each estimator of `{name: estimator}` against `exact`, a tree shaped like theta, on one task.

    Raises `Diverged` naming the estimator and its phase.
    """
    return {name: _against(name, estimator, problem, theta, task, exact, key) for name, estimator in estimators.items()}


def _against(name, estimator, problem, theta, task, exact, key) -> Agreement:
    try:
        with measured():
            found = meta_gradient(estimator, problem, theta, task, key)
    except Diverged as error:
        raise Diverged(f"{name}: {error}") from error
    return Agreement(trees.relative_error(found.grad, exact), trees.cosine(found.grad, exact), found)


class Order(NamedTuple):
    """How an error falls with beta: `error ~ beta^slope`, fitted by least squares between the logarithms.

    slope:  the order, a scalar.
    betas:  (n,) nudges.
    errors: (n,) relative errors.
    """

    slope: jax.Array
    betas: jax.Array
    errors: jax.Array


def order_in_beta(build: Callable[[jax.Array], MetaGradient], problem: Problem, theta: Theta, task: Task, exact: Theta, betas, key=None) -> Order:
    """The order in beta of `build(beta)`, an estimator for a traced beta, over the nudges `betas`, (n,).

    The phases must be solved well below the bias at the smallest beta, or the slope is that of the solver's error.
    Raises ValueError for fewer than two betas or one that is not positive, `Diverged` if a phase ran away.
    """
    betas = jnp.asarray(betas)
    if betas.size < 2 or not bool(jnp.all(betas > 0)):
        raise ValueError(f"betas is {betas}; an order is fitted through at least two positive nudges.")
    estimate = jax.jit(jax.vmap(lambda beta: build(beta)(problem, theta, task, key)))(betas)
    with measured():
        check_phases(estimate)
    errors = jax.vmap(lambda grad: trees.relative_error(grad, exact))(estimate.grad)
    x, y = jnp.log(betas), jnp.log(errors)
    x = x - jnp.mean(x)
    return Order(jnp.sum(x * y) / jnp.sum(x * x), betas, errors)


class Memory(NamedTuple):
    """What a compiled function holds, numbers of bytes, by XLA's own analysis.

    temporary: scratch space between inputs and outputs; a stored inner trajectory is here.
    arguments: its inputs.
    output:    its outputs.
    """

    temporary: int
    arguments: int
    output: int


def memory(fn: Callable, *args) -> Memory:
    """The memory that `fn(*args)`, arguments of any shape, needs, without running it: it is compiled and XLA is asked.

    Raises RuntimeError on a backend that gives no analysis.
    """
    return compiled_memory(jax.jit(fn).lower(*args).compile())


def compiled_memory(run: jax.stages.Compiled) -> Memory:
    """The memory that a compiled function needs, three numbers, by XLA's own analysis; raises as `memory` does."""
    analysis = run.memory_analysis()
    if analysis is None:
        raise RuntimeError(f"the {jax.default_backend()} backend reports no memory analysis; ask on the CPU (JAX_PLATFORMS=cpu).")
    return Memory(analysis.temp_size_in_bytes, analysis.argument_size_in_bytes, analysis.output_size_in_bytes)


def seconds(run: Callable, *args, repeats: int) -> list[float]:
    """The time of each of `repeats` calls of `run(*args)`, compiled before, arguments of any shape; each call is waited for."""

    def once():
        begin = time.perf_counter()
        jax.block_until_ready(run(*args))
        return time.perf_counter() - begin

    return [once() for _ in range(repeats)]


class Blind(NamedTuple):
    """What an estimator cannot see.

    unseen: paths of the leaves of theta that it gives exactly zero although the reference does not.
    sizes:  for every leaf, by path, the norm of the reference's gradient: what an unseen leaf would have been worth.
    """

    unseen: tuple[str, ...]
    sizes: dict[str, float]


def blind(problem: Problem, estimator: MetaGradient, reference: MetaGradient, theta: Theta, task: Task, key=None) -> Blind:
    """The meta-parameters that `estimator` cannot see and `reference` can, leaf by leaf.

    reference: an estimator that sees everything, such as `unrolled` with the same inner solver. A starting point or a
    learning rate acts only through the path to phi*, so implicit and contrastive estimators are blind to it.
    """
    with measured():
        mine, true = (meta_gradient(one, problem, theta, task, key).grad for one in (estimator, reference))
    sizes = {jax.tree_util.keystr(path): float(trees.norm(leaf)) for path, leaf in jax.tree.leaves_with_path(true)}
    zero = [not bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(mine)]
    return Blind(tuple(path for (path, size), none in zip(sizes.items(), zero) if none and size > 0), sizes)
