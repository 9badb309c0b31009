"""The full experiments on hyperparameters by the million: one L2 strength per weight, learned on held-out images by every rival.

There is one task, a training set split in two; inner learning starts at the same random weights in every outer step.
Held-out accuracy is a training score of the outer loop. What it is worth is seen on test images, met once, at the end.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cmlcore import trees
from cmlcore.bilevel import Task, free
from cmlcore.data import cifar, mnist
from cmlcore.estimators.contrastive import contrastive, matched
from cmlcore.estimators.implicit import cg, identity, implicit, neumann
from cmlcore.estimators.unroll import truncated
from cmlcore.meta import MetaState, meta_start
from cmlcore.models.conv4 import accuracy, cross_entropy
from cmlcore.models.decay import learned_decay, per_weight
from cmlcore.models.lenet import init_lenet, lenet
from cmlcore.models.mlp import init_mlp, mlp
from cmlcore.runs.cost import Cost, counted
from cmlcore.runs.experiment import Experiment, Training
from cmlcore.solve import Solver, minibatch, subsample
from cmlcore.theory.diagnostics import compiled_memory, seconds

AT_ONCE = 500  # images in one pass of a final test; batch norm takes its statistics from them


class Examples(NamedTuple):
    """Images as the network takes them, (n, ...), and labels (n,)."""

    images: jax.Array
    labels: jax.Array


class World(NamedTuple):
    """Data and a network. train, test: `Examples`, images as stored; look: stored images to the network's input."""

    train: Examples
    test: Examples
    look: Callable
    init: Callable
    logits: Callable


def cifar_lenet(data: cifar.Cifar | None = None) -> World:
    """CIFAR-10 as at hand, and LeNet, 62,458 weights."""
    data = cifar.load() if data is None else data
    train, test = Examples(data.images, data.labels), Examples(data.test_images, data.test_labels)
    return World(train, test, cifar.standardized, init_lenet, lenet)


def mnist_mlp(data: mnist.Digits | None = None, widths=(784, *[256] * 5, 10)) -> World:
    """MNIST, all 60,000 training digits, and a tanh network of five hidden layers, 466,698 weights."""
    data = mnist.load() if data is None else data
    images = np.concatenate([data.images, data.validation_images])
    labels = np.concatenate([data.labels, data.validation_labels])
    standardized = lambda x: (x - 0.1307) / 0.3081  # mean and deviation of MNIST's pixels
    test = Examples(data.test_images, data.test_labels)
    return World(Examples(images, labels), test, standardized, lambda key: init_mlp(key, widths), lambda phi, x: mlp(phi, x, jnp.tanh))


class Learning(NamedTuple):
    """Settings of one run. Which of the last four a method uses is said where the method is built.

    train, held_out: images in the two parts of the training set. strength: lambda of every weight at the start.
    free_steps, free_rate, batch: inner learning, in steps on `batch` training images (0: on all of them).
    outer_steps, outer_rate: Adam on the logarithms of the strengths.
    steps, rate, beta, look_at: nudged phase, or linear solver, or truncation; look_at: held-out images in a nudged step (0: all).
    """

    train: int
    held_out: int
    strength: float
    free_steps: int
    free_rate: float
    batch: int
    outer_steps: int
    outer_rate: float
    steps: int = 0
    rate: float = 0.0
    beta: float = 0.0
    look_at: int = 0


class Fixed(NamedTuple):
    """Settings without meta-learning: the best of a few `strengths`, one for all weights, by the held-out loss."""

    train: int
    held_out: int
    strengths: tuple[float, ...]
    free_steps: int
    free_rate: float
    batch: int


def sgd(rate, steps: int, batch: int, look_at: int = 0) -> Solver:
    """Gradient descent with Nesterov momentum 0.9, as published."""
    return minibatch(optax.sgd(rate, 0.9, nesterov=True), steps, subsample(batch, look_at))


def adam(rate, steps: int, batch: int, look_at: int = 0) -> Solver:
    """Adam with its usual constants, as published for MNIST."""
    return minibatch(optax.adam(rate), steps, subsample(batch, look_at))


