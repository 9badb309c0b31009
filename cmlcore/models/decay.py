"""L2 strengths as meta-parameters: how strongly each weight is pulled to zero, learned on held-out data.

    L_in(phi, theta) = L(phi, training data) + sum_i lambda_i phi_i^2,      L_out(phi) = L(phi, held-out data)

This is the complex synapse with its consolidated weight fixed at zero; one task, split in two, is all there is. As
everywhere in this package the pull is summed, has no factor 1/2, and lambda is `exp(log_lambda)`: positive whatever the
outer optimizer does. (The code of Zucchet et al. 2022 learns lambda itself and sets what becomes negative to zero.)

How many hyperparameters there are is the shape of `theta` alone: `log_lambda` is a tree whose leaves each serve a whole
branch of phi, or a part of one leaf that broadcasts. `one`, `per_layer`, `per_unit` and `per_weight` make such trees.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from cmlcore.bilevel import Phi, Problem, concrete


def decay(phi: Phi, log_lambda) -> jax.Array:
    """`sum_i lambda_i phi_i^2`, a scalar; `log_lambda`: a prefix of the tree phi, its leaves broadcast against those of phi."""
    pulls = jax.tree.map(lambda strength, part: sum(jnp.sum(jnp.exp(strength) * p**2) for p in jax.tree.leaves(part)), log_lambda, phi)
    return sum(jax.tree.leaves(pulls), start=jnp.zeros(()))


def learned_decay(loss: Callable, start: Phi) -> Problem:
    """The bilevel problem above: `theta` is `log_lambda`; inner learning always starts at `start`, a tree like phi.

    loss: `(phi, data) -> scalar`, the error on training or held-out data.
    """
    return Problem(
        lambda phi, log_lambda, support: loss(phi, support) + decay(phi, log_lambda),
        lambda phi, log_lambda, query: loss(phi, query),
        lambda log_lambda, support: start,
    )


def one(phi: Phi, strength) -> jax.Array:
    """One hyperparameter for all weights: the logarithm of `strength` > 0, a scalar."""
    return _log(strength)


def per_layer(phi: Phi, strength):
    """One for each leaf of phi (a layer's weights, its biases, ...): a tree of scalars."""
    return jax.tree.map(lambda p: _log(strength), phi)


def per_unit(phi: Phi, strength):
    """One for each unit: for a leaf (in, out) or (out,) the shape (out,)."""
    return jax.tree.map(lambda p: jnp.full(p.shape[-1:], _log(strength)), phi)


def per_weight(phi: Phi, strength):
    """As many hyperparameters as weights: a tree shaped like phi."""
    return jax.tree.map(lambda p: jnp.full_like(p, _log(strength)), phi)


def _log(strength):
    if (value := concrete(strength)) is not None and value <= 0:
        raise ValueError(f"the strength is {value:g}; it is learned by its logarithm, so it must be positive (1e-6 is nearly none).")
    return jnp.log(jnp.asarray(strength))
