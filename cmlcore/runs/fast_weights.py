"""The full experiments with all weights fast, or gains and shifts, or mixes of templates: complex synapses and their rivals.

The network, its distorted images, the tests and the operations are those of `cmlcore.runs.slow_features`; a task costs more of them here, by how much
depends on the method, and so does how many tasks it gets. The read-out of 20 classes that is learned is cut to the first 5 where there are five.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from cmlcore.estimators.contrastive import contrastive, matched, symmetric
from cmlcore.estimators.first_order import first_order, reptile
from cmlcore.estimators.unroll import unrolled
from cmlcore.models.conv4 import accuracy, cross_entropy, transductive
from cmlcore.models.modulated import Slow, dual
from cmlcore.models.modulated_images import Network, channels, everything, network_logits, templates
from cmlcore.models.synapse import Synapses, learned_pull
from cmlcore.runs import character_table, characters, parameters, slow_features
from cmlcore.runs.characters import all_to_learn, descent, hessian_free, imaml, part_of_the_way
from cmlcore.runs.experiment import Training
from cmlcore.runs.few_shot import Exam, learned, meta_training
from cmlcore.runs.slow_features import NORMALIZATIONS
from cmlcore.runs.sources import SOURCES, distorting, exams


class Weights(NamedTuple):
    """Settings of one row; a method ignores what it has no use for.

    ways, shots, queries: of a training episode.
    free_steps, rate, momentum: inner learning, by Nesterov's momentum if it is not 0. test_steps: free steps in a test.
    pull:                lambda, fixed; or where learning it begins, if it is learned.
    nudged_steps, beta:  of the contrastive rules. products, damping: of conjugate gradients.
    outer_steps, tasks, outer_rate: Adam on the mean over so many tasks; the rate decays as a cosine, gradients are clipped at 10.
    form:                what is fast, a key of FORMS: all weights, gains and shifts of the channels, or mixes of templates; the read-out always.
    source:              a key of `cmlcore.runs.sources.SOURCES`.
    begin:               the experiment on slow features whose blocks learning starts from; empty: random weights.
    average_after, distortion, mirrored, whole, size, filters, split, chunk, validation_episodes, test_episodes: as in `Features`.
    """

    ways: int = 20
    shots: int = 1
    queries: int = 3
    free_steps: int = 5
    rate: float = 0.3
    momentum: float = 0.0
    test_steps: int = 10
    pull: float = 0.0
    nudged_steps: int = 3
    beta: float = 0.2
    products: int = 0
    damping: float = 0.0
    outer_steps: int = 1000
    tasks: int = 1
    outer_rate: float = 0.003
    form: str = "everything"
    source: str = "omniglot"
    begin: str = ""
    average_after: int = 800
    distortion: float = 0.7
    mirrored: bool = False
    whole: bool = False
    size: int = 28
    filters: int = 64
    split: str = "background"
    chunk: int = 100
    validation_episodes: int = 100
    test_episodes: int = 600


FORMS = {"everything": everything, "channels": channels, "templates": templates}


def network(settings: Weights) -> Network:
    """What is fast and what is slow: a `Network` of the settings' form."""
    return FORMS[settings.form](settings.ways, settings.filters, settings.size, SOURCES[settings.source].colors)


def start(settings: Weights, seed: int) -> Slow:
    """The slow parameters that a seed starts from: random ones, or with consolidated blocks; the read-out says nothing yet."""
    theta = jax.jit(network(settings).init)(jax.random.key(2 * seed))
    silent = {name: jnp.zeros_like(theta.start[name]) for name in ("w", "b")}
    if settings.begin:
        silent["blocks"] = parameters.read(settings.begin, slow_features.start(slow_features.Features(), seed)).blocks
    return theta._replace(start=theta.start | silent)


def fewer(start: dict, ways: int) -> dict:
    """Where fast parameters start, with a read-out for the first `ways` classes only."""
    return start | {"w": start["w"][:, :ways], "b": start["b"][:ways]}


def sittings(settings: Weights, problem, learner, cut: Callable) -> list[Exam]:
    """Exams of all kinds; `cut(theta, ways)` has fewer read-outs. The support is its own batch: both normalizations judge the same phi."""
    source = SOURCES[settings.source]

    def judge(normalize):
        right = accuracy(network_logits(network(settings), normalize, source.prepare))
        return lambda phi, theta, query: right((phi, theta.body), query) if isinstance(theta, Slow) else right((phi, ()), query)

    def exam(name, ways, shots):
        score = learned(problem, learner, {f"{name}{kind}": judge(normalize) for kind, normalize in NORMALIZATIONS.items()})
        return Exam(ways, shots, lambda theta, task: score(cut(theta, ways), task))

    return [exam(name, *each) for name, each in exams(source).items()]


def loss(settings: Weights) -> Callable:
    """`((phi, body), examples) -> ` the mean cross-entropy, a scalar."""
    return cross_entropy(network_logits(network(settings), transductive, SOURCES[settings.source].prepare))