class Setup(NamedTuple):
    """What a seed learns with: `problem`, `task` and the `loss` and `score` of weights on examples."""

    problem: Callable
    task: Callable
    loss: Callable
    score: Callable


def setup(world: World, settings) -> Setup:
    """The seed's key gives both the split, `task(key, train)`, and the start of inner learning, `problem(key)`."""
    logits = lambda phi, examples: world.logits(phi, examples.images)
    count = settings.train + settings.held_out
    if count > len(world.train.labels):
        raise ValueError(
            f"{count} training images are asked for, and there are {len(world.train.labels)}: is the data a subset? "
            "cmlcore.data.cifar.load_whole() gets the whole set."
        )

    def task(key, train: Examples) -> Task:
        rows = jax.random.permutation(jax.random.fold_in(key, 0), len(train.labels))[:count]
        part = lambda r: Examples(world.look(train.images[r]), train.labels[r])
        return Task(part(rows[: settings.train]), part(rows[settings.train :]))

    loss = cross_entropy(logits)
    return Setup(lambda key: learned_decay(loss, world.init(jax.random.fold_in(key, 1))), task, loss, accuracy(logits))


def training(rule: Callable, settings: Learning, world: World, final: Callable, learner: Callable = sgd) -> Training:
    """Learn one strength per weight with the estimator `rule(settings, learner)`, one outer step a chunk.

    The curve is measured at the strengths before each step, on the free solution that the estimator finds anyway.
    final: `keep_training` or `retrain`, what the test images are shown to.
    """
    here = setup(world, settings)
    estimator, outer = rule(settings, learner), optax.adam(settings.outer_rate)
    train = jax.tree.map(jnp.asarray, world.train)

    def start(seed):
        key = jax.random.key(seed)
        return meta_start(per_weight(jax.eval_shape(world.init, key), settings.strength), outer, key)

    def estimate(state: MetaState, task):
        return estimator(here.problem(state.key), state.theta, task, jax.random.fold_in(state.key, 2 + state.step))

    @jax.jit
    def step(state: MetaState, train):
        task = here.task(state.key, train)
        result = estimate(state, task)
        updates, moments = outer.update(result.grad, state.optimizer)
        theta = optax.apply_updates(state.theta, updates)
        info = {
            "train_loss": here.loss(result.phi, task.support),
            "train_accuracy": here.score(result.phi, task.support),
            "held_loss": result.value,
            "held_accuracy": here.score(result.phi, task.query),
            "grad_norm": trees.norm(result.grad),
        }
        return MetaState(theta, moments, state.step + 1, state.key), info

    def test(seed, state):
        task = jax.jit(here.task)(state.key, train)
        run = jax.jit(lambda state, task: estimate(state, task).grad).lower(state, task).compile()
        fastest = min(seconds(run, state, task, repeats=2))  # other programs on the machine can only add to it
        cost = {"bytes": np.array([compiled_memory(run).temporary]), "seconds": np.array([fastest])}
        return final(here, settings, learner, state.key, state.theta, train, world) | cost

    return Training(start, lambda state: step(state, train), settings.outer_steps, test, lambda state: ())


class Weighed(NamedTuple):
    """Settings of the comparison of memory: `of`, the methods; every one of them sees all held-out images at once."""

    of: tuple[str, ...]


def weighing(settings: Weighed, world: World, of: dict, learner: Callable = sgd) -> Training:
    """No learning: the bytes that one compiled meta-gradient holds at once, for each method, on the same images.

    A nudged step looks at all held-out images, as the other methods do, and nothing but the gradient is computed.
    """
    train = jax.tree.map(jnp.asarray, world.train)

    def bytes_of(method: str, key) -> int:
        s = of[method]._replace(look_at=0)
        here = setup(world, s)
        problem, task = here.problem(key), jax.jit(here.task)(key, train)
        theta = per_weight(jax.eval_shape(world.init, key), s.strength)
        gradient = jax.jit(lambda theta, task, key: RULES[method](s, learner)(problem, theta, task, key).grad)
        return compiled_memory(gradient.lower(theta, task, key).compile()).temporary

    return Training(
        lambda seed: jax.random.key(seed),
        lambda key: (key, {"methods": jnp.asarray(len(settings.of))}),
        1,
        # Of any two tasks: the bytes depend on shapes alone.
        lambda seed, key: {method: np.full(2, bytes_of(method, key), float) for method in settings.of},
        lambda key: (),
    )


