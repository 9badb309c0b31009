"""The full experiments on characters: every method on one network, the same episodes, one test.

Methods differ in their estimator and inner problem alone. The published pull is 1/2 wd |phi - omega|^2; here it is summed without the 1/2,
so `pull = wd / 2`, and iMAML's lambda / 2 is `pull` as well.
"""

from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cmlcore.bilevel import Problem, Task
from cmlcore.data import omniglot
from cmlcore.data.episodes import episode
from cmlcore.estimators.carried import carried, carrying
from cmlcore.estimators.contrastive import contrastive, matched, symmetric
from cmlcore.estimators.first_order import first_order, reptile
from cmlcore.estimators.implicit import cg, damped, implicit
from cmlcore.estimators.unroll import unrolled
from cmlcore.models.conv4 import accuracy, conv4, cross_entropy, from_support, init_conv4, transductive, unnormalized
from cmlcore.models.synapse import fixed_pull
from cmlcore.runs import few_shot
from cmlcore.runs.experiment import Training
from cmlcore.runs.few_shot import TEST, TEST_QUERIES
from cmlcore.solve import Repeated, newton, optimizer

NORMALIZATIONS = {"transductive": transductive, "from_support": from_support, "unnormalized": unnormalized}
SPLITS = {"background": omniglot.background_evaluation, "vinyals": omniglot.vinyals}


class Characters(NamedTuple):
    """Settings of one row; a method ignores what it has no use for.

    ways, shots:    characters in an episode, drawings of each to learn from.
    queries:        drawings of each to be judged on while training; a test has 15.
    size, filters:  pixels to a side, 28 as published or 16; width of the network.
    normalization:  a key of NORMALIZATIONS; split: a key of SPLITS.
    free_steps, rate, momentum: inner learning by SGD, Nesterov's momentum if it is not 0.
    test_steps:     free steps in a test.
    pull:           lambda; nudged_steps, beta: of the contrastive rules.
    products, damping: of conjugate gradients, in iMAML.
    outer_steps, tasks, outer_rate: Adam on the mean over so many tasks; the rate is halved every `halve_every` steps.
    average_after:  the outer steps after which Polyak's average begins.
    chunk:          outer steps between two checkpoints; each ends with `validation_episodes`, the run with `test_episodes`.
    """

    ways: int
    shots: int
    free_steps: int
    rate: float
    momentum: float = 0.0
    test_steps: int = 0
    pull: float = 0.0
    nudged_steps: int = 0
    beta: float = 0.0
    products: int = 0
    damping: float = 0.0
    outer_steps: int = 0
    tasks: int = 16
    outer_rate: float = 0.001
    halve_every: int = 1_000_000
    average_after: int = 0
    queries: int = 15
    size: int = 28
    filters: int = 64
    normalization: str = "transductive"
    split: str = "background"
    chunk: int = 50
    validation_episodes: int = 100
    test_episodes: int = 600


# --- Data, network, learners ------------------------------------------------------------------------------------------


def shrunk(images: np.ndarray) -> np.ndarray:
    """28 x 28 to 16 x 16 pixels, `(..., 28, 28)` uint8: the mean of each 2 x 2, and one pixel of paper around."""
    mean = images.reshape(*images.shape[:-2], 14, 2, 14, 2).mean((-3, -1)).round().astype(np.uint8)
    return np.pad(mean, [(0, 0)] * (images.ndim - 2) + [(1, 1), (1, 1)])


@cache
def drawings(split: str, size: int) -> omniglot.Split:
    """Training characters and their turned copies, validation and test characters, on the device: (characters, 20, size, size) uint8.

    Raises ValueError for a size that is neither 28 nor 16.
    """
    if size not in (28, 16):
        raise ValueError(f"size is {size}; characters come in 28 x 28 pixels, or shrunk to 16 x 16.")
    data = omniglot.load()
    train, validation, test = (data.images[mask] for mask in SPLITS[split](data))
    prepare = shrunk if size == 16 else lambda images: images
    return omniglot.Split(*(jnp.asarray(prepare(images)) for images in (omniglot.rotated(train), validation, test)))


def network(settings: Characters):
    """`(phi, examples) -> logits (examples, ways)` with the settings' normalization."""
    normalize = NORMALIZATIONS[settings.normalization]
    return lambda phi, examples: conv4(phi, examples.images, examples.support, normalize)


def synapses(settings: Characters) -> Problem:
    """Fast weights that start at omega and are pulled to it; with `pull = 0`, a learned initialization."""
    return fixed_pull(cross_entropy(network(settings)), settings.pull)


def descent(settings, steps: int) -> Repeated:
    """Inner learning: gradient descent, with Nesterov's momentum if the settings, of this kind or another, have one."""
    return optimizer(optax.sgd(settings.rate, settings.momentum or None, nesterov=True), steps)


def hessian_free(settings, steps: int) -> Repeated:
    """Inner learning by Newton steps that see the damped curvature through conjugate gradients."""
    return newton(damped(cg(settings.products), settings.damping), steps)


def imaml(learner, settings):
    """Implicit MAML's estimator after inner learning by `learner`, `descent` or `hessian_free`; the linear system by conjugate gradients."""
    return implicit(learner(settings, settings.free_steps), damped(cg(settings.products), settings.damping))


def all_to_learn(key, task: Task) -> Task:
    """The episode as Reptile has it: its queries are learned from, too."""
    pool = jax.tree.map(lambda *parts: jnp.concatenate(parts), *task)
    return Task(pool._replace(support=pool.images), task.query)


