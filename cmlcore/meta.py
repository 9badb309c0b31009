"""Meta-learning: the outer loop around any estimator, and the test of what it learned.

The loop over batches of tasks is that of Finn et al. 2017.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from cmlcore import trees
from cmlcore.bilevel import Problem, Task, Theta, by_value, free
from cmlcore.estimate import Estimate, MetaGradient, Phase, unwatched
from cmlcore.solve import Result, Solver


class MetaState(NamedTuple):
    """Everything that the outer loop carries from step to step; saving it is enough to resume to the same bits.

    theta: a tree; optimizer: optax's state; step: how many were taken, a scalar; key: the run's random key.
    """

    theta: Theta
    optimizer: Any
    step: jax.Array
    key: jax.Array


class MetaInfo(NamedTuple):
    """One outer step, worth plotting, scalars: outer loss before the step, norm of the meta-gradient; by phase, the mean residual over tasks
    and the worst `cmlcore.solve.Result`."""

    value: jax.Array
    grad_norm: jax.Array
    residual: dict[str, jax.Array]
    result: dict[str, jax.Array]

    @property
    def diverged(self) -> dict[str, jax.Array]:
        """By phase, whether it moved away or overflowed in any task."""
        return {name: worst >= Result.MOVED_AWAY for name, worst in self.result.items()}


@by_value
def over_tasks(estimator: MetaGradient, in_axes: Any = 0) -> MetaGradient:
    """The estimator for a meta-batch: tasks along the leading axis, the *mean* of their meta-gradients.

    in_axes: as for `jax.vmap`, of the task: `Task(0, None)` is one query set that all share. Raises ValueError where the leading axes of what is
    not shared differ.
    """

    def estimate(problem: Problem, theta: Theta, task: Task, key=None) -> Estimate:
        return _mean(_side_by_side(estimator, problem, theta, task, key, in_axes))

    return estimate


@by_value
def over_sound_tasks(estimator: MetaGradient) -> MetaGradient:
    """`over_tasks` without the tasks that went wrong: a phase moved away or overflowed, or the gradient is not finite; of this book.

    The mean is over the others, and zero if there are none. `info["left out"]` counts: its `steps` is how many tasks were left out, its `result`
    that of a phase which moved away where it is all of them. `value`, a scalar, is the mean over the sound tasks.
    """

    def estimate(problem: Problem, theta: Theta, task: Task, key=None) -> Estimate:
        each = _side_by_side(estimator, problem, theta, task, key)
        sound = jax.vmap(trees.all_finite)(each.grad) & jnp.isfinite(each.value)
        for ended in each.info.values():
            sound &= ~ended.diverged
        count = jnp.sum(sound)

        def mean(x):
            kept = jnp.where(jnp.reshape(sound, sound.shape + (1,) * (x.ndim - 1)), x, 0)
            return jnp.sum(kept, axis=0) / jnp.maximum(count, 1)

        quiet = {
            name: ended._replace(result=jnp.where(sound, ended.result, Result.MOVING), grad_norm=jnp.where(sound, ended.grad_norm, 0))
            for name, ended in each.info.items()
        }
        zero = jnp.zeros((), each.value.dtype)
        lost = Phase(zero, zero, sound.size - count, jnp.where(count > 0, Result.SETTLED, Result.MOVED_AWAY))
        return each._replace(grad=jax.tree.map(mean, each.grad), value=mean(each.value), info=quiet | {"left out": lost})

    return estimate


def _side_by_side(estimator: MetaGradient, problem: Problem, theta: Theta, task: Task, key, in_axes: Any = 0) -> Estimate:
    return jax.vmap(lambda task, k: estimator(problem, theta, task, k), (in_axes, 0))(task, _keys(key, task, in_axes))


@by_value
def in_turn(estimator: MetaGradient) -> MetaGradient:
    """`over_tasks`, the tasks along the leading axis one after the other: faster on a CPU, where their products are large.

    Without diagnostics, which cost gradients: `info` is empty.
    """

    def estimate(problem: Problem, theta: Theta, task: Task, key=None) -> Estimate:
        one = lambda each: unwatched(estimator)(problem, theta, *each)
        return _mean(jax.lax.map(one, (task, _keys(key, task))))

    return estimate


def count_tasks(tasks: Task, in_axes: Any = 0) -> int:
    """How many tasks a batch holds, along the leading axis of its arrays or along `in_axes`, as for `jax.vmap`. Raises ValueError where arrays differ."""
    lengths: set = set()
    measure = lambda axis, part: lengths.update(() if axis is None else (jnp.shape(x)[axis] if jnp.ndim(x) else None for x in jax.tree.leaves(part)))
    jax.tree.map(measure, in_axes, tasks, is_leaf=lambda axis: axis is None)
    if len(lengths) != 1 or None in lengths:
        raise ValueError(
            f"a batch has its tasks along one axis of every array, and the lengths of that axis here are {sorted(map(str, lengths))}. For what all tasks "
            "share, give in_axes, as in over_tasks(rule, in_axes=Task(0, None)); one task alone goes to the estimator itself."
        )
    return lengths.pop()


def _keys(key, tasks: Task, in_axes: Any = 0):
    """A key for each task; without a key none, a tree without leaves. Raises as `count_tasks` does."""
    count = count_tasks(tasks, in_axes)
    return None if key is None else jax.random.split(key, count)


def _mean(each: Estimate) -> Estimate:
    return each._replace(grad=trees.mean(each.grad), value=jnp.mean(each.value))


def meta_start(theta: Theta, optimizer: optax.GradientTransformation, key) -> MetaState:
    """The state before the first outer step, from `theta`, a tree."""
    return MetaState(theta, optimizer.init(theta), jnp.asarray(0), key)


@by_value
def meta_step(
    problem: Problem,
    estimator: MetaGradient,
    optimizer: optax.GradientTransformation,
    draw: Callable,
    tasks: int,
    over: Callable[[MetaGradient], MetaGradient] = over_tasks,
) -> Callable[[MetaState], tuple[MetaState, MetaInfo]]:
    """One outer step: draw `tasks` tasks with `draw(key) -> Task`, average their meta-gradients, update theta.

    over: how one task's estimator becomes a meta-batch's: `over_tasks`, `over_sound_tasks`, `in_turn`, or
        `cmlcore.speed.devices.over_devices` to share the tasks out.
    Its info is made of diagnostics, which cost gradients on the full task: of `cmlcore.estimate.unwatched(estimator)` they are left out.
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
            {name: jnp.max(ended.result) for name, ended in result.info.items()},
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


@by_value
def meta_steps(step: Callable, count: int) -> Callable[[MetaState], tuple[MetaState, MetaInfo]]:
    """`count` outer steps in one call, compiled once, however often it is built; infos gain a leading axis of that length."""
    return jax.jit(lambda state: jax.lax.scan(lambda s, _: step(s), state, length=count))


def evaluate(problem: Problem, solver: Solver, theta: Theta, tasks: Task, score: Callable, key=None) -> jax.Array:
    """The meta-test: learn each task freely from `theta`, return `score(phi, theta, query)`, one number a task."""

    def one(task, k):
        phi = solver(free(problem, theta), problem.init(theta, task.support), task, k).phi
        return score(phi, theta, task.query)

    return jax.vmap(one)(tasks, _keys(key, tasks))
