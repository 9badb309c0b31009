"""The small convolutional network of few-shot learning (Vinyals et al. 2016; Finn et al. 2017), as plain functions.

Four blocks of 3x3 convolution (padding 1, bias), batch normalization, rectifier and 2x2 max pooling, then one linear
layer. With 28x28 images and 64 filters 112,261 parameters for 5 ways.

How activations are normalized is an argument: a function `(batch, support) -> batch`, where both are activations
(images, height, width, channels), of the images at hand and of the episode's support images.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from cmlcore.models.convolution import Form, convolution, in_chunks, patches
from cmlcore.models.mlp import he_uniform
from cmlcore.models.pooling import max_pool

Normalization = Callable[[jax.Array, jax.Array], jax.Array]
BLOCKS = 4
EPSILON = 1e-5  # added to a variance
CACHED = 4_000_000  # numbers of float32 that a CPU's cache may hold


def transductive(batch, support):
    """Statistics of the images at hand: queries are seen together, and help one another (as published)."""
    return _standardized(batch, batch)


def from_support(batch, support):
    """Statistics of the support images only: every query stands alone."""
    return _standardized(batch, support)


def unnormalized(batch, support):
    """No statistics; scale and bias of each channel stay."""
    return batch


REFERENCE = {transductive: lambda batch, support: batch, from_support: lambda batch, support: support}  # whose statistics, where any are taken


def _standardized(x, reference):
    mean = jnp.mean(reference, axis=(0, 1, 2))
    variance = jnp.var(reference, axis=(0, 1, 2))
    return (x - mean) * jax.lax.rsqrt(variance + EPSILON)


def init_conv4(key, ways: int, filters: int = 64, size: int = 28, colors: int = 1) -> dict:
    """Parameters for `ways` classes and `size` x `size` images of `colors` channels.

    `{"blocks": [{"w": (9 in, out), "b", "scale", "shift": (out,)}, ...], "w": (features, ways), "b": (ways,)}`, where
    `w` of a block holds the 3x3 kernel's taps, row by row. Weights are those of `he_uniform`.
    Raises ValueError for images that four poolings leave nothing of.
    """
    if size < 2**BLOCKS:
        raise ValueError(f"size is {size}; four 2x2 poolings need images of at least {2**BLOCKS} pixels.")
    *keys, last = jax.random.split(key, BLOCKS + 1)
    features = filters * (size // 2**BLOCKS) ** 2
    blocks = [
        {"w": he_uniform(k, 9 * channels, filters), "b": jnp.zeros(filters), "scale": jnp.ones(filters), "shift": jnp.zeros(filters)}
        for k, channels in zip(keys, [colors] + [filters] * (BLOCKS - 1))
    ]
    return {"blocks": blocks, "w": he_uniform(last, features, ways), "b": jnp.zeros(ways)}


def conv4(params, images, support, normalize: Normalization = transductive, form: Form | None = None) -> jax.Array:
    """Logits `(images, ways)` of the network for `images` and `support`, as `features` takes them."""
    return features(params["blocks"], images, support, normalize, form) @ params["w"] + params["b"]


def features(blocks, images, support, normalize: Normalization = transductive, form: Form | None = None) -> jax.Array:
    """What the blocks make of `images` and `support`, `(n, height, width)` or `(n, height, width, colors)`: `(images, features)`.

    `support` passes through the network too, for `normalize` to take statistics from; under `jit` it costs nothing
    where `normalize` does not look at it. `form` says how convolutions are computed, which decides the speed where
    `vmap` gives every task its own weights; by default as is fastest here (see `cmlcore.models.convolution`).
    """
    convolve = convolution(form)
    x, s = (i if i.ndim == 4 else i[..., None] for i in (images, support))
    if form is None and normalize in REFERENCE and _too_large(x, blocks[0]):
        first, *blocks = blocks
        x, s = _folded(first, x, REFERENCE[normalize](x, s)), _folded(first, s, s)
    for block in blocks:
        x, s = (convolve(i, block["w"]) + block["b"] for i in (x, s))
        x, s = normalize(x, s), normalize(s, s)
        x, s = _rectify_and_pool(block, x), _rectify_and_pool(block, s)
    return x.reshape(len(x), -1)


def _too_large(x, block) -> bool:
    """Whether what the first block makes of images (n, height, width, in) leaves a CPU's cache, and they can be taken a few at a time."""
    n, height, width, _ = x.shape
    return jax.default_backend() == "cpu" and n * height * width * block["w"].shape[1] > CACHED and in_chunks(n) > 3


def _folded(block, x, reference):
    """The first block without ever holding its largest arrays: a few images at a time, and again a few at a time in reverse.

    Normalization is folded into the product, because its statistics are known beforehand: for patches p the products w'p + b have the mean
    w'E[p] + b and the variances of w'Cov[p]w. Of this book.
    """
    seen = patches(reference)
    mean = seen.mean((0, 1, 2))
    away = (seen - mean).reshape(-1, len(mean))
    variance = jnp.sum(block["w"] * ((away.T @ away / len(away)) @ block["w"]), axis=0)
    gain = block["scale"] * jax.lax.rsqrt(variance + EPSILON)
    w, b = block["w"] * gain, block["shift"] - (mean @ block["w"]) * gain  # the bias cancels

    @jax.checkpoint
    def some(x):
        return max_pool(jax.nn.relu(patches(x) @ w + b))

    y = jax.lax.map(some, x.reshape(-1, in_chunks(len(x)), *x.shape[1:]))
    return y.reshape(-1, *y.shape[2:])


def _rectify_and_pool(block, x):
    """Scale, shift, rectifier, 2x2 max pooling."""
    return max_pool(jax.nn.relu(x * block["scale"] + block["shift"]))


def cross_entropy(logits: Callable):
    """`logits(phi, examples) -> (n, ways)` to a loss `(phi, examples) -> mean over examples of -log p(label)`."""
    return lambda phi, examples: jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits(phi, examples), examples.labels))


def accuracy(logits: Callable):
    """`logits(phi, examples) -> (n, ways)` to a score `(phi, examples) -> share of examples whose largest logit is right`."""
    return lambda phi, examples: jnp.mean(jnp.argmax(logits(phi, examples), axis=-1) == examples.labels)
