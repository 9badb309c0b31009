"""The full experiments on the dual system: sine waves learned by a cortex whose hippocampal store is cut somewhere.

Every row is the same complex synapse (omega and lambda of every synapse learned) and the same store; a row differs from the intact
one by one lesion. All seeds of a row are one compiled program. The settings were chosen for the intact row, on validation waves.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cmlcore.bilevel import Problem, Task
from cmlcore.data.sine import WIDTHS, sine_task
from cmlcore.meta import evaluate, meta_start, meta_step, meta_steps, over_tasks
from cmlcore.models.hippocampus import Lesions, hippocampal
from cmlcore.models.mlp import init_mlp
from cmlcore.models.synapse import Synapses, learned_pull
from cmlcore.runs.cost import Cost
from cmlcore.runs.experiment import Experiment, Training
from cmlcore.runs.sine import LOSS, PLAIN, TEST, VALIDATION, fresh_tasks, settled_adam, settling
from cmlcore.solve import optimizer
from cmlcore.speed import fast

CHUNK = 25
SHOTS = QUERIES = 10
LESIONS = {
    "none": Lesions(),
    "stuck-nudged": Lesions(stuck=1),
    "stuck-free": Lesions(stuck=-1),
    "query-missing": Lesions(query="missing"),
    "query-support": Lesions(query="support"),
    "small-store": Lesions(capacity=QUERIES + 2),
    "noise": Lesions(noise=0.3),
    "wrong": Lesions(wrong=0.4),
    "weak-trace": Lesions(trace=0.5),
    "no-trace": Lesions(trace=0.0),
    "interrupted": Lesions(interrupted=10),
    "sign": Lesions(magnitude=False),
}


class Nights(NamedTuple):
    """Settings of a run. lesion: a name in `LESIONS`.

    Both rates settle as a cosine; the free phase is Adam, the nudged one gradient descent with momentum, which starts gently.
    """

    lesion: str
    free_steps: int
    nudged_steps: int
    free_rate: float
    nudged_rate: float
    momentum: float
    beta: float
    pull: float
    outer_steps: int
    tasks: int
    outer_rate: float
    clip: float


def _outer(clip: float, rate) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(clip), optax.adam(rate))


def _flat(trees_of_seeds) -> jax.Array:
    """All numbers of a tree whose leaves have a leading axis of the seeds, (seeds, n)."""
    return jnp.concatenate([x.reshape(len(x), -1) for x in jax.tree.leaves(trees_of_seeds)], 1)


def train_lesioned(settings: Nights) -> Training:
    """The rule through a store with one lesion; tested as the healthy: ten points of each new wave, then the query."""
    problem, learner = learned_pull(LOSS), settled_adam(settings.free_rate, settings.free_steps)
    gentle = optax.sgd(settling(settings.nudged_rate, settings.nudged_steps), settings.momentum)
    strange = lambda key: sine_task(key, SHOTS, QUERIES).query
    rule = hippocampal(learner, optimizer(gentle, settings.nudged_steps, unroll=2), settings.beta, LESIONS[settings.lesion], strange)
    outer = _outer(settings.clip, optax.cosine_decay_schedule(settings.outer_rate, settings.outer_steps))
    step = meta_step(problem, rule, outer, lambda key: sine_task(key, SHOTS, QUERIES), settings.tasks)
    many = jax.jit(jax.vmap(meta_steps(step, CHUNK)))
    examined = jax.jit(jax.vmap(lambda theta, tasks: evaluate(problem, learner, theta, tasks, problem.outer), (0, None)))

    def begin(seed):
        init, run = jax.random.split(jax.random.fold_in(jax.random.key(0), seed))
        omega = init_mlp(init, WIDTHS)
        return meta_start(Synapses(omega, jax.tree.map(lambda w: jnp.full_like(w, np.log(settings.pull)), omega)), outer, run)

    def advance(state):
        state, info = many(state)
        held_out = examined(state.theta, fresh_tasks(VALIDATION, 100))
        pull = jnp.median(_flat(state.theta.log_lambda), 1)
        return state, {"outer_loss": jnp.mean(info.value, 1), "validation": jnp.mean(held_out, 1), "log_lambda": pull}

    def test(seeds, state):
        return {"error": examined(state.theta, fresh_tasks(TEST, 1000)), "log_lambda": _flat(state.theta.log_lambda)}

    return Training(jax.vmap(begin), advance, settings.outer_steps // CHUNK, test, lambda state: state.theta)


# ---- two worlds, one after the other -----------------------------------------------------------------------------------


class Worlds(NamedTuple):
    """Settings of a life in two worlds. interleaved: 1 if every night replays both, 0 for all nights of the first, then of the second.

    The second world's waves are the first one's turned upside down. Both rows of one order meet the same waves.
    """

    interleaved: int
    steps: int
    rate: float
    nudged_steps: int
    beta: float
    pull: float
    outer_steps: int
    tasks: int
    outer_rate: float
    clip: float


def _world(tasks: Task, which) -> Task:
    """The waves of `tasks`, upside down where `which`, 0 or 1 each, is 1."""
    turn = lambda points: points._replace(y=points.y * (1 - 2 * which.reshape(-1, 1, 1)))
    return Task(*map(turn, tasks))


def _tonight(settings: Worlds, key, step) -> Task:
    tasks = jax.vmap(lambda k: sine_task(k, SHOTS, QUERIES))(jax.random.split(key, settings.tasks))
    second = jnp.where(settings.interleaved, jnp.arange(settings.tasks) % 2, step >= settings.outer_steps // 2)
    return _world(tasks, jnp.broadcast_to(second, (settings.tasks,)))


def _life(settings: Worlds, night: Callable, problem: Problem, learner) -> Training:
    """A life of `outer_steps` nights. night: `(theta, optimizer state, tasks) -> (theta, optimizer state)`, for one seed."""

    def examined(omega, number, count):
        tasks = fresh_tasks(number, count)
        worlds = [_world(tasks, jnp.full(count, which)) for which in (0, 1)]
        return [jax.vmap(lambda o: evaluate(problem, learner, o, world, problem.outer))(omega) for world in worlds]

    def begin(seed):
        init, run = jax.random.split(jax.random.fold_in(jax.random.key(0), seed))
        omega = init_mlp(init, WIDTHS)
        return omega, _outer(settings.clip, settings.outer_rate).init(omega), jnp.asarray(0), run

    def one(state, _):
        omega, memory, step, key = state
        omega, memory = night(omega, memory, _tonight(settings, jax.random.fold_in(key, step), step))
        return (omega, memory, step + 1, key), None

    nights = jax.jit(jax.vmap(lambda state: jax.lax.scan(one, state, length=CHUNK)[0]))
    look = jax.jit(examined, static_argnums=(1, 2))

    def advance(state):
        state = nights(state)
        first, second = look(state[0], VALIDATION, 100)
        return state, {"first": jnp.mean(first, 1), "second": jnp.mean(second, 1)}

    def test(seeds, state):
        first, second = look(state[0], TEST, 1000)
        return {"error": (first + second) / 2, "first": first, "second": second}

    return Training(jax.vmap(begin), advance, settings.outer_steps // CHUNK, test, lambda state: state[0])


def train_two_scales(settings: Worlds) -> Training:
    """Fast weights that start anew with every wave, and omega, which the rule with a matched control moves: complex synapses."""
    problem, outer = fast.pulled_regression(settings.pull), _outer(settings.clip, settings.outer_rate)
    phase = lambda steps: fast.Adam(settling(settings.rate, steps), steps)
    rule = over_tasks(fast.matched(phase(settings.steps), phase(settings.nudged_steps), settings.beta))

    def night(omega, memory, tasks):
        updates, memory = outer.update(rule(problem, omega, tasks).grad, memory, omega)
        return optax.apply_updates(omega, updates), memory

    return _life(settings, night, problem, settled_adam(settings.rate, settings.steps))


def train_one_scale(settings: Worlds) -> Training:
    """One weight a synapse: it learns what a night replays, all waves together, from where the last night left it."""
    learner = settled_adam(settings.rate, settings.steps)
    pooled = lambda points: jax.tree.map(lambda x: x.reshape(-1, 1), points)

    def night(omega, memory, tasks):
        seen = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), pooled(tasks.support), pooled(tasks.query))
        return learner(lambda phi, task: LOSS(phi, task.support), omega, Task(seen, None)).phi, memory

    return _life(settings, night, PLAIN._replace(init=lambda omega, support: omega), learner)


# ---- The experiments ---------------------------------------------------------------------------------------------------

SCORE = ("error", "mean squared error on the query points")
SEEDS = (0, 1, 2, 3)
NIGHTS = Nights("none", 300, 100, 0.01, 0.001, 0.9, 3.0, 0.1, 200, 10, 0.02, 1.0)
LIFE = Worlds(0, 200, 0.01, 100, 0.1, 0.1, 200, 10, 0.01, 1.0)
SAYS = {
    "none": "nothing is cut",
    "stuck-nudged": "the phase signal always says nudged",
    "stuck-free": "the phase signal always says free",
    "query-missing": "the query is not replayed",
    "query-support": "the support is replayed in the query's place",
    "small-store": "two support points are left when the nudged phase begins",
    "noise": "noise of variance 0.3 on all that is replayed",
    "wrong": "two query points in five are another wave's",
    "weak-trace": "half of what the free phase wrote is left",
    "no-trace": "nothing of what the free phase wrote is left",
    "interrupted": "the nudged phase is broken off after 10 of 100 steps",
    "sign": "a synapse knows the sign of its change alone",
}


def _lesioned(lesion: str) -> Experiment:
    about = f"Sine waves, cortex and store: {SAYS[lesion]}."
    return Experiment(f"hippo-{lesion}", about, NIGHTS._replace(lesion=lesion), train_lesioned, SEEDS, SCORE, None, Cost(3), together=True)


def _lived(name: str, about: str, interleaved: int, build: Callable) -> Experiment:
    about = f"Two worlds of sine waves: {about}."
    return Experiment(f"hippo-{name}", about, LIFE._replace(interleaved=interleaved), build, SEEDS, SCORE, None, Cost(2), together=True)


EXPERIMENTS = (
    *map(_lesioned, LESIONS),
    _lived("two-blocked", "two time scales, one world after the other", 0, train_two_scales),
    _lived("two-interleaved", "two time scales, both worlds every night", 1, train_two_scales),
    _lived("one-blocked", "one time scale, one world after the other", 0, train_one_scale),
    _lived("one-interleaved", "one time scale, both worlds every night", 1, train_one_scale),
)