def without(settings: Fixed, world: World, final: Callable, learner: Callable = sgd) -> Training:
    """No meta-learning: try one strength a chunk, keep the one with the lowest held-out loss."""
    here, train = setup(world, settings), jax.tree.map(jnp.asarray, world.train)
    strengths = jnp.array(settings.strengths)

    @jax.jit
    def step(state, train):
        best, lowest, number, key = state
        task, strength = here.task(key, train), strengths[number]
        phi = _learned(here, settings, learner, key, jnp.log(strength), task)
        loss = here.loss(phi, task.query)
        info = {
            "strength": strength,
            "train_loss": here.loss(phi, task.support),
            "train_accuracy": here.score(phi, task.support),
            "held_loss": loss,
            "held_accuracy": here.score(phi, task.query),
        }
        return (jnp.where(loss < lowest, strength, best), jnp.minimum(loss, lowest), number + 1, key), info

    return Training(
        lambda seed: (strengths[0], jnp.asarray(jnp.finfo(strengths.dtype).max), jnp.asarray(0), jax.random.key(seed)),
        lambda state: step(state, train),
        len(settings.strengths),
        lambda seed, state: final(here, settings, learner, state[3], jnp.log(state[0]), train, world),
        lambda state: (),
    )


def keep_training(here: Setup, settings, learner, key, log_lambda, train, world: World) -> dict:
    """The final test of the over-fitting demonstration: learn from the training part alone, look at everything."""

    @jax.jit
    def learn_and_look(key, log_lambda, train):
        task = here.task(key, train)
        phi = _learned(here, settings, learner, key, log_lambda, task)
        return phi, {
            "held_out": here.score(phi, task.query), "held_loss": here.loss(phi, task.query), "train": here.score(phi, task.support)
        }  # fmt: skip

    phi, seen = learn_and_look(key, log_lambda, train)
    return {name: np.array([value]) for name, value in seen.items()} | {"accuracy": _on_test(phi, world)}


def retrain(here: Setup, settings, learner, key, log_lambda, train, world: World) -> dict:
    """The final test of the larger experiment: learn once more, from both parts, with the strengths found; then the test images."""

    @jax.jit
    def learn(key, log_lambda, train):
        both = jax.tree.map(lambda *parts: jnp.concatenate(parts), *here.task(key, train))
        return _learned(here, settings, learner, key, log_lambda, Task(both))

    return {"accuracy": _on_test(learn(key, log_lambda, train), world)}


def _learned(here: Setup, settings, learner, key, log_lambda, task: Task):
    problem = here.problem(key)
    solver = learner(settings.free_rate, settings.free_steps, settings.batch)
    return solver(free(problem, log_lambda), problem.init(log_lambda, task.support), task, jax.random.fold_in(key, 2)).phi


def _on_test(phi, world: World) -> np.ndarray:
    """1 for every test image that is right, 0 for every other, (n,), in passes of `AT_ONCE` images."""
    answers = jax.jit(lambda phi, images: jnp.argmax(world.logits(phi, world.look(images)), axis=-1))
    images, labels = world.test
    said = [answers(phi, images[i : i + AT_ONCE]) for i in range(0, len(labels), AT_ONCE)]
    return (np.concatenate(said) == labels).astype(float)


# ---- the methods: estimators on one code path ------------------------------------------------------------------------


def _free(s: Learning, learner) -> Solver:
    return learner(s.free_rate, s.free_steps, s.batch)


def _contrast(rule: Callable) -> Callable:
    """steps, rate, beta, look_at: the nudged phase."""
    return lambda s, learner: rule(_free(s, learner), learner(s.rate, s.steps, s.batch, s.look_at), s.beta)


