"""The complex synapse: a fast weight phi, pulled with strength lambda to a slow, consolidated weight omega (Zucchet et al. 2022).

    L_in(phi, theta) = L(phi, support) + sum_i lambda_i (phi_i - omega_i)^2,     L_out(phi) = L(phi, query)        (7)

One convention everywhere in this package: the pull is *summed* over synapses and carries no factor 1/2. A learned
lambda is `exp(log_lambda)`, so it is positive whatever the outer optimizer does.

The contrastive rule on (7) is local. With one lambda per synapse, and a learning rate of 1,

    Delta omega  =  2 lambda / beta (phi_beta - phi_0)                                                            (8)
    Delta lambda = -1 / beta [ (phi_beta - omega)^2 - (phi_0 - omega)^2 ]                                         (9)

`three_factor` and `consolidate` compute them from a synapse's own variables, with no loss, no data and no derivative.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cmlcore import trees
from cmlcore.bilevel import Problem, by_value, concrete, require_nonzero_beta


class Synapses(NamedTuple):
    """The slow variables of complex synapses whose lambda is learned too.

    omega:      consolidated weights, shaped like phi.
    log_lambda: logarithms of the pulls, shaped like phi (one per synapse) or scalars per leaf.
    """

    omega: Any
    log_lambda: Any


@by_value
def fixed_pull(loss: Callable, strength) -> Problem:
    """Complex synapses with one fixed pull: `theta` is omega itself, and phi starts there.

    loss: `(phi, data) -> scalar`, the error of the fast weights on support or query.
    strength: lambda >= 0, may be traced. Raises ValueError if it is negative.
    """
    if (value := concrete(strength)) is not None and value < 0:
        raise ValueError(f"lambda is {value:g}; a pull must not be negative (it would push phi away from omega without bound). Use 0 for no pull.")

    def inner(phi, omega, support):
        pull = sum(jnp.sum((p - o) ** 2) for p, o in zip(jax.tree.leaves(phi), jax.tree.leaves(omega), strict=True))
        return loss(phi, support) + strength * pull

    return Problem(inner, lambda phi, omega, query: loss(phi, query))


@by_value
def learned_pull(loss: Callable) -> Problem:
    """Complex synapses that learn omega and lambda: `theta` is a `Synapses`, and phi starts at omega."""

    def inner(phi, theta, support):
        pulls = jax.tree.map(lambda p, o, s: jnp.sum(jnp.exp(s) * (p - o) ** 2), phi, theta.omega, theta.log_lambda)
        return loss(phi, support) + sum(jax.tree.leaves(pulls))

    return Problem(inner, lambda phi, theta, query: loss(phi, query), init=lambda theta, support: theta.omega)


def three_factor(theta: Synapses, phi, modulator) -> Synapses:
    """What the end of one phase writes into the slow variables: a synapse's own numbers times one broadcast scalar M.

        omega += M 2 lambda (phi - omega),       log lambda -= M lambda (phi - omega)^2

    theta: `Synapses` with one lambda per synapse; phi: the fast weights at the end of the phase; both shaped alike.
    modulator: M, the third factor, a scalar: `1 / beta` after the nudged phase, `-1 / beta` after its reference.

    Returns the change, shaped like theta. The factor lambda in the second one is the chain rule of the parametrization:
    it is d lambda / d log lambda. Raises ValueError where synapses share a lambda: its change would need to know them all.
    """
    _require_own_lambda(phi, theta.log_lambda)
    pull = jax.tree.map(jnp.exp, theta.log_lambda)
    away = trees.sub(phi, theta.omega)
    return Synapses(
        jax.tree.map(lambda s, a: modulator * 2 * s * a, pull, away),
        jax.tree.map(lambda s, a: -modulator * s * a**2, pull, away),
    )


def consolidate(theta: Synapses, reference, nudged, beta) -> Synapses:
    """The local updates (8) and (9), from two photographs of the fast weights (Zucchet et al. 2022).

    reference, nudged: fast weights at the ends of two phases, shaped like `theta.omega`. The reference is the free phase's
    end for `contrastive`, the control's for `matched`; for `symmetric` it is the phase nudged by -beta, and `beta` here is twice
    the nudge. Returns the change for a learning rate of 1: minus the estimator's `grad`. Raises ValueError for beta = 0.
    """
    require_nonzero_beta(beta)
    return trees.add(three_factor(theta, reference, -1 / beta), three_factor(theta, nudged, 1 / beta))


def _require_own_lambda(phi, log_lambda) -> None:
    for p, s in zip(jax.tree.leaves(phi), jax.tree.leaves(log_lambda), strict=True):
        if jnp.shape(p) != jnp.shape(s):
            raise ValueError(
                f"log_lambda has shape {jnp.shape(s)} where phi has {jnp.shape(p)}; a local rule needs one lambda per synapse: "
                "jnp.full_like(phi, log_lambda). A shared lambda can be learned with the estimators."
            )
