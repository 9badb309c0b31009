"""What the figure *Invent an alphabet* computes: a read-out learned from a few drawings, on features of each drawing alone; of this book.

While training, activations are standardized by those of the images at hand. A reader's page has one drawing after the other, so means and variances
are taken once, over drawings of the training characters, and stay. Then the features of a drawing depend on nothing else, and are kept while another
drawing is changed.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from cmlcore.bilevel import Problem, Task, free
from cmlcore.data.alphabets import ALPHABETS, drawn
from cmlcore.explore import Beside, Strokes
from cmlcore.explore.strokes import written
from cmlcore.models import readout
from cmlcore.models.conv4 import EPSILON
from cmlcore.models.convolution import patches
from cmlcore.models.pooling import max_pool
from cmlcore.runs import parameters, receipts
from cmlcore.runs.slow_features import Features, descent, start

NEWEST = "features-long-symmetric"
NAMES, FIRST = 20, 5  # characters that can be drawn, and those that a reader is asked for
NO_NAME = -1e9  # the logit of a name that nothing was drawn for


class Network(NamedTuple):
    """The slow network with fixed statistics, and its read-out's two numbers.

    weights: (9 in, out) of each block. gains, shifts: (out,) of each block, all of normalization. log_pull, log_gain: scalars.
    """

    weights: list
    gains: list
    shifts: list
    log_pull: jax.Array
    log_gain: jax.Array


class Drawn(NamedTuple):
    """What the read-out learns from: features (ways, features) of one drawing a name, and whether each was drawn, (ways,) of 1.0 and 0.0."""

    features: jax.Array
    there: jax.Array


def settings() -> Features:
    """Those of the receipt."""
    return Features(**receipts.read(NEWEST)["settings"])


def trained() -> readout.Slow:
    """The network at the end of meta-training, with the numbers of 16 bits that the receipt keeps."""
    return parameters.read(NEWEST, start(settings(), 0))


def untrained() -> readout.Slow:
    """The random network where that training began, in numbers of 16 bits too."""
    return jax.tree.map(lambda x: x.astype(jnp.float16).astype(x.dtype), start(settings(), 0))


@jax.jit
def fixed(theta: readout.Slow, drawings) -> Network:
    """`theta` with the statistics of `drawings`, (n, 28, 28), ink = 1."""
    x, gains, shifts = drawings[..., None], [], []
    for block in theta.blocks:
        y = patches(x) @ block["w"]
        gains.append(block["scale"] * jax.lax.rsqrt(jnp.var(y, (0, 1, 2)) + EPSILON))
        shifts.append(block["shift"] - jnp.mean(y, (0, 1, 2)) * gains[-1])  # the bias cancels
        x = _pooled(y, gains[-1], shifts[-1])
    return Network([block["w"] for block in theta.blocks], gains, shifts, theta.log_pull, theta.log_gain)


def both(drawings) -> Network:
    """The untrained and the trained network, stacked in this order, with the statistics of `drawings`, (n, 28, 28), ink = 1."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), fixed(untrained(), drawings), fixed(trained(), drawings))


def seen(network: Network, drawing) -> jax.Array:
    """The features, of length one, of a drawing (28, 28), ink = 1."""
    x = drawing[None, :, :, None]
    for w, gain, shift in zip(network.weights, network.gains, network.shifts):
        x = _pooled(patches(x) @ w, gain, shift)
    return readout.of_length_one(x.reshape(1, -1))[0]


def _pooled(y, gain, shift):
    return max_pool(jax.nn.relu(y * gain + shift))


def operations(network: Network, size: int = 28) -> int:
    """Multiplications and additions of the convolutions for one drawing, of `both` networks if it is they."""
    return sum(2 * (size >> block) ** 2 * w.size for block, w in enumerate(network.weights))


def lesson(network: Network) -> Problem:
    """Learning of the read-out phi, (features, ways), from one drawing a name: `cmlcore.models.readout` where some names may have none.

    A name without a drawing adds nothing to the loss, and cannot be said.
    """

    def inner(phi, theta, drawn: Drawn):
        surprise = -jnp.diagonal(jax.nn.log_softmax(_logits(phi, drawn, drawn.features)))
        return jnp.sum(drawn.there * surprise) + jnp.exp(network.log_pull) * jnp.sum(phi * phi)

    return Problem(inner, lambda phi, theta, query: 0.0, init=lambda theta, drawn: jnp.zeros(drawn.features.shape[::-1], drawn.features.dtype))


def _logits(phi, drawn, features):
    return jnp.where(drawn.there > 0, features @ phi, NO_NAME)


def beliefs(network: Network, how: Features, drawn: Drawn, asked) -> jax.Array:
    """The probability of each name, (..., ways), for the features `asked` of other drawings, after the read-out learned from what was `drawn`."""
    problem = lesson(network)
    phi = descent(how, how.free_steps, 1)(free(problem, ()), problem.init((), drawn), Task(drawn, drawn)).phi
    return jax.nn.softmax(_logits(jnp.exp(network.log_gain) * phi, drawn, asked))


# ---- what is drawn ---------------------------------------------------------------------------------------------------


def given(*alphabets: str, asked: int, seed: int = 0) -> str:
    """A setting of `alphabet_knob`: these alphabets' characters, and the one that is `asked` drawn once more."""
    characters = [character for name in alphabets for character in ALPHABETS[name]]
    texts = [written(drawn(character, 1000 * seed + k)) for k, character in enumerate(characters)]
    again = written(drawn(characters[asked], 1000 * seed + 500 + asked, unsteady=1.5))
    return "~".join([*texts, *[""] * (NAMES - len(texts)), again])


def alphabet_knob() -> Strokes:
    """Up to twenty characters and one of them again, drawn by a reader or taken from the book's own alphabets."""
    offers = {name: [given(name, asked=k, seed=number) for k in (1, 4, 0, 3)] for number, name in enumerate(ALPHABETS)}
    offers["All twenty"] = [given(*ALPHABETS, asked=k) for k in (11, 3, 17)]
    names = [*(f"character {k}" for k in range(1, NAMES + 1)), "one of them again"]
    return Strokes("drawings", "Your alphabet", names, FIRST, offers)


def beside() -> Beside:
    """The weights of `both` networks, for the page's file."""
    blocks = zip(untrained().blocks, trained().blocks)
    return Beside("inventing", tuple(jnp.stack([random["w"], learned["w"]]) for random, learned in blocks))
