"""A multilayer perceptron as two plain functions (as in Finn et al. 2017)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def init_mlp(key, widths: Sequence[int]) -> list[dict[str, jax.Array]]:
    """Parameters of a network with layers of `widths` units: a list of `{"w": (in, out), "b": (out,)}`.

    Weights are those of `he_uniform`; biases 0.
    """
    keys = jax.random.split(key, len(widths) - 1)
    return [{"w": he_uniform(k, m, n), "b": jnp.zeros(n)} for k, m, n in zip(keys, widths[:-1], widths[1:])]


def he_uniform(key, fan_in: int, fan_out: int) -> jax.Array:
    """Weights (fan_in, fan_out), uniform in +-sqrt(6 / fan_in), which keeps the variance through rectifiers (He et al. 2015)."""
    return jax.random.uniform(key, (fan_in, fan_out), minval=-1, maxval=1) * jnp.sqrt(6 / fan_in)


def mlp(params, x, activation=jax.nn.relu):
    """The network's output, `(examples, in) -> (examples, out)`; the last layer is linear."""
    *hidden, last = params
    for layer in hidden:
        x = activation(x @ layer["w"] + layer["b"])
    return x @ last["w"] + last["b"]
