"""The convolutional network modulated from the top down: which of its parameters are fast, as values of one interface.

A `Network` says what is fast and what is slow, and how the two make the parameters of `cmlcore.models.conv4`:

    channels    fast: a gain and a shift for every channel, and the read-out. Equation (10), on normalized drives.
    templates   fast: how each layer mixes one bank of templates, and the read-out. As in the code of Zucchet et al. 2022.
    readout     fast: the read-out. As in ANIL (Raghu et al. 2020).
    everything  fast: all. With a pull it is the complex synapse.

All go with `cmlcore.models.modulated.dual`:

    network = channels(ways=5)
    problem = dual(cross_entropy(network_logits(network, transductive)), pull=0.1)
    theta = network.init(jax.random.key(0))
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from cmlcore.models.conv4 import BLOCKS, Normalization, conv4, init_conv4, transductive
from cmlcore.models.modulated import Slow


class Network(NamedTuple):
    """A way to part the network's parameters into fast and slow ones.

    init:    `key -> Slow`, random weights.
    weights: `(phi, body) -> ` the parameters of `conv4`, a tree.
    """

    init: Callable
    weights: Callable


def network_logits(network: Network, normalize: Normalization = transductive, prepare: Callable = lambda images: images) -> Callable:
    """`((phi, body), examples) -> logits (examples, ways)` of the network; `prepare` is applied to all images first."""
    return lambda parameters, examples: conv4(network.weights(*parameters), prepare(examples.images), prepare(examples.support), normalize)


def channels(ways: int, filters: int = 64, size: int = 28, colors: int = 1) -> Network:
    """Fast: gains and shifts, (filters,) in each block, and the read-out, which starts at zero. Slow: kernels and biases."""

    def init(key):
        params = init_conv4(key, ways, filters, size, colors)
        body = [{"w": block["w"], "b": block["b"]} for block in params["blocks"]]
        gains = [{"scale": block["scale"], "shift": block["shift"]} for block in params["blocks"]]
        return Slow(body, {"gains": gains} | _silent(params))

    def weights(phi, body):
        return {"blocks": [b | g for b, g in zip(body, phi["gains"], strict=True)], "w": phi["w"], "b": phi["b"]}

    return Network(init, weights)


def templates(ways: int, filters: int = 64, size: int = 28, colors: int = 1, count: int = 100) -> Network:
    """Fast: in each block the coefficients (count, channels in) of a bank of templates, and the read-out. Slow: the bank, gains, shifts.

    The kernel of a block from channel i is `sum_k coefficient[k, i] template[k]`; a template holds nine taps for each of the `filters`
    channels it makes, and the bank is shared by all four blocks. It starts orthogonal; the coefficients start random, so that
    kernels have the variance of `init_conv4`. The blocks have no biases, which normalization would remove.
    """

    def init(key):
        params = init_conv4(key, ways, filters, size, colors)
        bank, *keys = jax.random.split(key, BLOCKS + 1)
        kept = max(count, 9 * filters)  # one over the variance of a template's taps
        taps = jax.random.orthogonal(bank, kept)[:count, : 9 * filters].reshape(count, 9, filters)
        mixes = [
            jnp.sqrt(2 * kept / (9 * inputs * count)) * jax.random.normal(k, (count, inputs)) for k, inputs in zip(keys, [colors] + [filters] * (BLOCKS - 1))
        ]
        affine = [{"scale": block["scale"], "shift": block["shift"]} for block in params["blocks"]]
        return Slow({"templates": taps, "affine": affine}, {"mixes": mixes} | _silent(params))

    def weights(phi, body):
        kernel = lambda mix: jnp.einsum("kto,ki->tio", body["templates"], mix).reshape(-1, filters)
        blocks = [affine | {"w": kernel(mix), "b": jnp.zeros(filters)} for affine, mix in zip(body["affine"], phi["mixes"], strict=True)]
        return {"blocks": blocks, "w": phi["w"], "b": phi["b"]}

    return Network(init, weights)


def readout(ways: int, filters: int = 64, size: int = 28, colors: int = 1) -> Network:
    """Fast: the read-out alone, `{"w": (features, ways), "b": (ways,)}`, which starts at zero. Slow: all blocks."""

    def init(key):
        params = init_conv4(key, ways, filters, size, colors)
        return Slow(params["blocks"], _silent(params))

    return Network(init, lambda phi, body: {"blocks": body} | phi)


def everything(ways: int, filters: int = 64, size: int = 28, colors: int = 1) -> Network:
    """Fast: all parameters of `conv4`, a tree; the body is empty. What is slow is where they start, and are pulled to."""
    return Network(lambda key: Slow((), init_conv4(key, ways, filters, size, colors)), lambda phi, body: phi)


def _silent(params: dict) -> dict:
    """A read-out that says nothing yet: which class is called what is each task's own affair."""
    return {"w": jnp.zeros_like(params["w"]), "b": jnp.zeros_like(params["b"])}
