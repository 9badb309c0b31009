"""The full experiments on top-down modulation of images: Omniglot, and subsets of CIFAR-FS and miniImageNet.

Forms of the network (`cmlcore.models.modulated_images`) differ in what is fast, and share everything else. The published runs of Zucchet et
al. (2022) on images are synaptic; which form their modulated one had is not said in what this book could read.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cmlcore.data import natural
from cmlcore.estimators.contrastive import matched
from cmlcore.estimators.first_order import first_order
from cmlcore.models.conv4 import accuracy, cross_entropy, transductive
from cmlcore.models.modulated import dual
from cmlcore.models.modulated_images import channels, everything, network_logits, templates
from cmlcore.runs.character_table import CML, PUBLISHED, cost
from cmlcore.runs.characters import Characters, drawings, train_matched
from cmlcore.runs.cost import Cost
from cmlcore.runs.experiment import Experiment, Training
from cmlcore.runs.few_shot import Exam, learned, meta_training
from cmlcore.solve import optimizer


class Images(NamedTuple):
    """Settings of one row on images; inner learning by SGD, with Nesterov's momentum if it is not 0.

    ways, shots, queries: an episode while training; a test has 15 queries of each class, as published.
    size, filters: pixels to a side, the full ones or a whole fraction of them; width of the network.
    templates:     how many, in the form that has any.
    free_steps, nudged_steps, rate, momentum, beta, pull: of learning; a test takes `test_steps`.
    outer_steps, tasks, outer_rate: Adam on the mean over so many tasks, its rate decaying as a cosine, gradients clipped at 10.
    chunk:         outer steps between two checkpoints, each with `validation_episodes`; the run ends with `test_episodes`.
    """

    ways: int
    shots: int
    queries: int
    size: int
    filters: int
    templates: int
    free_steps: int
    nudged_steps: int
    test_steps: int
    rate: float
    momentum: float
    beta: float
    pull: float
    outer_steps: int
    tasks: int
    outer_rate: float
    chunk: int
    validation_episodes: int
    test_episodes: int


class Source(NamedTuple):
    """Where images come from.

    images:  `size -> (train, validation, test)`, each (classes, images, size, size) or with colors, uint8, on the device.
    prepare: what the network is given of an episode's images.
    colors:  how many channels they have.
    """

    images: Callable
    prepare: Callable
    colors: int


def _shrunk(images: np.ndarray, size: int) -> jax.Array:
    """`(classes, images, full, full, 3)` to `size` pixels a side by means over squares; full must be a multiple of size."""
    classes, count, full = images.shape[:3]
    if full % size:
        raise ValueError(f"size is {size}; these images have {full} pixels a side, and shrink to a whole fraction of that.")
    if full == size:
        return jnp.asarray(images)
    squares = images.reshape(classes, count, size, full // size, size, full // size, 3)
    return jnp.asarray(squares.mean((3, 5)).round().astype(np.uint8))


def _colored(load: Callable) -> Source:
    @cache
    def images(size):
        return tuple(_shrunk(part, size) for part in load()[:3])

    return Source(images, natural.standardized, 3)


OMNIGLOT = Source(lambda size: drawings("background", size), lambda images: images, 1)
CIFAR_FS, MINI_IMAGENET = _colored(natural.cifar_fs), _colored(natural.mini_imagenet)


def train_images(settings: Images, source: Source, form: Callable, rule: Callable) -> Training:
    """Meta-training of `form(settings, colors)`, a `Network`, on images by `rule(free_solver, nudged_solver, beta)`, an estimator.

    Raises ValueError where the outer steps do not fill the chunks, or there are too few images for an episode.
    """
    network = form(settings, source.colors)
    logits = network_logits(network, transductive, source.prepare)
    score = accuracy(logits)
    learner, nudged, tested = (
        optimizer(optax.sgd(settings.rate, settings.momentum or None, nesterov=True), steps)
        for steps in (settings.free_steps, settings.nudged_steps, settings.test_steps)
    )
    schedule = optax.cosine_decay_schedule(settings.outer_rate, settings.outer_steps)
    problem = dual(cross_entropy(logits), settings.pull)
    training = meta_training(
        settings,
        lambda: source.images(settings.size),
        lambda seed: jax.jit(network.init)(jax.random.key(2 * seed)),
        problem,
        rule(learner, nudged, settings.beta),
        [Exam(settings.ways, settings.shots, learned(problem, tested, {"accuracy": lambda phi, theta, query: score((phi, theta.body), query)}))],
        optax.chain(optax.clip_by_global_norm(10.0), optax.adam(schedule)),
        settings.outer_steps,  # no average: theta itself is tested
    )
    return training._replace(keep=lambda state: ())


def without_nudge(free_solver, nudged_solver, beta):
    """First-order MAML in the place of a contrastive rule: an estimator that has no nudged phase."""
    return first_order(free_solver)


# ---- The experiments -------------------------------------------------------------------------------------------------

RULES = {"cml": matched, "first-order": without_nudge}
FORMS = {
    "synaptic": lambda s, colors: everything(s.ways, s.filters, s.size, colors),
    "channels": lambda s, colors: channels(s.ways, s.filters, s.size, colors),
    "templates": lambda s, colors: templates(s.ways, s.filters, s.size, colors, s.templates),
}
SOURCES = {"omniglot": OMNIGLOT, "cifar-fs": CIFAR_FS, "mini-imagenet": MINI_IMAGENET}
TITLES = {"omniglot": "Omniglot", "cifar-fs": "CIFAR-FS, subset", "mini-imagenet": "miniImageNet, subset"}
WORDS = {
    "synaptic": "all weights fast, pulled to their start",
    "channels": "gains and shifts of the channels and the read-out fast",
    "templates": "mixes of one bank of templates and the read-out fast",
}


def _experiment(source: str, form: str, rule: str, settings: Images, cost: Cost, suffix: str = "") -> Experiment:
    exam = f"{settings.ways}w{settings.shots}s"
    how = "the contrastive rule" if rule == "cml" else "first-order MAML"
    return Experiment(
        f"modulation-{source}-{exam}-{form}" + ("" if rule == "cml" else f"-{rule}") + suffix,
        f"{TITLES[source]}, {settings.ways}-way, {settings.shots}-shot, {settings.size} x {settings.size} pixels: {how}, {WORDS[form]}.",
        settings,
        partial(train_images, source=SOURCES[source], form=FORMS[form], rule=RULES[rule]),
        (0, 1, 2),
        ("accuracy", "share of the query images that are named right"),
        None,
        cost,
        published=not suffix,
    )


def _published(source: str) -> list[Images]:
    """Settings of the full runs, as published for the synaptic ones where they are known; but the outer rate decays as a cosine here."""
    if source == "omniglot":
        known = [Characters(*exam, **PUBLISHED | own)._asdict() for exam, own in CML.items()]
        return [Images(templates=100, **{name: s[name] for name in Images._fields if name in s}) for s in known]
    one_shot = Images(
        ways=5, shots=1, queries=15, size=32 if source == "cifar-fs" else 84, filters=32, templates=100, free_steps=100, nudged_steps=75,
        test_steps=100, rate=0.01, momentum=0.9, beta=0.01, pull=0.25, outer_steps=25_000, tasks=4, outer_rate=0.001, chunk=250,
        validation_episodes=100, test_episodes=600,
    )  # fmt: skip
    return [one_shot, one_shot._replace(shots=5)]


SMALL = Images(
    ways=5, shots=1, queries=5, size=16, filters=32, templates=40, free_steps=5, nudged_steps=3, test_steps=10, rate=0.3, momentum=0.0,
    beta=0.2, pull=0.1, outer_steps=200, tasks=8, outer_rate=0.01, chunk=50, validation_episodes=60, test_episodes=300,
)  # fmt: skip
MINUTE = Cost(1)
EXPERIMENTS = (
    *(_experiment("omniglot", form, "cml", SMALL, MINUTE, "-small") for form in FORMS),
    _experiment("omniglot", "channels", "first-order", SMALL, MINUTE, "-small"),
    *(_experiment("cifar-fs", form, "cml", SMALL, MINUTE, "-small") for form in ("synaptic", "channels")),
    # On characters, the network with all weights fast is that of `character_table`.
    *(
        _experiment(source, form, "cml", s, cost(train_matched, s, SOURCES[source].colors))
        for source in SOURCES
        for s in _published(source)
        for form in FORMS
        if (source, form) != ("omniglot", "synaptic")
    ),
)
