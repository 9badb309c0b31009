"""The convolutional network of the few-shot chapter, against independent formulations of the same thing."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmlcore import trees
from cmlcore.data.episodes import Examples
from cmlcore.models import conv4 as conv4_module
from cmlcore.models.conv4 import (
    accuracy,
    conv4,
    cross_entropy,
    from_support,
    init_conv4,
    transductive,
    unnormalized,
)

network = jax.jit(conv4, static_argnames="normalize")


def images(key, n=4, size=16):
    return jnp.asarray(np.random.default_rng(key).uniform(size=(n, size, size)), jnp.float32)


def reference(params, x):
    """The network with XLA's own convolution and pooling, batch statistics, as the literature draws it."""
    x = x[..., None]
    for block in params["blocks"]:
        kernel = block["w"].reshape(3, 3, x.shape[-1], -1)
        x = jax.lax.conv_general_dilated(x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = x + block["b"]
        x = (x - x.mean((0, 1, 2))) / jnp.sqrt(x.var((0, 1, 2)) + 1e-5) * block["scale"] + block["shift"]
        x = jax.lax.reduce_window(jax.nn.relu(x), -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return x.reshape(len(x), -1) @ params["w"] + params["b"]


def random_params(key=0, ways=3, filters=4):
    """Nothing at its starting value: biases, scales and shifts count too."""
    draw = np.random.default_rng(key)
    shapes = jax.eval_shape(lambda: init_conv4(jax.random.key(0), ways, filters, size=16))
    at = lambda path: float(path[-1].key == "scale")
    return jax.tree_util.tree_map_with_path(lambda path, p: jnp.asarray(at(path) + 0.4 * draw.normal(size=p.shape), p.dtype), shapes)


@pytest.mark.parametrize("normalize", [transductive, from_support])
def test_a_few_images_at_a_time_make_the_same_features_and_derivatives(normalize, monkeypatch, x64):
    params = jax.tree.map(lambda leaf: leaf.astype(float), random_params())
    x, support = images(0, 8).astype(float), images(1, 6).astype(float)
    bent = lambda params, x: jnp.sum(jnp.tanh(conv4(params, x, support, normalize)))
    found = {}
    for cached in (conv4_module.CACHED, 100):
        monkeypatch.setattr(conv4_module, "CACHED", cached)
        found[cached] = jax.jit(jax.value_and_grad(lambda params, x: bent(params, x), (0, 1)))(params, x)
    assert trees.relative_error(*found.values()) < 1e-12


@pytest.mark.parametrize("ways, parameters", [(5, 112_261), (20, 113_236)])
def test_published_numbers_of_parameters(ways, parameters):
    params = jax.eval_shape(lambda: init_conv4(jax.random.key(0), ways))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == parameters


def test_weights_start_uniform_and_as_wide_as_their_inputs_ask():
    params = jax.jit(init_conv4, static_argnums=(1, 2, 3))(jax.random.key(0), 3, 4, 16)
    for layer in [*params["blocks"], params]:
        bound = np.sqrt(6 / len(layer["w"]))
        assert 0.8 * bound < jnp.abs(layer["w"]).max() < bound and jnp.abs(layer["w"].mean()) < 0.4 * bound
        assert not layer["b"].any()
    assert all((b["scale"] == 1).all() and (b["shift"] == 0).all() for b in params["blocks"])


def test_values_and_gradients_are_those_of_plain_convolutions(x64):
    params = jax.tree.map(lambda p: p.astype(jnp.float64), random_params())
    x = images(1, 6, 28).astype(jnp.float64)  # 28, 14, 7, 3: an odd row to drop
    weights = jnp.asarray(np.random.default_rng(2).normal(size=(6, 3)))
    ours = jax.jit(jax.value_and_grad(lambda p: jnp.sum(weights * conv4(p, x, x[:2]))))(params)
    theirs = jax.jit(jax.value_and_grad(lambda p: jnp.sum(weights * reference(p, x))))(params)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-12)
    assert trees.relative_error(ours[1], theirs[1]) < 1e-12
    assert all(trees.norm(g) > 0 for g in jax.tree.leaves(ours[1]["w"]) + jax.tree.leaves(ours[1]["blocks"][0]["w"]))


def test_weights_per_task_under_vmap():
    each = [random_params(k) for k in range(3)]
    params = jax.tree.map(lambda *p: jnp.stack(p), *each)
    x = images(1, 12).reshape(3, 4, 16, 16)
    together = jax.jit(jax.vmap(conv4))(params, x, x)
    for i in range(3):
        np.testing.assert_allclose(together[i], network(each[i], x[i], x[i]), rtol=2e-4, atol=2e-5)


def test_normalization_decides_who_sees_whom():
    """Change one query: under `transductive` the others' logits move, else they do not; support matters only to one."""
    params, support, queries = random_params(), images(1), images(2)
    changed_query = queries.at[0].set(1 - queries[0])
    changed_support = support.at[0].set(1 - support[0])

    def moved(normalize):
        logits = lambda q, s: network(params, q, s, normalize=normalize)
        others = jnp.abs(logits(changed_query, support) - logits(queries, support))[1:].max()
        by_support = jnp.abs(logits(queries, changed_support) - logits(queries, support)).max()
        return bool(others > 1e-3), bool(by_support > 1e-3)

    assert moved(transductive) == (True, False)
    assert moved(from_support) == (False, True)
    assert moved(unnormalized) == (False, False)


def test_on_the_support_set_both_statistics_agree():
    params, support = random_params(), images(1)
    one, other = (network(params, support, support, normalize=mode) for mode in (transductive, from_support))
    np.testing.assert_allclose(one, other, rtol=1e-6)
    assert jnp.abs(one - network(params, support, support, normalize=unnormalized)).max() > 1e-2


def test_unused_support_costs_nothing():
    """XLA drops the support's pass where the mode does not look at it."""
    params, support, queries = random_params(), images(1, 40), images(2)

    def flops(normalize):
        cost = jax.jit(partial(conv4, normalize=normalize)).lower(params, queries, support).compile().cost_analysis()
        return (cost[0] if isinstance(cost, list) else cost)["flops"]

    assert flops(from_support) > 5 * flops(transductive)


def test_loss_and_accuracy():
    logits = lambda phi, examples: phi * examples.images
    examples = Examples(jnp.array([[2.0, 0, 0], [0, 1, 0], [3, 0, 0]]), jnp.array([0, 1, 2]), None)
    by_hand = np.mean([-np.log(np.exp(2) / (np.exp(2) + 2)), -np.log(np.e / (np.e + 2)), np.log(np.exp(3) + 2)])
    np.testing.assert_allclose(cross_entropy(logits)(1.0, examples), by_hand, rtol=1e-6)
    np.testing.assert_allclose(accuracy(logits)(1.0, examples), 2 / 3, rtol=1e-6)


def test_images_too_small_for_four_poolings():
    with pytest.raises(ValueError, match="size is 14.*at least 16"):
        init_conv4(jax.random.key(0), 5, size=14)


def test_colors_are_channels_of_the_first_layer():
    shapes = jax.eval_shape(lambda: init_conv4(jax.random.key(0), 3, 4, size=16, colors=3))
    assert shapes["blocks"][0]["w"].shape == (27, 4)
    gray = random_params()
    kernel = jnp.asarray(np.random.default_rng(1).normal(size=(27, 4)), jnp.float32)
    first = lambda w: gray | {"blocks": [gray["blocks"][0] | {"w": w}, *gray["blocks"][1:]]}
    x = jnp.asarray(np.random.default_rng(2).uniform(size=(4, 16, 16, 3)), jnp.float32)
    alike = jnp.repeat(x[..., :1], 3, axis=-1)  # three equal channels: one channel with the summed kernel
    summed = network(first(kernel.reshape(9, 3, 4).sum(1)), x[..., 0], x[..., 0])
    np.testing.assert_allclose(network(first(kernel), alike, alike), summed, rtol=2e-4, atol=2e-5)
    assert jnp.abs(network(first(kernel), x, x) - network(first(kernel), alike, alike)).max() > 1e-2
