"""The two forms of modulation for images, and the full runs on images: what is fast, what they compute, and that they fit together."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmlcore.data import archive as archives
from cmlcore.data import natural, omniglot
from cmlcore.data.episodes import Examples
from cmlcore.meta import Averaged
from cmlcore.models.conv4 import conv4, init_conv4, transductive
from cmlcore.models.modulated_images import channels, everything, network_logits, readout, templates
from cmlcore.runs import modulation_images
from cmlcore.runs.catalog import find
from cmlcore.runs.few_shot import TEST_QUERIES
from cmlcore.runs.modulation_images import FORMS, RULES, Images, Source, train_images

KEY = jax.random.key(0)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def rough(form):
    """Slow parameters with nothing at its starting value."""
    leaves, tree = jax.tree.flatten(form.init(KEY))
    return jax.tree.unflatten(tree, [x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, jax.random.split(KEY, len(leaves)))])


@pytest.mark.parametrize(
    "form, fast, slow",
    [
        (channels, 2 * 4 * 64 + 64 * 5 + 5, 9 * 64 * (1 + 3 * 64) + 4 * 64),
        (templates, 100 * (1 + 3 * 64) + 64 * 5 + 5, 100 * 9 * 64 + 2 * 4 * 64),
        (readout, 64 * 5 + 5, 9 * 64 * (1 + 3 * 64) + 3 * 4 * 64),
        (everything, 112_261, 0),
    ],
)
def test_how_many_numbers_are_fast_and_slow(form, fast, slow):
    theta = jax.eval_shape(form(5).init, KEY)
    assert (count(theta.start), count(theta.body)) == (fast, slow)


def test_every_form_makes_the_same_network():
    """What a form is given as fast and slow ends up in the place of `conv4` that it names."""
    params = init_conv4(KEY, 3, 4, 16)
    for form in (channels, readout, everything):
        theta = form(3, 4, 16).init(KEY)
        made = form(3, 4, 16).weights(theta.start, theta.body)
        assert jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, params)
        for ours, theirs in zip(made["blocks"], params["blocks"]):
            np.testing.assert_array_equal(ours["w"], theirs["w"])
        assert form is everything or (jnp.all(made["w"] == 0) and jnp.all(made["b"] == 0))


def test_a_kernel_is_a_mix_of_templates():
    form = templates(3, 4, 16, colors=3, count=7)
    theta = rough(form)
    made = form.weights(theta.start, theta.body)
    for mix, block in zip(theta.start["mixes"], made["blocks"]):
        kernel = np.array(block["w"]).reshape(9, mix.shape[1], 4)
        wanted = sum(np.array(mix)[k][None, :, None] * np.array(theta.body["templates"])[k][:, None, :] for k in range(7))
        np.testing.assert_allclose(kernel, wanted, rtol=1e-4, atol=1e-5)
    assert [mix.shape for mix in theta.start["mixes"]] == [(7, 3), (7, 4), (7, 4), (7, 4)]


@pytest.mark.parametrize("number", [20, 100])
def test_kernels_start_with_the_variance_of_the_plain_network(number):
    """Below and above the 72 dimensions of a template; the bank is orthogonal either way."""
    form = templates(5, 8, 16, count=number)
    theta = form.init(KEY)
    flat = theta.body["templates"].reshape(number, -1)
    gram = flat @ flat.T if number < 72 else flat.T @ flat
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)
    last = form.weights(theta.start, theta.body)["blocks"][-1]["w"]
    assert float(jnp.var(last)) == pytest.approx(2 / (9 * 8), rel=0.35)


def test_gains_and_shifts_are_those_of_the_channels():
    form = channels(3, 4, 16)
    theta = rough(form)
    x = jax.random.uniform(KEY, (5, 16, 16))
    logits = network_logits(form, transductive)
    params = {"blocks": [b | g for b, g in zip(theta.body, theta.start["gains"])], "w": theta.start["w"], "b": theta.start["b"]}
    found = jax.jit(logits)((theta.start, theta.body), Examples(x, jnp.arange(5) % 3, x))
    np.testing.assert_allclose(found, jax.jit(conv4)(params, x, x), rtol=1e-4, atol=1e-5)


# The full runs


def small_source():
    rng = np.random.default_rng(0)
    parts = tuple(jnp.asarray(rng.integers(0, 256, (6, 16, 16, 16, 3), np.uint8)) for _ in range(3))
    return Source(lambda size: parts, natural.standardized, 3)


TINY = Images(3, 1, 2, 16, 2, 3, 2, 1, 2, 0.1, 0.9, 0.2, 0.1, 2, 2, 0.01, 1, 2, 2)


def test_a_run_in_small_learns_what_is_slow_and_what_it_starts_from():
    """By the rule that compiles fastest; the contrastive one is traced below."""
    training = train_images(TINY, small_source(), FORMS["templates"], RULES["first-order"])
    before = training.start(0)
    after, info = training.advance(before)
    assert set(info) == {"outer_loss", "grad_norm", "validation"} and all(np.isfinite(float(v)) for v in info.values())
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), before.mean, after.mean)
    assert all(jax.tree.leaves(moved)), "the bank, gains and shifts, and the start"
    same = jax.tree.map(lambda a, b: bool(jnp.all(a == b)), after.mean, after.state.theta)
    assert all(jax.tree.leaves(same)), "no average: what is tested is theta itself"
    assert training.chunks == 2


def available(name):
    archive = {"omniglot": omniglot.ARCHIVE, "cifar": natural.CIFAR_ARCHIVE, "mini": natural.MINI_ARCHIVE}[name.split("-")[1]]
    return archives.find(archive) is not None


@pytest.mark.parametrize("experiment", modulation_images.EXPERIMENTS, ids=lambda e: e.name)
def test_every_run_on_images_has_images_enough(experiment):
    if not available(experiment.name):
        pytest.skip("its archive is not here (set CML_DATA)")
    s = experiment.settings
    for classes, images in (part.shape[:2] for part in experiment.build.keywords["source"].images(s.size)):
        assert classes >= s.ways and images >= s.shots + max(s.queries, TEST_QUERIES)
    assert s.outer_steps % s.chunk == 0 and (experiment.published or s.size == 16)


TRACED = ("modulation-omniglot-20w5s-templates", "modulation-mini-imagenet-5w5s-channels")


@pytest.mark.parametrize("name", TRACED)
def test_a_run_fits_together(name):
    """A full run of each data set and form, traced from its start to its end, without computing it."""
    if not available(name):
        pytest.skip("its archive is not here (set CML_DATA)")
    experiment = find(name)
    training = experiment.build(experiment.settings._replace(chunk=experiment.settings.outer_steps))
    state = jax.eval_shape(functools.partial(training.start, 0))
    again, info = jax.eval_shape(training.advance, state)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), again) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert all(value.shape == () for value in info.values()) and training.chunks == 1


def test_settings_that_cannot_work_say_so():
    with pytest.raises(ValueError, match="outer_steps is 2, which chunks of 3 do not fill"):
        train_images(TINY._replace(chunk=3), small_source(), FORMS["channels"], RULES["cml"])
    few = small_source()._replace(images=lambda size: [part[:, :15] for part in small_source().images(size)])
    with pytest.raises(ValueError, match="1 shots and 15 queries need 16 drawings of a class, and there are 15"):
        train_images(TINY, few, FORMS["channels"], RULES["cml"]).test(0, Averaged(None, None))
    with pytest.raises(ValueError, match="size is 5.*8 pixels.*whole fraction"):
        modulation_images._shrunk(np.zeros((1, 1, 8, 8, 3), np.uint8), 5)
    half = modulation_images._shrunk(np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4, 1).repeat(3, -1), 2)
    assert half[0, 0, ..., 0].tolist() == [[2, 4], [10, 12]]  # means of 2.5, 4.5, 10.5 and 12.5, rounded to even