def part_of_the_way(settings) -> optax.GradientTransformation:
    """Reptile's outer optimizer: plain steps, whose rate falls linearly to zero."""
    return optax.sgd(optax.linear_schedule(settings.outer_rate, 0.0, settings.outer_steps))


# --- The outer loop and the test that all rows share ------------------------------------------------------------------


def right(settings: Characters):
    """`(phi, theta, query) ->` the share of queries that are named right, a scalar."""
    score = accuracy(network(settings))
    return lambda phi, theta, query: score(phi, query)


def omega(settings: Characters, seed: int) -> dict:
    """The random parameters that a seed starts from, a tree; the same for all methods."""
    init = jax.jit(init_conv4, static_argnums=(1, 2, 3))
    return init(jax.random.key(2 * seed), settings.ways, settings.filters, settings.size)


def exam(settings: Characters, learner) -> few_shot.Exam:
    """The share of queries that are named right by what `learner` makes of omega."""
    return few_shot.Exam(settings.ways, settings.shots, few_shot.learned(synapses(settings), learner, {"accuracy": right(settings)}))


def meta_training(settings: Characters, estimator, learner, outer=None, arrange=lambda key, task: task) -> Training:
    """`few_shot.meta_training` on characters; outer: the outer optimizer, Adam if None."""
    outer = outer or optax.adam(optax.exponential_decay(settings.outer_rate, settings.halve_every, 0.5, staircase=True))
    return few_shot.meta_training(
        settings, partial(drawings, settings.split, settings.size), partial(omega, settings), synapses(settings), estimator,
        [exam(settings, learner)], outer, settings.average_after, arrange,
    )  # fmt: skip


# --- The methods ------------------------------------------------------------------------------------------------------


def _contrastive(rule, settings: Characters) -> Training:
    free, nudged = descent(settings, settings.free_steps), descent(settings, settings.nudged_steps)
    return meta_training(settings, rule(free, nudged, settings.beta), descent(settings, settings.test_steps))


def train_one_sided(settings: Characters) -> Training:
    """The contrastive rule, the end of the free phase as its reference."""
    return _contrastive(contrastive, settings)


def train_symmetric(settings: Characters) -> Training:
    """The contrastive rule nudged to either side, fresh momentum in every phase: as published."""
    return _contrastive(symmetric, settings)


def train_symmetric_carried(settings: Characters) -> Training:
    """The same, both nudged phases starting with the momentum that the free phase ended with."""
    free, nudged = descent(settings, settings.free_steps), descent(settings, settings.nudged_steps)
    rule = symmetric(carried(free), carried(nudged), settings.beta)
    return meta_training(settings, lambda problem, *given: rule(carrying(problem, free), *given), descent(settings, settings.test_steps))


def train_matched(settings: Characters) -> Training:
    """The contrastive rule with the matched control as its reference."""
    return _contrastive(matched, settings)


def train_maml(settings: Characters) -> Training:
    """MAML: backpropagation through the inner steps, the initialization learned."""
    return meta_training(settings, unrolled(descent(settings, settings.free_steps)), descent(settings, settings.test_steps))


def train_first_order(settings: Characters) -> Training:
    """MAML without second derivatives."""
    return meta_training(settings, first_order(descent(settings, settings.free_steps)), descent(settings, settings.test_steps))


def train_reptile(settings: Characters) -> Training:
    """Reptile, on all drawings of an episode; outer plain steps whose rate, a fraction of the way, falls linearly to zero."""

    learner = descent(settings, settings.test_steps)
    return meta_training(settings, reptile(descent(settings, settings.free_steps)), learner, part_of_the_way(settings), all_to_learn)


def _imaml(learner, settings: Characters) -> Training:
    return meta_training(settings, imaml(learner, settings), learner(settings, settings.test_steps))


def train_imaml_gd(settings: Characters) -> Training:
    """Implicit MAML, inner learning by gradient descent, the linear system by conjugate gradients."""
    return _imaml(descent, settings)


def train_imaml_hf(settings: Characters) -> Training:
    """Implicit MAML, inner learning by Hessian-free Newton steps, the linear system by conjugate gradients."""
    return _imaml(hessian_free, settings)


def train_scratch(settings: Characters) -> Training:
    """No meta-learning: each test episode is learned from the seed's random parameters."""
    images = drawings(settings.split, settings.size)
    paper = few_shot.examination(exam(settings, descent(settings, settings.test_steps)))
    return Training(
        start=lambda seed: omega(settings, seed),
        advance=lambda state: (state, {}),
        chunks=0,
        test=lambda seed, state: paper(state, images.test, TEST, settings.test_episodes),
        keep=lambda state: (),
    )


def nearest_drawing(task: Task) -> jax.Array:
    """The share of queries whose nearest support drawing, pixel by pixel, is of the right character, a scalar."""
    gap = jnp.sum((task.query.images[:, None] - task.support.images[None]) ** 2, axis=(2, 3))
    return jnp.mean(task.support.labels[jnp.argmin(gap, axis=1)] == task.query.labels)


def train_pixels(settings: Characters) -> Training:
    """No learning at all: the floor that every learner should clear."""
    images = drawings(settings.split, settings.size)
    one = lambda key, images: nearest_drawing(episode(key, images, settings.ways, settings.shots, TEST_QUERIES))
    exam = jax.jit(lambda images, keys: jax.lax.map(lambda key: one(key, images), keys))
    keys = jax.random.split(jax.random.key(TEST), settings.test_episodes)
    return Training(
        start=lambda seed: (),
        advance=lambda state: (state, {}),
        chunks=0,
        test=lambda seed, state: {"accuracy": exam(images.test, keys)},
        keep=lambda state: (),
    )
