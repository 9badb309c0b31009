"""A fast read-out on slow features: the dual system with as few fast parameters as can be.

All convolutions are slow. phi, (features, ways), reads out what they make of an image, scaled to length one, and is pulled to zero. With theta made of
the features of both sets z, a strength lambda and a gain g:

    L_in(phi)  = sum over support of -log softmax(phi^T z)[label]  + lambda |phi|^2
    L_out(phi) = mean over query  of -log softmax(g phi^T z)[label]

L_in is strongly convex, so that its minimum is one, and small: learning twice costs little beside one pass of the network
(see `cmlcore.estimators.through`). The gain lets a pulled read-out be sure of itself. Related: Bertinetto et al. 2019, Lee et al. 2019.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from cmlcore.bilevel import Problem, Task
from cmlcore.models.conv4 import Normalization, features, init_conv4, transductive


class Slow(NamedTuple):
    """theta: blocks, those of `cmlcore.models.conv4`; log_pull, log_gain: scalars."""

    blocks: list
    log_pull: jax.Array
    log_gain: jax.Array


class Seen(NamedTuple):
    """What the read-out's losses take for theta: features of length one, (examples, features), and both scalars."""

    support: jax.Array
    query: jax.Array
    log_pull: jax.Array
    log_gain: jax.Array


def init_slow(key, filters: int = 64, size: int = 28, colors: int = 1, pull: float = 0.03, gain: float = 3.0) -> Slow:
    """Random convolutions, a strength and a gain to start from."""
    return Slow(init_conv4(key, 1, filters, size, colors)["blocks"], jnp.log(jnp.float32(pull)), jnp.log(jnp.float32(gain)))


def of_length_one(z):
    """(examples, features), each row divided by its length."""
    return z * jax.lax.rsqrt(jnp.sum(z * z, axis=-1, keepdims=True) + 1e-12)


def seeing(
    normalize: Normalization = transductive, prepare: Callable = lambda images: images, scaled: Callable = of_length_one
) -> Callable[[Slow, Task], Seen]:
    """`(theta, task) -> Seen` with one pass of the network: support and query see the same statistics, of all images or of the support alone.

    prepare: what the network is given of an episode's images. scaled: what is done to its features, (examples, features).
    """

    def represent(theta: Slow, task: Task) -> Seen:
        support, query = prepare(task.support.images), prepare(task.query.images)
        z = scaled(features(theta.blocks, jnp.concatenate([support, query]), support, normalize))
        return Seen(z[: len(support)], z[len(support) :], theta.log_pull, theta.log_gain)

    return represent


def fast_readout(ways: int) -> Problem:
    """The problem in `Seen`: phi, (features, ways), starts at zero, where it says nothing."""

    def surprise(logits, labels):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)

    return Problem(
        lambda phi, seen, support: jnp.sum(surprise(seen.support @ phi, support.labels)) + jnp.exp(seen.log_pull) * jnp.sum(phi * phi),
        lambda phi, seen, query: jnp.mean(surprise(jnp.exp(seen.log_gain) * (seen.query @ phi), query.labels)),
        init=lambda seen, support: jnp.zeros((seen.support.shape[1], ways), seen.support.dtype),
    )


def right(phi, seen: Seen, query) -> jax.Array:
    """The share of queries whose largest logit is right, a scalar."""
    return jnp.mean(jnp.argmax(seen.query @ phi, axis=-1) == query.labels)
