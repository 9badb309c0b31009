"""The full experiments with a fast read-out on slow features: one training for all tests, of 5 and 20 ways, 1 and 5 shots.

A task costs one forward and one backward pass of the network, whatever estimates the meta-gradient, so that every row has the same tasks and the same
operations. The network is that of the literature, four blocks of 64 filters with max-pooling.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from cmlcore.bilevel import free
from cmlcore.estimate import Estimate
from cmlcore.estimators.contrastive import contrastive, matched, symmetric
from cmlcore.estimators.implicit import cg, implicit
from cmlcore.estimators.through import through
from cmlcore.estimators.unroll import unrolled
from cmlcore.models import readout
from cmlcore.models.conv4 import from_support, transductive
from cmlcore.runs import character_table
from cmlcore.runs.experiment import Training
from cmlcore.runs.few_shot import Exam, meta_training
from cmlcore.runs.sources import SOURCES, distorting, exams
from cmlcore.solve import Repeated, optimizer


class Features(NamedTuple):
    """Settings of one row; a method ignores what it has no use for.

    ways, shots, queries: of a training episode; a test has 15 queries of each character.
    free_steps, rate, momentum: inner learning, by Nesterov's momentum; the loss is a sum, so the rate is divided by the shots.
    nudged_steps, beta:  of the contrastive rules. products: of conjugate gradients.
    pull, gain:          the strength and the gain that learning starts from; both are learned.
    outer_steps, tasks, outer_rate: Adam on the mean over so many tasks; the rate decays as a cosine, gradients are clipped at 10.
    average_after:       the outer steps after which Polyak's average begins.
    distortion:          of every drawing while training, see `cmlcore.data.distortion`.
    mirrored:            whether mirror images of characters are characters of their own while training; turned ones always are.
    whole:               whether the validation characters are trained on too, once all choices are made.
    source:              a key of `cmlcore.runs.sources.SOURCES`.
    size, filters, split, chunk, validation_episodes, test_episodes: as in `cmlcore.runs.characters`.
    """

    ways: int = 60
    shots: int = 1
    queries: int = 3
    free_steps: int = 25
    rate: float = 1.0
    momentum: float = 0.8
    nudged_steps: int = 15
    beta: float = 0.1
    products: int = 25
    pull: float = 0.03
    gain: float = 3.0
    outer_steps: int = 5000
    tasks: int = 1
    outer_rate: float = 0.003
    average_after: int = 4000
    distortion: float = 0.7
    mirrored: bool = False
    whole: bool = False
    source: str = "omniglot"
    size: int = 28
    filters: int = 64
    split: str = "background"
    chunk: int = 100
    validation_episodes: int = 100
    test_episodes: int = 600


NORMALIZATIONS = {"": transductive, "-support": from_support}  # what is added to the name of a score


def descent(settings: Features, steps: int, shots: int | None = None) -> Repeated:
    """Inner learning of the read-out from so many `shots`."""
    return optimizer(optax.sgd(settings.rate / (shots or settings.shots), settings.momentum, nesterov=True), steps)


def seeing(settings: Features, normalize=transductive, **how) -> Callable:
    """`cmlcore.models.readout.seeing` of the settings' images."""
    return readout.seeing(normalize, SOURCES[settings.source].prepare, **how)


def sittings(settings: Features, judged: Callable, represent: Callable) -> list[Exam]:
    """Exams of all kinds; `judged(seen, task, ways, shots) -> scalar`, of what `represent(settings, normalize)` makes of an episode."""

    def score(name, ways, shots):
        def one(theta, task):
            return {f"{name}{kind}": judged(represent(settings, normalize)(theta, task), task, ways, shots) for kind, normalize in NORMALIZATIONS.items()}

        return one

    return [Exam(*exam, score(name, *exam)) for name, exam in exams(SOURCES[settings.source]).items()]


def by_readout(settings: Features) -> list[Exam]:
    """Exams that a read-out is learned for."""

    def judged(seen, task, ways, shots):
        problem = readout.fast_readout(ways)
        learned = descent(settings, settings.free_steps, shots)(free(problem, seen), problem.init(seen, task.support), task)
        return readout.right(learned.phi, seen, task.query)

    return sittings(settings, judged, seeing)


