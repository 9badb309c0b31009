"""Weights of figures that lie beside their pages, from the receipts: whoever builds pages writes a file for each of `every()`."""

import jax
import jax.numpy as jnp

from cmlcore.explore import Beside
from cmlcore.models.conv4 import init_conv4
from cmlcore.runs import inventing, parameters, receipts
from cmlcore.runs.characters import Characters

SMALL = "omniglot-small-matched"


def small_start():
    """The random network that the small run on characters starts from."""
    settings = Characters(**receipts.read(SMALL)["settings"])
    return jax.jit(init_conv4, static_argnums=(1, 2, 3))(jax.random.key(0), settings.ways, settings.filters, settings.size)


def small() -> jax.Array:
    """(2, parameters): that network and the synapses that the run learned, in numbers of 16 bits; `jax.flatten_util` knows their order."""
    start = small_start()
    flat = [jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)]) for tree in (start, parameters.read(SMALL, start))]
    return jnp.stack(flat).astype(jnp.float16).astype(jnp.float32)


def small_beside() -> Beside:
    return Beside("small-characters", (small(),))


def every() -> list[Beside]:
    """All of the book."""
    return [inventing.beside(), small_beside()]
