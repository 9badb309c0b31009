"""A cortex that learns, and a hippocampal store that replays to it and tells it the phase (after Zucchet et al. 2022).

The contrastive rule needs somebody who holds the examples of a task, who replays them twice, the second time with the query
examples mixed in, and who says which of the two it was. Here that is a bounded store. The cortex is any `Problem`: its fast
parameters learn from what is replayed and from nothing else, and at the end of a phase its slow ones write

    change of theta = -M dL/dtheta(phi, phase),       M = 1 / beta after the nudged phase, -1 / beta after the free one,

with M one scalar for all synapses. A perfect store is the estimator `contrastive`, to rounding. `Lesions` spoil it, one
connection at a time; where they take a complex synapse is derived in `cmlcore.models.lesions`. Both are this book's own.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from cmlcore import trees
from cmlcore.bilevel import Data, Task, augmented, free, require_nonzero_beta
from cmlcore.estimate import Estimate, MetaGradient, phase
from cmlcore.solve import Repeated, Solver


class Lesions(NamedTuple):
    """What is wrong with the circuit; nothing, by default. Python numbers, except for those that may be traced.

    stuck:       the phase signal always says "nudged" (1) or always "free" (-1); 0: it tells the truth.
    query:       "replayed"; "missing", so that the nudged phase is a second free one; "support", played instead of it.
    capacity:    examples that the store holds; a new one pushes out the oldest. None: all.
    noise:       variance of the noise on every number that is replayed, fresh in each phase; may be traced.
    wrong:       probability that a replayed query example belongs to another task; may be traced.
    trace:       the part of the free phase's writing that is left when the nudged phase ends, in [0, 1]; may be traced.
    interrupted: steps after which the nudged phase is broken off. None: it ends by itself.
    magnitude:   whether a synapse knows how large its change is; False: the sign alone.
    """

    stuck: int = 0
    query: str = "replayed"
    capacity: int | None = None
    noise: float = 0.0
    wrong: float = 0.0
    trace: float = 1.0
    interrupted: int | None = None
    magnitude: bool = True


class Store(NamedTuple):
    """What the store can replay in the two phases: of the free one the support examples, of the nudged one a whole task."""

    free: Data
    nudged: Task


def store(task: Task, capacity: int | None = None) -> Store:
    """Lay up the examples of `task` (leading axes) in order, support first; of too many, the oldest are lost.

    The free phase takes place before the query examples come. Raises ValueError for a capacity that leaves no support
    example beside the query.
    """
    shots, queries = (jax.tree.leaves(part)[0].shape[0] for part in task)
    room = shots + queries if capacity is None else capacity
    if room <= queries:
        raise ValueError(f"the store holds {room} examples, and the query set alone has {queries}; give it a capacity of {queries + 1} or more.")
    last = lambda count: jax.tree.map(lambda x: x[max(shots - count, 0) :], task.support)
    return Store(last(room), Task(last(room - queries), task.query))


def hippocampal(free_solver: Solver, nudged_solver: Solver, beta, lesions: Lesions = Lesions(), strange: Callable | None = None) -> MetaGradient:
    """The rule with both phases replayed from a store, and one broadcast scalar (after Zucchet et al. 2022).

    strange: `key -> query data` of another task, shaped like the task's own; what a wrong replay takes from.

    `info` and `value` are those of `contrastive`. The estimator's `grad` is minus the change that theta writes. Replay that
    is noisy or wrong needs a key. Raises ValueError for beta = 0 and for lesions that do not exist.
    """
    require_nonzero_beta(beta)
    require_lesions(lesions)
    if strange is None and _present(lesions.wrong):
        raise ValueError("wrong replay takes query examples of another task: pass strange=key -> query data.")
    if lesions.interrupted is not None:
        nudged_solver = _interrupted(nudged_solver, lesions.interrupted)
    nudge = 0.0 if lesions.query == "missing" else beta

    def estimate(problem, theta, task, key=None):
        held = store(task, lesions.capacity)
        first, second = (None, None) if key is None else jax.random.split(key)
        one = Task(_noisy(held.free, lesions.noise, first), task.query)
        two = _replayed(held.nudged, lesions, strange, second)

        silent, driven = free(problem, theta), augmented(problem, theta, nudge)
        start = free_solver(silent, problem.init(theta, one.support), one, first)
        end = nudged_solver(silent if lesions.query == "missing" else driven, start.phi, two, second)

        def write(phi, played, strength, modulator):
            slope = jax.grad(lambda th: augmented(problem, th, strength)(phi, played))(theta)
            return trees.scale(modulator, slope)

        says = lambda true: lesions.stuck or true  # what the broadcast scalar says
        before = jax.grad(lambda th: free(problem, th)(start.phi, one))(theta)
        before = trees.scale(says(-1) * lesions.trace, before)
        after = write(end.phi, two, nudge, says(1))
        grad = trees.scale(1 / beta, trees.add(after, before))
        if not lesions.magnitude:
            grad = jax.tree.map(jnp.sign, grad)
        value = problem.outer(start.phi, theta, task.query)
        return Estimate(grad, value, start.phi, {"free": phase(start), "nudged": phase(end)})

    return estimate


def replay(transform: optax.GradientTransformation, order) -> Repeated:
    """An inner solver that is shown examples one by one: step t learns from row `order[t]` of what is replayed.

    order: integers, (steps,): rows of the support, or (steps, 2): rows of support and query. The order is the store's choice.
    """
    order = jnp.asarray(order)
    rows = order if order.ndim == 2 else jnp.stack([order, jnp.zeros_like(order)], axis=1)

    def step(objective, phi, memory, task, key):
        state, t = memory
        shown = Task(*(jax.tree.map(lambda x: x[rows[t, i]][None], part) for i, part in enumerate(task)))
        updates, state = transform.update(jax.grad(objective)(phi, shown), state, phi)
        return optax.apply_updates(phi, updates), (state, t + 1)

    return Repeated(lambda phi: (transform.init(phi), jnp.asarray(0)), step, len(rows))


def blocked(groups: int, each: int, rounds: int):
    """An order: all `rounds` of the first group of `each` rows, then all of the next; (groups * each * rounds,) integers."""
    rows = jnp.arange(groups * each).reshape(groups, 1, each)
    return jnp.broadcast_to(rows, (groups, rounds, each)).reshape(-1)


def interleaved(groups: int, each: int, rounds: int):
    """An order: the groups take turns, row by row; the same rows equally often as in `blocked`."""
    rows = jnp.arange(groups * each).reshape(groups, each).T.reshape(-1)
    return jnp.tile(rows, rounds)


def require_lesions(lesions: Lesions) -> None:
    """Raise ValueError, with the name of the lesion, for a value that it cannot have."""
    allowed = {"stuck": (-1, 0, 1), "query": ("replayed", "missing", "support")}
    for name, values in allowed.items():
        if getattr(lesions, name) not in values:
            raise ValueError(f"{name} is {getattr(lesions, name)!r}; it must be one of {values}.")
    limits = {"noise": (0, jnp.inf), "wrong": (0, 1), "trace": (0, 1), "interrupted": (0, jnp.inf)}
    for name, (low, high) in limits.items():
        value = getattr(lesions, name)
        if isinstance(value, (int, float)) and not low <= value <= high:
            raise ValueError(f"{name} is {value}; it must lie between {low} and {high}.")


def _present(value) -> bool:
    """Whether a lesion is there; one whose value is traced always is."""
    return not isinstance(value, (int, float)) or value > 0


def _interrupted(solver, steps):
    if not isinstance(solver, Repeated):
        raise ValueError("only a solver of a fixed number of steps can be interrupted: use gradient_descent, optimizer or replay.")
    return solver._replace(steps=min(steps, solver.steps))


def _replayed(held: Task, lesions: Lesions, strange, key) -> Task:
    support, query = _noisy(held.support, lesions.noise, _fold(key, 1)), held.query
    if lesions.query == "support":
        return Task(support, support)
    if strange is not None and _present(lesions.wrong):
        other, which = jax.random.split(_required(_fold(key, 2)))
        mixed = jax.random.bernoulli(which, lesions.wrong, jax.tree.leaves(query)[0].shape[:1])
        swap = lambda own, foreign: jnp.where(mixed.reshape(-1, *[1] * (own.ndim - 1)), foreign, own)
        query = jax.tree.map(swap, query, strange(other))
    return Task(support, _noisy(query, lesions.noise, _fold(key, 3)))


def _noisy(data, variance, key):
    if not _present(variance):
        return data
    leaves, shape = jax.tree.flatten(data)
    keys = jax.random.split(_required(_fold(key, 4)), len(leaves))
    noise = lambda k, x: x + jnp.sqrt(variance) * jax.random.normal(k, x.shape, x.dtype)
    return shape.unflatten([noise(k, x) for k, x in zip(keys, leaves)])


def _fold(key, number):
    return None if key is None else jax.random.fold_in(key, number)


def _required(key):
    if key is None:
        raise ValueError("unfaithful replay draws at random: pass a key to the estimator (key=jax.random.key(0)).")
    return key