RULES = {
    "matched": _contrast(matched),
    "one-sided": _contrast(contrastive),
    # steps: products with the Hessian of the inner loss on all training images.
    "cg": lambda s, learner: implicit(_free(s, learner), cg(s.steps)),
    # steps: terms of the series; rate: its step.
    "neumann": lambda s, learner: implicit(_free(s, learner), neumann(s.steps, s.rate)),
    "identity": lambda s, learner: implicit(_free(s, learner), identity()),
    # steps: inner steps that are differentiated.
    "truncated": lambda s, learner: truncated(_free(s, learner), s.steps),
}


# ---- the experiments -------------------------------------------------------------------------------------------------

SEEDS = (0, 1, 2, 3, 4)
CALLED = {
    "matched": "the contrastive rule with a matched control",
    "one-sided": "the contrastive rule as published, one-sided",
    "cg": "implicit differentiation, conjugate gradients",
    "neumann": "implicit differentiation, Neumann series",
    "identity": "T1-T2, the identity for the inverse Hessian",
    "truncated": "truncated backpropagation through training, its outer loss on held-out images",
}
TEST_ACCURACY = ("accuracy", "share of the test images that are right")

# 50 training and 950 held-out images. Published for 25,000 + 25,000: 2,000 to 5,000 inner steps at 3e-4 to 1e-3, 200 nudged
# ones and 100 outer steps. Here the rate is 10 to 30 times as high and everything shorter; chosen by the held-out loss.
_SHORT = Learning(50, 950, 0.01, free_steps=80, free_rate=0.01, batch=0, outer_steps=16, outer_rate=0.3)
_NUDGE = dict(steps=15, rate=0.01, beta=1.0, look_at=190)
DEMONSTRATION = {
    "matched": _SHORT._replace(**_NUDGE),
    "one-sided": _SHORT._replace(**_NUDGE),
    "cg": _SHORT._replace(steps=5),
    "neumann": _SHORT._replace(steps=15, rate=0.03),
    "identity": _SHORT,
    "truncated": _SHORT._replace(steps=15),
}
_FEW = Fixed(50, 950, (1e-4, 1e-3, 1e-2, 3e-2, 1e-1), 80, 0.01, 0)


def _experiment(name: str, about: str, settings, build, cost: Cost, published: bool = False) -> Experiment:
    return Experiment(name, about, settings, build, SEEDS, TEST_ACCURACY, None, cost, published=published)


def _learning(world: Callable, rule: str, final: Callable, learner: Callable = sgd) -> Callable:
    return lambda settings: training(RULES[rule], settings, world(), final, learner)


def _published(learned_on: str, part: int, world: Callable, forward: float, settings: dict, learners: dict) -> tuple[Experiment, ...]:
    """Half and half, then both halves; the outer rate is for logarithms of the strengths, unlike the published one."""

    def row(rule: str, s: Learning) -> Experiment:
        about = f"{part:,} + {part:,} images ({learned_on}): {CALLED[rule]}; retrained on both halves."
        build = _learning(world, rule, retrain, learners.get(rule, sgd))
        return _experiment(f"hyper-{learned_on}-{rule}", about, s, build, cost(rule, s, forward), True)

    return tuple(row(rule, s._replace(train=part, held_out=part)) for rule, s in settings.items())


# Operations of one image's forward pass: a product for every connection.
LENET, FIVE_LAYERS = 2 * (75 * 6 * 28**2 + 150 * 16 * 10**2 + 400 * 120 + 120 * 84 + 84 * 10), 2 * 466_698.0
# Passes of one image, forward and backward, that an outer step takes besides free learning, by method; b images in a batch. The derivative of a
# backward pass counts as two passes.
PASSES = {
    "one-sided": lambda s, b: s.steps * (b + (s.look_at or s.held_out)),
    "matched": lambda s, b: s.steps * (2 * b + (s.look_at or s.held_out)),
    "cg": lambda s, b: 2 * s.steps * s.train + s.held_out,
    "neumann": lambda s, b: 2 * s.steps * s.train + s.held_out,
    "identity": lambda s, b: 2 * s.train + s.held_out,
    "truncated": lambda s, b: 2 * s.steps * b + s.held_out,
}


