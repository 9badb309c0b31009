"""Strengths per weight: the network, the decay, the estimators' agreement, and the full runs on one code path in small."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from precision import precision

from cmlcore import trees
from cmlcore.bilevel import Task
from cmlcore.data import mnist
from cmlcore.estimate import meta_gradient
from cmlcore.estimators.contrastive import contrastive, matched, symmetric
from cmlcore.estimators.implicit import cg, dense, identity, implicit, neumann
from cmlcore.estimators.unroll import unrolled
from cmlcore.models import decay
from cmlcore.models.lenet import init_lenet, lenet
from cmlcore.runs import hyperparameters as runs
from cmlcore.runs import receipts
from cmlcore.runs.experiment import Experiment, run_seed
from cmlcore.solve import gradient_descent

# ---- LeNet -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    return init_lenet(jax.random.key(0)), jax.random.normal(jax.random.key(1), (6, 32, 32, 3))


def test_lenet_has_the_published_number_of_weights(network):
    assert sum(p.size for p in jax.tree.leaves(network[0])) == 62_458
    with pytest.raises(ValueError, match="size is 15"):
        init_lenet(jax.random.key(0), 15)


def test_lenet_is_convolution_norm_rectifier_and_pooling(network):
    params, x = network
    said = jax.jit(lenet)(params, x)

    def normal(layer, x):
        over = tuple(range(x.ndim - 1))
        return jax.nn.relu((x - x.mean(over)) / jnp.sqrt(x.var(over) + 1e-5) * layer["scale"] + layer["shift"])

    for layer in params["convolutions"]:
        kernel = layer["w"].reshape(5, 5, x.shape[-1], -1)
        x = normal(layer, jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")))
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
    for layer in params["layers"]:
        x = normal(layer, x @ layer["w"])
    np.testing.assert_allclose(said, x @ params["w"] + params["b"], atol=2e-4)


def test_lenet_a_row_at_a_time_is_the_same_network(network, monkeypatch):
    params, x = network
    slope = lambda: jax.jit(jax.grad(lambda params: jnp.sum(jnp.sin(lenet(params, x)))))(params)
    whole = slope()
    monkeypatch.setattr("cmlcore.models.lenet.CACHED", 0)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * max(1.0, float(jnp.abs(a).max()))), whole, slope())


# ---- decay -----------------------------------------------------------------------------------------------------------

PHI = {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.array([1.0, -2.0, 3.0])}


def test_the_number_of_hyperparameters_is_the_shape_of_theta():
    makers = (decay.one, decay.per_layer, decay.per_unit, decay.per_weight)
    counts = [sum(s.size for s in jax.tree.leaves(make(PHI, 0.5))) for make in makers]
    assert counts == [1, 2, 6, 9]
    for make in makers:
        assert decay.decay(PHI, make(PHI, 0.5)) == pytest.approx(0.5 * (55 + 14))
    assert decay.decay(PHI, {"w": jnp.log(2.0), "b": jnp.log(jnp.array([1.0, 2.0, 3.0]))}) == pytest.approx(2 * 55 + 1 + 8 + 27)


def test_a_strength_is_positive():
    with pytest.raises(ValueError, match="the strength is 0"):
        decay.per_weight(PHI, 0.0)


# ---- estimators ------------------------------------------------------------------------------------------------------


def logistic(phi, data):
    x, labels = data
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(x @ phi["w"] + phi["b"], labels))


@pytest.fixture(scope="module")
def convex():
    """Logistic regression with decay: one minimum, which plain gradient descent reaches to double precision."""
    with precision(double=True):
        keys = jax.random.split(jax.random.key(3), 6)
        x = jax.random.normal(keys[0], (24, 3), jnp.float64)
        labels = jax.random.randint(keys[1], (24,), 0, 3)
        phi = {"w": jnp.zeros((3, 3)), "b": jnp.zeros(3)}
        theta = jax.tree.map(lambda p: jnp.log(0.1) + jax.random.normal(keys[2], p.shape), phi)
        return decay.learned_decay(logistic, phi), theta, Task((x[:12], labels[:12]), (x[12:], labels[12:]))


@pytest.fixture(scope="module")
def gradients(convex):
    settled, nudged = gradient_descent(0.4, 1500), gradient_descent(0.4, 1500)
    estimators = {
        "dense": implicit(settled, dense()),
        "cg": implicit(settled, cg(12)),
        "neumann": implicit(settled, neumann(1500, 0.4)),
        "identity": implicit(settled, identity()),
        "unrolled": unrolled(settled),
        "one-sided": contrastive(settled, nudged, 1e-5),
        "matched": matched(settled, nudged, 1e-5),
        "symmetric": symmetric(settled, nudged, 1e-3),
    }
    with precision(double=True):
        return {name: jax.device_get(meta_gradient(e, *convex).grad) for name, e in estimators.items()}


@pytest.mark.parametrize("name, bound", [("cg", 1e-9), ("neumann", 1e-9), ("unrolled", 1e-9), ("one-sided", 1e-4), ("matched", 1e-4), ("symmetric", 1e-5)])
def test_all_methods_agree_where_inner_learning_has_settled(gradients, name, bound):
    assert float(trees.relative_error(gradients[name], gradients["dense"])) < bound


def test_the_identity_is_another_direction(gradients):
    assert float(trees.cosine(gradients["identity"], gradients["dense"])) < 0.99


def test_a_shared_strength_gets_the_sum_over_its_weights(convex):
    problem, _, task = convex
    with precision(double=True):
        rule = implicit(gradient_descent(0.4, 1500), dense())
        each = meta_gradient(rule, problem, decay.per_weight(problem.init((), None), 0.1), task).grad
        shared = meta_gradient(rule, problem, decay.one(problem.init((), None), 0.1), task).grad
        assert float(shared) == pytest.approx(float(sum(jnp.sum(g) for g in jax.tree.leaves(each))), rel=1e-9)


# ---- full runs, in small ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world():
    """Points in four dimensions and three classes, 40 to learn from and 30 to test; a linear network."""
    x = np.random.default_rng(0).normal(size=(70, 4)).astype(np.float32)
    labels = np.int32(np.argmax(x[:, :3] + 0.3 * x[:, 1:], axis=-1))
    init = lambda key: {"w": 0.1 * jax.random.normal(key, (4, 3)), "b": jnp.zeros(3)}
    part = lambda rows: runs.Examples(x[rows], labels[rows])
    return runs.World(part(slice(40)), part(slice(40, 70)), lambda x: x, init, lambda phi, x: x @ phi["w"] + phi["b"])


SMALL = runs.Learning(10, 30, 0.01, 60, 0.1, 0, 12, 0.3, steps=30, rate=0.1, beta=0.5, look_at=20)


def small(rule, world, final=runs.keep_training, settings=SMALL):
    build = lambda s: runs.training(runs.RULES[rule], s, world, final)
    return Experiment("small", "A test.", settings, build, (0,), ("accuracy", "share"), None, "none")


@pytest.mark.parametrize("rule, final", [("matched", runs.keep_training), ("cg", runs.retrain), ("truncated", runs.retrain)])
def test_methods_on_the_one_code_path_lower_the_held_out_loss(rule, final, world, tmp_path):
    settings = SMALL._replace(steps=5) if rule == "cg" else SMALL
    experiment = small(rule, world, final, settings)
    outcome = run_seed(experiment, 0, tmp_path, report=lambda line: None)
    assert outcome.scores["accuracy"].shape == (30,) and outcome.scores["bytes"] > 0
    held = outcome.curve["held_loss"]
    assert len(held) == SMALL.outer_steps and held[-1] < held[0]
    if rule == "matched":
        receipt = receipts.compose(experiment, [outcome, outcome])
        assert receipt["scores"]["held_out"]["mean"] == pytest.approx(float(outcome.scores["held_out"].mean()), rel=1e-5)


def test_without_meta_learning_the_best_strength_on_held_out_points_is_kept(world, tmp_path):
    settings = runs.Fixed(10, 30, (1e-4, 0.03, 10.0), 20, 0.1, 0)
    build = lambda s: runs.without(s, world, runs.keep_training)
    experiment = Experiment("small", "A test.", settings, build, (0,), ("accuracy", "share"), None, "none")
    outcome = run_seed(experiment, 0, tmp_path, report=lambda line: None)
    assert outcome.scores["held_loss"] == pytest.approx(min(outcome.curve["held_loss"]), rel=1e-5)
    assert np.argmax(outcome.curve["held_loss"]) == 2  # ten is too strong for anyone


def test_too_few_images_are_named(world):
    with pytest.raises(ValueError, match="100 training images are asked for, and there are 40"):
        runs.setup(world, SMALL._replace(held_out=90))


def test_the_entries_are_as_published():
    entries = {e.name: e for e in runs.EXPERIMENTS}
    s = entries["hyper-cifar-one-sided"].settings
    assert (s.train, s.held_out, s.batch, s.free_steps, s.free_rate, s.outer_steps) == (25_000, 25_000, 500, 5_000, 3e-4, 100)
    assert (s.strength, s.beta, s.steps, s.rate) == (0.1, 10.0, 200, 1e-4)
    assert entries["hyper-cifar-cg"].settings.steps == 100 and entries["hyper-cifar-neumann"].settings.rate == 3e-4
    s = entries["hyper-mnist-one-sided"].settings
    assert (s.train, s.free_steps, s.free_rate, s.beta) == (30_000, 2_000, 3e-4, 3.0)
    assert len(entries) == len(runs.EXPERIMENTS)


def test_the_digit_network_has_the_published_number_of_weights():
    digits = mnist.Digits(*(np.zeros((2, 784), np.float32), np.zeros(2, np.int32)) * 3, "none")
    world = runs.mnist_mlp(digits)
    params = jax.eval_shape(world.init, jax.random.key(0))
    assert sum(p.size for p in jax.tree.leaves(params)) == 466_698
    assert world.train.images.shape == (4, 784)