def start(settings: Features, seed: int) -> readout.Slow:
    """The random network that a seed starts from; the same for all methods."""
    init = jax.jit(readout.init_slow, static_argnums=(1, 2, 3))
    return init(jax.random.key(2 * seed), settings.filters, settings.size, SOURCES[settings.source].colors, pull=settings.pull, gain=settings.gain)


def training(settings: Features, estimator, represent=None, papers=None) -> Training:
    """Meta-training of the slow network by an `estimator` of the meta-gradient in what it makes of the images."""
    schedule = optax.cosine_decay_schedule(settings.outer_rate, settings.outer_steps or 1)
    return meta_training(
        settings,
        partial(SOURCES[settings.source].images, settings),
        partial(start, settings),
        readout.fast_readout(settings.ways),
        through(represent or seeing(settings), estimator),
        papers or by_readout(settings),
        optax.chain(optax.clip_by_global_norm(10.0), optax.adam(schedule)),
        settings.average_after,
        partial(distorting, settings),
    )


# --- The methods ------------------------------------------------------------------------------------------------------


def _contrastive(rule, settings: Features) -> Training:
    return training(settings, rule(descent(settings, settings.free_steps), descent(settings, settings.nudged_steps), settings.beta))


def train_symmetric(settings: Features) -> Training:
    """The contrastive rule nudged to either side."""
    return _contrastive(symmetric, settings)


def train_matched(settings: Features) -> Training:
    """The contrastive rule with the matched control as its reference."""
    return _contrastive(matched, settings)


def train_one_sided(settings: Features) -> Training:
    """The contrastive rule, the end of the free phase as its reference."""
    return _contrastive(contrastive, settings)


def train_unrolled(settings: Features) -> Training:
    """Backpropagation through learning of the read-out: ANIL (Raghu et al. 2020) that starts at zero and is pulled there."""
    return training(settings, unrolled(descent(settings, settings.free_steps)))


def train_implicit(settings: Features) -> Training:
    """Implicit differentiation of the read-out's minimum by conjugate gradients: iMAML on the read-out."""
    return training(settings, implicit(descent(settings, settings.free_steps), cg(settings.products)))


def _direct(learner):
    """An estimator that keeps the direct term alone: what the outer loss would have of other features, the read-out held fixed."""

    def estimate(problem, theta, task, key=None):
        phi = learner(free(problem, theta), problem.init(theta, task.support), task).phi
        value, grad = jax.value_and_grad(lambda theta: problem.outer(phi, theta, task.query))(theta)
        return Estimate(grad, value, phi, {})

    return estimate


def train_direct(settings: Features) -> Training:
    """First order: the derivative of the outer loss with the learned read-out held fixed, all that learning does dropped."""
    return training(settings, _direct(descent(settings, settings.free_steps)))


def train_scratch(settings: Features) -> Training:
    """No meta-learning: a read-out is learned on random features."""
    return training(settings, unrolled(descent(settings, settings.free_steps)))._replace(chunks=0, keep=lambda state: ())


def train_prototypes(settings: Features) -> Training:
    """The prototypical network (Snell et al. 2017): a query belongs to the nearest mean of features; nothing is learned in a task."""
    unscaled = partial(seeing, scaled=lambda z: z)

    def logits(seen, task, ways):
        means = jnp.zeros((ways, seen.support.shape[1])).at[task.support.labels].add(seen.support) * (ways / len(seen.support))
        return -jnp.sum((seen.query[:, None] - means) ** 2, axis=-1)

    def estimate(problem, seen, task, key=None):
        loss = lambda seen: jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits(seen, task, settings.ways), task.query.labels))
        value, grad = jax.value_and_grad(loss)(seen)
        return Estimate(grad, value, (), {})

    judged = lambda seen, task, ways, shots: jnp.mean(jnp.argmax(logits(seen, task, ways), axis=-1) == task.query.labels)
    return training(settings, estimate, unscaled(settings), sittings(settings, judged, unscaled))


def operations(settings: Features) -> float:
    """Operations of a training, a number: one forward and one backward pass of the network a task."""
    return character_table.operations(settings, settings.ways * (settings.shots + settings.queries), SOURCES[settings.source].colors)