def cost(rule: str, settings: Learning, forward: float) -> Cost:
    """What a seed costs, its training counted, where one image's forward pass takes so many operations."""
    batch = settings.batch or settings.train
    return counted(3 * forward * (settings.free_steps * batch + PASSES[rule](settings, batch)) * settings.outer_steps)


_AS_PUBLISHED = Learning(50, 950, 0.1, 5000, 3e-4, 0, 100, 0.3, 200, 1e-4, 10.0, 0)
# Inner steps, rates, batch and first strength as published; Adam's outer rate of 0.3 is the published one for the
# contrastive rule (0.03 on a strength of 0.1) as a fraction of the strength.
_CIFAR = {
    "one-sided": Learning(0, 0, 0.1, 5000, 3e-4, 500, 100, 0.3, 200, 1e-4, 10.0, 500),
    "matched": Learning(0, 0, 0.1, 5000, 3e-4, 500, 100, 0.3, 200, 1e-4, 10.0, 500),
    "cg": Learning(0, 0, 1e-5, 2000, 1e-3, 500, 100, 0.3, 100),
    "neumann": Learning(0, 0, 1e-5, 2000, 1e-3, 500, 100, 0.3, 500, 3e-4),
    "identity": Learning(0, 0, 1e-4, 3000, 1e-3, 500, 100, 0.3),
    "truncated": Learning(0, 0, 1e-4, 5000, 1e-3, 500, 100, 0.3, 200),
}
_MNIST = {
    "one-sided": Learning(0, 0, 1e-5, 2000, 3e-4, 500, 100, 0.3, 200, 3e-4, 3.0, 500),
    "matched": Learning(0, 0, 1e-5, 2000, 3e-4, 500, 100, 0.3, 200, 3e-4, 3.0, 500),
    "cg": Learning(0, 0, 1e-4, 2000, 1e-4, 500, 100, 0.3, 100),
    "neumann": Learning(0, 0, 1e-4, 2000, 1e-3, 500, 100, 0.3, 200, 1e-3),
    "identity": Learning(0, 0, 1e-5, 2000, 1e-2, 500, 100, 0.3),
}

EXPERIMENTS = (
    *(
        _experiment(
            f"hyper-demo-{rule}",
            f"50 training and 950 held-out photographs, LeNet: {CALLED[rule]}.",
            settings,
            _learning(cifar_lenet, rule, keep_training),
            Cost(0.5),
        )
        for rule, settings in DEMONSTRATION.items()
    ),
    _experiment(
        "hyper-demo-none",
        "50 training and 950 held-out photographs, LeNet: the best of five strengths, one for all weights.",
        _FEW,
        lambda s: without(s, cifar_lenet(), keep_training),
        Cost(0.2),
    ),
    _experiment(
        "hyper-demo-all",
        "The same, and then LeNet learns from all 1,000 photographs in the usual way.",
        _FEW,
        lambda s: without(s, cifar_lenet(), retrain),
        Cost(0.3),
    ),
    Experiment(
        "hyper-demo-memory",
        "50 training and 950 held-out photographs, LeNet: bytes of one meta-gradient, all held-out photographs at once for every method.",
        Weighed(tuple(DEMONSTRATION)),
        lambda s: weighing(s, cifar_lenet(), DEMONSTRATION),
        (0,),
        ("matched", "bytes"),
        None,
        Cost(2),
    ),
    _experiment(
        "hyper-demo-published",
        "50 training and 950 held-out photographs, LeNet: the contrastive rule with the steps, rates and nudge published for 25,000 images.",
        _AS_PUBLISHED,
        _learning(cifar_lenet, "one-sided", keep_training),
        cost("one-sided", _AS_PUBLISHED, LENET),
        True,
    ),
    *_published("cifar-subset", 5_000, cifar_lenet, LENET, _CIFAR, {}),
    *_published("cifar", 25_000, lambda: cifar_lenet(cifar.load_whole()), LENET, _CIFAR, {}),
    *_published("mnist", 30_000, mnist_mlp, FIVE_LAYERS, _MNIST, {"one-sided": adam, "matched": adam, "cg": adam}),
)
