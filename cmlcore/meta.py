"""Meta-learning: the outer loop around any estimator, and the test of what it learned.

The loop over batches of tasks is that of Finn et al. 2017.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from cmlcore import trees
from cmlcore.bilevel import Problem, Task, Theta, free
from cmlcore.estimate import Estimate, MetaGradient
from cmlcore.solve import Solver


class MetaState(NamedTuple):
    """Everything that the outer loop carries from step to step; saving it is enough to resume to the same bits.

    theta: a tree; optimizer: optax's state; step: how many were taken, a scalar; key: the run's random key.
    """

    theta: Theta
    optimizer: Any
    step: jax.Array
    key: jax.Array


class MetaInfo(NamedTuple):
    """One outer step, worth plotting, scalars: outer loss before the step, norm of the meta-gradient, residuals by phase."""

    value: jax.Array
    grad_norm: jax.Array
    residual: dict[str, jax.Array]
    diverged: dict[str, jax.Array]


def over_tasks(estimator: MetaGradient) -> MetaGradient:
    """The estimator for a meta-batch: tasks along the leading axis, the *mean* of their meta-gradients."""

    def estimate(problem: Problem, theta: Theta, tasks: Task, key=None) -> Estimate:
        return _mean(jax.vmap(lambda task, k: estimator(problem, theta, task, k))(tasks, _keys(key, tasks)))

    return estimate


def in_turn(estimator: MetaGradient) -> MetaGradient:
    """`over_tasks`, the tasks along the leading axis one after the other: faster on a CPU, where their products are large.

    Without diagnostics, which cost gradients: `info` is empty.
    """

    def estimate(problem: Problem, theta: Theta, tasks: Task, key=None) -> Estimate:
        one = lambda each: estimator(problem, theta, *each)._replace(info={})
        return _mean(jax.lax.map(one, (tasks, _keys(key, tasks))))

    return estimate


def _keys(key, tasks: Task):
    """A key for each task; without a key none, a tree without leaves."""
    return None if key is None else jax.random.split(key, jax.tree.leaves(tasks)[0].shape[0])


def _mean(each: Estimate) -> Estimate:
    return each._replace(grad=trees.mean(each.grad), value=jnp.mean(each.value))


def meta_start(theta: Theta, optimizer: optax.GradientTransformation, key) -> MetaState:
    """The state before the first outer step, from `theta`, a tree."""
    return MetaState(theta, optimizer.init(theta), jnp.asarray(0), key)


def meta_step(
    problem: Problem,
    estimator: MetaGradient,
    optimizer: optax.GradientTransformation,
    draw: Callable,
    tasks: int,
    over: Callable[[MetaGradient], MetaGradient] = over_tasks,
) -> Callable[[MetaState], tuple[MetaState, MetaInfo]]:
    """One outer step: draw `tasks` tasks with `draw(key) -> Task`, average their meta-gradients, update theta.

    over: how one task's estimator becomes a meta-batch's: `over_tasks`, `in_turn`, or
        `cmlcore.devices.over_devices` to share the tasks out.
    The step's randomness is a function of (key, step) alone, so an interrupted run continues to the same numbers.
    """
    batch = over(estimator)

    def step(state: MetaState):
        draws, inner = jax.random.split(jax.random.fold_in(state.key, state.step))
        result = batch(problem, state.theta, jax.vmap(draw)(jax.random.split(draws, tasks)), inner)
        updates, moments = optimizer.update(result.grad, state.optimizer, state.theta)
        theta = optax.apply_updates(state.theta, updates)
        info = MetaInfo(
            result.value,
            trees.norm(result.grad),
            {name: jnp.mean(ended.grad_norm) for name, ended in result.info.items()},
            {name: jnp.any(ended.diverged) for name, ended in result.info.items()},
        )
        return MetaState(theta, moments, state.step + 1, state.key), info

    return step


class Averaged(NamedTuple):
    """The outer loop with a running mean: `state` goes on learning, `mean`, a tree like theta, is what to test."""

    state: MetaState
    mean: Theta


def averaged(step: Callable, after: int) -> Callable[[Averaged], tuple[Averaged, MetaInfo]]:
    """`step` with Polyak's average: the mean of every theta after the first `after` outer steps, a tree; until then theta itself.

    The count is the state's own, so an interrupted run continues the same mean (Polyak & Juditsky 1992). Start from
    `Averaged(state, state.theta)`. Raises ValueError for a negative `after`.
    """
    if after < 0:
        raise ValueError(f"after is {after}; averaging begins after 0 or more outer steps.")

    def both(carry: Averaged):
        state, info = step(carry.state)
        share = 1 / jnp.maximum(state.step - after, 1)
        # As a sum of two parts: with a share of 1 the mean is theta to the last bit.
        blend = lambda m, t: (1 - share).astype(t.dtype) * m + share.astype(t.dtype) * t
        return Averaged(state, jax.tree.map(blend, carry.mean, state.theta)), info

    return both


def meta_steps(step: Callable, count: int) -> Callable[[MetaState], tuple[MetaState, MetaInfo]]:
    """`count` outer steps in one call, compiled once; infos gain a leading axis of that length."""
    return jax.jit(lambda state: jax.lax.scan(lambda s, _: step(s), state, length=count))


def evaluate(problem: Problem, solver: Solver, theta: Theta, tasks: Task, score: Callable, key=None) -> jax.Array:
    """The meta-test: learn each task freely from `theta`, return `score(phi, theta, query)`, one number a task."""

    def one(task, k):
        phi = solver(free(problem, theta), problem.init(theta), task, k).phi
        return score(phi, theta, task.query)

    return jax.vmap(one)(tasks, _keys(key, tasks))
