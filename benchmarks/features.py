"""The step of a fast read-out on slow features: one forward and one backward pass of conv4 a task, learning of the read-out in between.

Two tasks, so that both cores of the machine are busy: 60 ways, 1 shot, 3 queries, 28 x 28 pixels, nudged to either side.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from benchmarks import pytorch
from benchmarks.clock import Case, compiled
from cmlcore.bilevel import Task
from cmlcore.data.episodes import Examples
from cmlcore.estimators.contrastive import symmetric
from cmlcore.estimators.through import through
from cmlcore.meta import in_turn
from cmlcore.models import convolution, readout
from cmlcore.models.conv4 import features, transductive
from cmlcore.runs.character_table import operations
from cmlcore.runs.slow_features import Features, descent
from cmlcore.speed import devices

SETTINGS = Features()
WAYS, QUERIES, SIZE, FILTERS = SETTINGS.ways, SETTINGS.queries, SETTINGS.size, SETTINGS.filters


def data(tasks: int = 2):
    """theta, and tasks along a leading axis."""
    draw = np.random.default_rng(0)
    images = lambda count: jnp.asarray(draw.uniform(size=(tasks, count, SIZE, SIZE)), jnp.float32)
    labels = lambda each: jnp.broadcast_to(jnp.repeat(jnp.arange(WAYS), each), (tasks, WAYS * each))
    support, query = images(WAYS), images(WAYS * QUERIES)
    return readout.init_slow(jax.random.key(0)), Task(Examples(support, labels(1), support), Examples(query, labels(QUERIES), support))


def plainly(theta, task):
    """`readout.seeing()` with XLA's convolution in every block, and nothing folded."""
    x = jnp.concatenate([task.support.images, task.query.images])
    z = readout.of_length_one(features(theta.blocks, x, x, transductive, convolution.in_turn))
    return readout.Seen(z[:WAYS], z[WAYS:], theta.log_pull, theta.log_gain)


def step(represent, over=in_turn):
    rule = symmetric(descent(SETTINGS, SETTINGS.free_steps), descent(SETTINGS, SETTINGS.nudged_steps), SETTINGS.beta)
    estimator = over(through(represent, rule))
    return lambda theta, tasks: estimator(readout.fast_readout(WAYS), theta, tasks).grad


def cases() -> dict[str, Case]:
    """Every way to take the step, by name; compiled at its first run."""
    theta, tasks = data()
    found = {}
    if len(jax.devices()) > 1:
        shares = jax.device_put(tasks, NamedSharding(devices.task_mesh(), PartitionSpec(devices.AXIS)))
        everywhere = devices.replicated(theta, devices.task_mesh())
        found[f"cmlcore, tasks over {len(jax.devices())} devices"] = compiled(step(readout.seeing(), devices.over_devices), (everywhere, shares))
        found["XLA's convolutions, nothing folded, the same"] = compiled(step(plainly, devices.over_devices), (everywhere, shares))
    found["cmlcore, one task after the other"] = compiled(step(readout.seeing()), (theta, tasks))
    return found


def floor() -> dict:
    """What the step cannot do without: operations of the network's products as they are usually counted, nine taps for every pixel, and of the read-out's."""
    count, _ = data()[1].query.labels.shape
    images = WAYS * (1 + QUERIES)
    first = 2 * images * SIZE**2 * 9 * FILTERS  # of the drawings no gradient is asked
    network = operations(SETTINGS._replace(tasks=count, outer_steps=1), images) - count * first
    looked = SETTINGS.free_steps * WAYS + 2 * SETTINGS.nudged_steps * images
    return {
        "operations": network + count * 4 * looked * FILTERS * WAYS,
        "bytes": 4 * count * images * SIZE**2,
        "sentence": f"A fast read-out on slow features: {count} tasks of {WAYS} ways, 1 shot, {QUERIES} queries, {SIZE} x {SIZE} pixels, {FILTERS} filters; one forward and one "
        f"backward pass, {SETTINGS.free_steps} free and twice {SETTINGS.nudged_steps} nudged steps of the read-out. Operations as a plain convolution has them.",
    }


def arrays() -> dict[str, np.ndarray]:
    """What the PyTorch version starts from, and the gradient that it should find."""
    theta, tasks = data()
    found = jax.jit(step(readout.seeing()))(theta, tasks)
    return (
        pytorch.named(theta._asdict(), "params.")
        | {"support": np.asarray(tasks.support.images), "query": np.asarray(tasks.query.images), "of_query": np.asarray(tasks.query.labels)}
        | {"numbers": np.array([SETTINGS.rate, SETTINGS.momentum, SETTINGS.free_steps, SETTINGS.nudged_steps, SETTINGS.beta])}
        | pytorch.named(found._asdict(), "expected.")
    )
