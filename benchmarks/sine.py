"""The sine wave's meta-step: 25 tasks, 1-40-40-1, 10 + 10 points, 500 free and 250 nudged steps of Adam, and their contrast."""

from functools import partial

import jax
import numpy as np
import optax

from benchmarks import pytorch
from benchmarks.clock import Case, compiled
from cmlcore import trees
from cmlcore.data.sine import WIDTHS, sine_task
from cmlcore.estimators import contrastive
from cmlcore.estimators.unroll import unrolled
from cmlcore.meta import over_tasks
from cmlcore.models.mlp import init_mlp
from cmlcore.solve import optimizer
from cmlcore.speed import fast, kernel
from cmlcore.speed.devices import over_devices

TASKS, POINTS, FREE, NUDGED, RATE, BETA, PULL = 25, 10, 500, 250, 0.01, 0.1, 0.1
PARAMETERS = sum(m * n + n for m, n in zip(WIDTHS, WIDTHS[1:]))
UNROLLED = 20
PROBLEM = fast.pulled_regression(PULL)
ON_GPU = jax.default_backend() == "gpu"


def data():
    """Omega, and the tasks along a leading axis."""
    tasks = jax.vmap(partial(sine_task, shots=POINTS, queries=POINTS))(jax.random.split(jax.random.key(1), TASKS))
    return init_mlp(jax.random.key(0), WIDTHS), tasks


def by_hand(rule, free: int = FREE, nudged: int = NUDGED):
    """The rule with its backward pass written out (`cmlcore.speed.fast`)."""
    return rule(fast.Adam(RATE, free), fast.Adam(RATE, nudged), BETA)


def plain(rule, free: int = FREE, nudged: int = NUDGED):
    """The rule at the library's defaults: `vmap`, `scan`, autodiff and `optax.adam`."""
    learner = lambda steps: optimizer(optax.adam(RATE), steps)
    return rule(learner(free), learner(nudged), BETA)


def meta(over, estimator):
    return lambda theta, tasks: over(estimator)(PROBLEM, theta, tasks).grad


def one_kernel(theta, tasks):
    """Both phases in one launch, and the contrast of their ends."""
    first, second = kernel.two_phases(theta, tasks, fast.Adam(RATE, FREE), fast.Adam(RATE, NUDGED), PULL, BETA)
    return trees.mean(trees.scale(-2 * PULL / BETA, trees.sub(second, first)))


def cases() -> dict[str, Case]:
    """Every way to take the meta-step, by name; compiled at its first run."""
    args = data()

    case = lambda fn: compiled(fn, args)
    count = len(jax.devices())
    many = {f", tasks over {count} devices": over_devices} if 1 < count <= TASKS else {}
    found = {}
    for prefix, quick, slow in (("", fast.contrastive, contrastive.contrastive), ("matched: ", fast.matched, contrastive.matched)):
        for suffix, over in ({", one device": over_tasks} | many).items():
            found[f"{prefix}cmlcore, by hand{suffix}"] = case(meta(over, by_hand(quick)))
            found[f"{prefix}plain vmap + scan + optax.adam{suffix}"] = case(meta(over, plain(slow)))
    if ON_GPU:
        found["cmlcore, one kernel for both phases"] = case(one_kernel)
    found[f"the unroll: in reverse through {UNROLLED} steps"] = case(meta(over_tasks, unrolled(optimizer(optax.adam(RATE), UNROLLED))))
    return found


def row_operations(width: int = WIDTHS[1]) -> int:
    """Operations of the products for one example, forward and backward: three of width x width, five of width; a tanh counts one."""
    return 2 * (3 * width**2 + 5 * width) + 2 * width


def adam_operations() -> int:
    """Operations a parameter and a step: 4 for the pull, 3 and 4 for the moments, 5 for the update (a root or a quotient counts one)."""
    return 16


def operations(free: int, nudged: int) -> int:
    """Of one task's two phases: the free one sees the support points, the nudged one the query points too."""
    return (free * POINTS + nudged * 2 * POINTS) * row_operations() + (free + nudged) * PARAMETERS * adam_operations()


def floor() -> dict:
    """What a meta-step cannot do without: operations of all steps, and bytes that must move if a task's state never leaves the chip."""
    return {
        "operations": TASKS * operations(FREE, NUDGED),
        "bytes": 4 * (TASKS * (4 * POINTS + PARAMETERS) + 2 * PARAMETERS),
        "sentence": f"the sine meta-step: {TASKS} tasks, {'-'.join(map(str, WIDTHS))}, {POINTS} + {POINTS} points, {FREE} free and {NUDGED} nudged steps "
        "of Adam. Bytes: the points, omega and the learned weights once; a task's weights and moments fit next to the arithmetic.",
    }


def arrays() -> dict[str, np.ndarray]:
    """What the PyTorch version starts from, and what a short run of it should arrive at: `free` and `nudged` steps."""
    theta, tasks = data()
    short = {"free": 12, "nudged": 8}
    after = jax.jit(meta(over_tasks, plain(contrastive.contrastive, **short)))(theta, tasks)
    points = {"sx": tasks.support.x, "sy": tasks.support.y, "qx": tasks.query.x, "qy": tasks.query.y}
    counts = {name: np.asarray(count) for name, count in short.items()}
    return pytorch.named(theta, "params.") | {n: np.asarray(p) for n, p in points.items()} | pytorch.named(after, "expected.") | counts
