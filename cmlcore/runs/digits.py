"""The full digit experiments: one energy network, trained by equilibrium propagation and by its rivals."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from cmlcore.bilevel import Task, free
from cmlcore.data import mnist
from cmlcore.estimators.contrastive import contrastive, symmetric
from cmlcore.estimators.unroll import unrolled
from cmlcore.models.hopfield import contrastive_hebbian, hopfield, init_synapses
from cmlcore.runs.experiment import Training
from cmlcore.theory.equilibrium import relax

IMAGES_AT_ONCE = 1000  # in a test


class Relaxing(NamedTuple):
    """Settings of an energy network and its training: Adam on the mean over a mini-batch, its rate decaying as a cosine.

    hidden: units between pixels and the ten answers. relax_rate, free_steps, nudged_steps: of the rates' relaxation.
    beta: the nudge; rivals without one ignore it.
    """

    hidden: int
    free_steps: int
    nudged_steps: int
    relax_rate: float
    beta: float
    batch: int
    epochs: int
    rate: float


def training(estimator, settings: Relaxing, digits=None, keep: bool = False) -> Training:
    """`estimator` on the network of `settings`, one epoch a chunk.

    digits: a `mnist.Digits`; None loads MNIST. Choices are made on its validation part; the test part is touched by
    `test` alone, which returns 1 for every digit that is right and 0 for every other. keep: whether the receipt
    brings the trained synapses (400 kB).
    """
    digits = mnist.load() if digits is None else digits
    count, pixels = digits.images.shape
    batches = count // settings.batch
    adam = optax.adam(optax.cosine_decay_schedule(settings.rate, settings.epochs * batches))
    problem = hopfield(settings.batch)
    relaxing = relax(settings.relax_rate, settings.free_steps)
    images, labels = jnp.asarray(digits.images), jnp.asarray(mnist.one_hot(digits.labels))

    def start(seed):
        synapses = init_synapses(jax.random.key(2 * seed), (pixels, settings.hidden, 10))
        return synapses, adam.init(synapses), jax.random.key(2 * seed + 1), jnp.asarray(0)

    @jax.jit
    def epoch(state, images, labels):
        synapses, moments, key, number = state
        order = jax.random.permutation(jax.random.fold_in(key, number), count)[: batches * settings.batch]

        def step(carry, rows):
            synapses, moments = carry
            result = estimator(problem, synapses, Task(images[rows], labels[rows]))
            grad = jax.tree.map(lambda g: g / settings.batch, result.grad)
            updates, moments = adam.update(grad, moments)
            return (optax.apply_updates(synapses, updates), moments), result.value / settings.batch

        (synapses, moments), costs = jax.lax.scan(step, (synapses, moments), order.reshape(batches, settings.batch))
        return (synapses, moments, key, number + 1), jnp.mean(costs)

    answers = jax.jit(lambda synapses, x: jnp.argmax(_answers(relaxing, synapses, x), axis=-1))

    def say(synapses, x):
        parts = [x[i : i + IMAGES_AT_ONCE] for i in range(0, len(x), IMAGES_AT_ONCE)]
        return jnp.concatenate([answers(synapses, part) for part in parts])

    def advance(state):
        state, mean_cost = epoch(state, images, labels)
        said = say(state[0], digits.validation_images)
        unsaid = jnp.sum(jnp.bincount(said, length=10) == 0)  # digits that the network never answers
        return state, {"cost": mean_cost, "validation": jnp.mean(said == digits.validation_labels), "unsaid": unsaid}

    return Training(
        start=start,
        advance=advance,
        chunks=settings.epochs,
        test=lambda seed, state: {"accuracy": (say(state[0], digits.test_images) == digits.test_labels).astype(float)},
        keep=lambda state: state[0] if keep else (),
    )


def _answers(relaxing, synapses, x):
    problem = hopfield(len(x))
    return relaxing(free(problem, synapses), problem.init(synapses, x), Task(support=x)).phi[-1]


def _phases(settings: Relaxing):
    return relax(settings.relax_rate, settings.free_steps), relax(settings.relax_rate, settings.nudged_steps)


def train_symmetric(settings: Relaxing) -> Training:
    """Equilibrium propagation, nudged to either side."""
    return training(symmetric(*_phases(settings), settings.beta), settings, keep=True)


def train_one_sided(settings: Relaxing) -> Training:
    """Equilibrium propagation as first published: free, then nudged."""
    return training(contrastive(*_phases(settings), settings.beta), settings)


def train_hebbian(settings: Relaxing) -> Training:
    """Contrastive Hebbian learning: free, then clamped to the answer."""
    return training(contrastive_hebbian(*_phases(settings)), settings)


def train_backprop(settings: Relaxing) -> Training:
    """Backpropagation through all steps of the free phase."""
    return training(unrolled(_phases(settings)[0]), settings)