def training(settings: Weights, estimator, learner, problem=None, theta=None, cut=None, outer=None, arrange=None) -> Training:
    """Meta-training of the network's form with one fixed pull, or of another `problem` that starts at `theta(seed)` and is `cut` for fewer ways."""
    problem = problem or dual(loss(settings), settings.pull)
    cut = cut or (lambda theta, ways: theta._replace(start=fewer(theta.start, ways)))
    schedule = optax.cosine_decay_schedule(settings.outer_rate, settings.outer_steps or 1)
    distort = partial(distorting, settings)
    return meta_training(
        settings,
        partial(SOURCES[settings.source].images, settings),
        theta or partial(start, settings),
        problem,
        estimator,
        sittings(settings, problem, learner, cut),
        outer or optax.chain(optax.clip_by_global_norm(10.0), optax.adam(schedule)),
        settings.average_after,
        (lambda key, task: arrange(key, distort(key, task))) if arrange else distort,
    )


# --- The methods ------------------------------------------------------------------------------------------------------


def _rule(rule, settings: Weights):
    return rule(descent(settings, settings.free_steps), descent(settings, settings.nudged_steps), settings.beta)


def train_symmetric(settings: Weights) -> Training:
    """The contrastive rule nudged to either side."""
    return training(settings, _rule(symmetric, settings), descent(settings, settings.test_steps))


def train_matched(settings: Weights) -> Training:
    """The contrastive rule with the matched control as its reference."""
    return training(settings, _rule(matched, settings), descent(settings, settings.test_steps))


def train_one_sided(settings: Weights) -> Training:
    """The contrastive rule, the end of the free phase as its reference."""
    return training(settings, _rule(contrastive, settings), descent(settings, settings.test_steps))


def train_layers(settings: Weights) -> Training:
    """The matched rule, which learns one pull for each layer's kernels, biases, scales and shifts, too."""

    def begin(seed):
        omega = start(settings, seed).start
        return Synapses(omega, jax.tree.map(lambda w: jnp.full((), jnp.log(settings.pull), w.dtype), omega))

    problem = learned_pull(lambda phi, examples: loss(settings)((phi, ()), examples))
    cut = lambda theta, ways: theta._replace(omega=fewer(theta.omega, ways))
    return training(settings, _rule(matched, settings), descent(settings, settings.test_steps), problem, begin, cut)


def train_maml(settings: Weights) -> Training:
    """MAML: backpropagation through the inner steps, the initialization learned."""
    return training(settings, unrolled(descent(settings, settings.free_steps)), descent(settings, settings.test_steps))


def train_first_order(settings: Weights) -> Training:
    """MAML without second derivatives."""
    return training(settings, first_order(descent(settings, settings.free_steps)), descent(settings, settings.test_steps))


def train_reptile(settings: Weights) -> Training:
    """Reptile, on all drawings of an episode; outer plain steps whose rate, a fraction of the way, falls linearly to zero."""

    rule = reptile(descent(settings, settings.free_steps))
    return training(settings, rule, descent(settings, settings.test_steps), outer=part_of_the_way(settings), arrange=all_to_learn)


def _imaml(learner, settings: Weights) -> Training:
    return training(settings, imaml(learner, settings), learner(settings, settings.test_steps))


def train_imaml_gd(settings: Weights) -> Training:
    """Implicit MAML, inner learning by gradient descent, the linear system by conjugate gradients."""
    return _imaml(descent, settings)


def train_imaml_hf(settings: Weights) -> Training:
    """Implicit MAML, inner learning by Hessian-free Newton steps, the linear system by conjugate gradients."""
    return _imaml(hessian_free, settings)


def train_scratch(settings: Weights) -> Training:
    """No meta-learning: each test episode is learned from the seed's random parameters."""
    return train_maml(settings)._replace(chunks=0, keep=lambda state: ())


# Passes of one image that a task takes, by method: those of the same method there.
PASSES = {
    train_symmetric: character_table.PASSES[characters.train_symmetric],
    train_matched: character_table.PASSES[characters.train_matched],
    train_layers: character_table.PASSES[characters.train_matched],
    train_one_sided: character_table.PASSES[characters.train_one_sided],
    train_maml: character_table.PASSES[characters.train_maml],
    train_first_order: character_table.PASSES[characters.train_first_order],
    train_reptile: character_table.PASSES[characters.train_reptile],
    train_imaml_gd: character_table.PASSES[characters.train_imaml_gd],
    train_imaml_hf: character_table.PASSES[characters.train_imaml_hf],
}


def operations(build: Callable, settings: Weights) -> float:
    """Operations of a training, a number, by the method `build`."""
    passes = PASSES[build](settings, settings.ways * settings.shots, settings.ways * settings.queries)
    return character_table.operations(settings, passes, SOURCES[settings.source].colors)


def within(budget: float, build: Callable, settings: Weights, chunks: int = 5) -> Weights:
    """The settings with as many outer steps, in so many equal chunks, as `budget`, a number of operations, allows; averaged over the last fifth."""
    chunk = max(1, int(budget / operations(build, settings._replace(outer_steps=1)) / chunks))
    return settings._replace(outer_steps=chunk * chunks, average_after=4 * chunk * chunks // 5, chunk=chunk)
