"""LeNet with batch normalization (after LeCun, Bottou, Bengio & Haffner 1998): the network whose hyperparameters Zucchet et al. 2022 learn.

Two 5x5 convolutions of 6 and 16 filters without padding, each halved by 2x2 max pooling, then layers of 120, 84 and 10
units. After every hidden layer: batch normalization with the statistics of the batch at hand, so that what is said of an
image depends on the images beside it, and a rectifier. With 32x32 color images 62,458 parameters.
"""

import jax
import jax.numpy as jnp

from cmlcore.models.mlp import he_uniform
from cmlcore.models.pooling import max_pool

TAPS, FILTERS, UNITS, CLASSES = 5, (6, 16), (120, 84), 10
CACHED = 4_000_000  # numbers of float32 that a CPU's cache may hold


def init_lenet(key, size: int = 32, channels: int = 3) -> dict:
    """Parameters for `size` x `size` images of `channels` channels.

    `{"convolutions": [...], "layers": [...], "w": (84, 10), "b": (10,)}`, two hidden layers in each list, of `{"w": (in,
    out), "b", "scale", "shift": (out,)}`, where `in` of a convolution runs over its 25 taps, row by row, times channels.
    Weights are those of `he_uniform`. Raises ValueError for images that two convolutions and poolings leave nothing of.
    """
    left = ((size - TAPS + 1) // 2 - TAPS + 1) // 2
    if left < 1:
        raise ValueError(f"size is {size}; two 5x5 convolutions, each pooled, need images of at least 16 pixels.")
    fans = (TAPS**2 * channels, TAPS**2 * FILTERS[0], FILTERS[1] * left**2, UNITS[0])
    *keys, last = jax.random.split(key, 5)
    hidden = [
        {"w": he_uniform(k, fan_in, out), "b": jnp.zeros(out), "scale": jnp.ones(out), "shift": jnp.zeros(out)}
        for k, fan_in, out in zip(keys, fans, FILTERS + UNITS)
    ]
    return {"convolutions": hidden[:2], "layers": hidden[2:], "w": he_uniform(last, UNITS[1], CLASSES), "b": jnp.zeros(CLASSES)}


def lenet(params, images) -> jax.Array:
    """Logits (n, 10) for `images` of shape (n, height, width, channels), normalized over these n images."""
    # Images last: with 3 to 16 channels it is the only axis that is long enough for a CPU's vector units.
    x = jnp.transpose(images, (3, 1, 2, 0))
    for layer in params["convolutions"]:
        x = max_pool(jax.nn.relu(_normalized(layer, _convolve(layer, x))))
    x = x.reshape(-1, len(images))
    for layer in params["layers"]:
        x = jax.nn.relu(_normalized(layer, layer["w"].T @ x))
    return x.T @ params["w"] + params["b"]


def _convolve(layer, x):
    """5x5 convolution of (channels, height, width, n) without padding, as one product of the kernel with all patches."""
    channels, h, w, n = x.shape
    h, w = h - TAPS + 1, w - TAPS + 1

    def rows(x):
        patches = jnp.stack([x[:, i : i + x.shape[1] - TAPS + 1, j : j + w] for i in range(TAPS) for j in range(TAPS)])
        return (layer["w"].T @ patches.reshape(TAPS**2 * channels, -1)).reshape(-1, patches.shape[2], w, n)

    if jax.default_backend() != "cpu" or TAPS**2 * channels * h * w * n <= CACHED:
        return rows(x)
    # On a CPU, patches that leave the cache cost more than the product: a row of the result at a time, whose patches are copied again on the way back.
    one = jax.checkpoint(lambda row: rows(jax.lax.dynamic_slice_in_dim(x, row, TAPS, axis=1))[:, 0])
    return jnp.moveaxis(jax.lax.map(one, jnp.arange(h)), 0, 1)


def _normalized(layer, x):
    """Bias and batch normalization over all axes but the first. (The mean takes the bias out again: it has no effect.)"""
    along = lambda vector: vector.reshape(-1, *(1,) * (x.ndim - 1))
    x, over = x + along(layer["b"]), tuple(range(1, x.ndim))
    x = x - jnp.mean(x, over, keepdims=True)
    x = x * jax.lax.rsqrt(jnp.mean(x**2, over, keepdims=True) + 1e-5)
    return x * along(layer["scale"]) + along(layer["shift"])
