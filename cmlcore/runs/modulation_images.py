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

from cmlcore.bilevel import free
from cmlcore.contrastive import matched
from cmlcore.data import natural
from cmlcore.data.episodes import episode
from cmlcore.first_order import first_order
from cmlcore.meta import meta_start, meta_step, meta_steps
from cmlcore.models.conv4 import accuracy, cross_entropy, transductive
from cmlcore.models.modulated import dual
from cmlcore.models.modulated_images import Form, channels, everything, form_logits, templates
from cmlcore.runs.characters import AT_ONCE, TEST, TEST_QUERIES, VALIDATION, drawings, in_turn
from cmlcore.runs.experiment import Experiment, Training
from cmlcore.solve import optimizer

class Images(NamedTuple):
    """Settings of one row on images; inner learning by SGD, with Nesterov's momentum if it is not 0.

    ways, shots, queries: an episode while training; a test has 15 queries of each class, as published, where there are so many.
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


def shaped(form: Callable, settings: Images, source: Source) -> Form:
    """The form for these images: `form` is a factory of `cmlcore.models.modulated_images`."""
    count = {"count": settings.templates} if form is templates else {}
    return form(settings.ways, settings.filters, settings.size, source.colors, **count)


def train_images(settings: Images, source: Source, form: Callable, rule: Callable) -> Training:
    """Meta-training of a form of the network on images by `rule(free_solver, nudged_solver, beta)`, an estimator.

    Raises ValueError where the outer steps do not fill the chunks, or there are too few images for an episode.
    """
    if settings.outer_steps % settings.chunk:
        raise ValueError(f"outer_steps is {settings.outer_steps}, which chunks of {settings.chunk} do not fill.")
    train, validation, test = source.images(settings.size)
    network = shaped(form, settings, source)
    logits = form_logits(network, transductive, source.prepare)
    problem, right = dual(cross_entropy(logits), settings.pull), accuracy(logits)
    learner, nudged, tested = (
        optimizer(optax.sgd(settings.rate, settings.momentum or None, nesterov=True), steps)
        for steps in (settings.free_steps, settings.nudged_steps, settings.test_steps)
    )
    schedule = optax.cosine_decay_schedule(settings.outer_rate, settings.outer_steps)
    outer = optax.chain(optax.clip_by_global_norm(10.0), optax.adam(schedule))

    @jax.jit  # the images are an argument: a constant of their size would be compiled in
    def learn(state, images):
        draw = lambda key: episode(key, images, settings.ways, settings.shots, settings.queries)
        step = meta_step(problem, in_turn(rule(learner, nudged, settings.beta)), outer, draw, settings.tasks)
        return meta_steps(step, settings.chunk)(state)

    @jax.jit
    def examined(theta, images, keys):
        def one(key):
            task = episode(key, images, settings.ways, settings.shots, min(TEST_QUERIES, images.shape[1] - settings.shots))
            phi = tested(free(problem, theta), problem.init(theta), task).phi
            return right((phi, theta.body), task.query)

        at_once = None if jax.default_backend() == "cpu" else min(AT_ONCE, len(keys))
        return jax.lax.map(one, keys, batch_size=at_once)

    def exam(theta, images, number, count):
        return examined(theta, images, jax.random.split(jax.random.key(number), count))

    def advance(state):
        state, info = learn(state, train)
        held_out = exam(state.theta, validation, VALIDATION, settings.validation_episodes)
        return state, {"outer_loss": jnp.mean(info.value), "grad_norm": jnp.mean(info.grad_norm), "validation": jnp.mean(held_out)}

    return Training(
        start=lambda seed: meta_start(jax.jit(network.init)(jax.random.key(2 * seed)), outer, jax.random.key(2 * seed + 1)),
        advance=advance,
        chunks=settings.outer_steps // settings.chunk,
        test=lambda seed, state: {"accuracy": exam(state.theta, test, TEST, settings.test_episodes)},
        keep=lambda state: (),
    )


def without_nudge(free_solver, nudged_solver, beta):
    """First-order MAML in the place of a contrastive rule: an estimator that has no nudged phase."""
    return first_order(free_solver)


# ---- The experiments -------------------------------------------------------------------------------------------------

RIGHT = ("accuracy", "share of the query images that are named right")
ASSUMED_RATE = 2e13  # operations a second that a waiting run's hours are reckoned with
RULES = {"cml": matched, "first-order": without_nudge}
FORMS = {"synaptic": everything, "channels": channels, "templates": templates}
SOURCES = {"omniglot": OMNIGLOT, "cifar-fs": CIFAR_FS, "mini-imagenet": MINI_IMAGENET}
TITLES = {"omniglot": "Omniglot", "cifar-fs": "CIFAR-FS, subset", "mini-imagenet": "miniImageNet, subset"}
WORDS = {
    "synaptic": "all weights fast, pulled to their start",
    "channels": "gains and shifts of the channels and the read-out fast",
    "templates": "mixes of one bank of templates and the read-out fast",
}


def operations(settings: Images, colors: int) -> float:
    """Operations of a contrastive training with its control, a number: the convolutions alone, a backward pass as two forward ones."""
    inputs = [colors, *[settings.filters] * 3]
    forward = sum(2 * 9 * n * settings.filters * (settings.size // 2**k) ** 2 for k, n in enumerate(inputs))
    support, query = settings.ways * settings.shots, settings.ways * settings.queries
    passes = settings.free_steps * support + settings.nudged_steps * (2 * support + query)
    return 3.0 * forward * passes * settings.tasks * settings.outer_steps


def _experiment(source: str, form: str, rule: str, settings: Images, seeds, cost: str, suffix: str = "") -> Experiment:
    exam = f"{settings.ways}w{settings.shots}s"
    how = "the contrastive rule" if rule == "cml" else "first-order MAML"
    return Experiment(
        f"modulation-{source}-{exam}-{form}" + ("" if rule == "cml" else f"-{rule}") + suffix,
        f"{TITLES[source]}, {settings.ways}-way, {settings.shots}-shot, {settings.size} x {settings.size} pixels: {how}, {WORDS[form]}.",
        settings,
        partial(train_images, source=SOURCES[source], form=FORMS[form], rule=RULES[rule]),
        seeds,
        RIGHT,
        None,
        cost,
    )


def _waiting(source: str, form: str, settings: Images) -> Experiment:
    count = operations(settings, SOURCES[source].colors)
    hours = count / ASSUMED_RATE / 3600
    cost = f"needs a GPU: about {count:.0e} operations a seed, {hours:.1f} hours at {ASSUMED_RATE / 1e12:.0f} TFLOP/s"
    return _experiment(source, form, "cml", settings, (0, 1, 2), cost)


def _full(source: str) -> tuple[Experiment, ...]:
    """The full runs of one data set; settings as published for the synaptic ones, where they are known."""
    characters = source == "omniglot"
    common = dict(queries=15, templates=100, rate=0.01, momentum=0.9, validation_episodes=100, test_episodes=600)
    if characters:
        common |= dict(size=28, filters=64, free_steps=200, nudged_steps=100, test_steps=200, outer_rate=0.01, outer_steps=3750, chunk=50)
        exams = {(5, 1): (0.1, 0.25, 32), (5, 5): (0.1, 0.05, 32), (20, 1): (0.03, 0.25, 16), (20, 5): (0.1, 0.125, 16)}
    else:
        size = 32 if source == "cifar-fs" else 84
        common |= dict(size=size, filters=32, free_steps=100, nudged_steps=75, test_steps=100, outer_rate=0.001, outer_steps=25_000, chunk=250)
        exams = {(5, 1): (0.01, 0.25, 4), (5, 5): (0.01, 0.25, 4)}
    forms = [form for form in FORMS if not (characters and form == "synaptic")]  # that is `omniglot-*-matched`
    return tuple(
        _waiting(source, form, Images(ways, shots, beta=beta, pull=pull, tasks=tasks, **common))
        for (ways, shots), (beta, pull, tasks) in exams.items()
        for form in forms
    )


SMALL = Images(
    ways=5, shots=1, queries=5, size=16, filters=32, templates=40, free_steps=5, nudged_steps=3, test_steps=10, rate=0.3, momentum=0.0,
    beta=0.2, pull=0.1, outer_steps=200, tasks=8, outer_rate=0.01, chunk=50, validation_episodes=60, test_episodes=300,
)  # fmt: skip
MINUTE = "1 minute a seed on one CPU core"
EXPERIMENTS = (
    *(_experiment("omniglot", form, "cml", SMALL, (0, 1, 2), MINUTE, "-small") for form in FORMS),
    _experiment("omniglot", "channels", "first-order", SMALL, (0, 1, 2), MINUTE, "-small"),
    *(_experiment("cifar-fs", form, "cml", SMALL, (0, 1, 2), MINUTE, "-small") for form in ("synaptic", "channels")),
    *(run for source in SOURCES for run in _full(source)),
)
