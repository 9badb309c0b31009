"""The complex synapse: a fast weight phi, pulled with strength lambda to a slow, consolidated weight omega (Zucchet et al. 2022).

    L_in(phi, theta) = L(phi, support) + sum_i lambda_i (phi_i - omega_i)^2,     L_out(phi) = L(phi, query)        (7)

One convention everywhere in this package: the pull is *summed* over synapses and carries no factor 1/2. A learned
lambda is `exp(log_lambda)`, so it is positive whatever the outer optimizer does.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cmlcore.bilevel import Problem, concrete


class Synapses(NamedTuple):
    """The slow variables of complex synapses whose lambda is learned too.

    omega:      consolidated weights, shaped like phi.
    log_lambda: logarithms of the pulls, shaped like phi (one per synapse) or scalars per leaf.
    """

    omega: Any
    log_lambda: Any


def fixed_pull(loss: Callable, strength) -> Problem:
    """Complex synapses with one fixed pull: `theta` is omega itself, and phi starts there.

    loss: `(phi, data) -> scalar`, the error of the fast weights on support or query.
    strength: lambda >= 0, may be traced. Raises ValueError if it is negative.
    """
    if (value := concrete(strength)) is not None and value < 0:
        raise ValueError(
            f"lambda is {value:g}; a pull must not be negative (it would push phi away from omega without bound). "
            "Use 0 for no pull."
        )

    def inner(phi, omega, support):
        pull = sum(jnp.sum((p - o) ** 2) for p, o in zip(jax.tree.leaves(phi), jax.tree.leaves(omega), strict=True))
        return loss(phi, support) + strength * pull

    return Problem(inner, lambda phi, omega, query: loss(phi, query))


def learned_pull(loss: Callable) -> Problem:
    """Complex synapses that learn omega and lambda: `theta` is a `Synapses`, and phi starts at omega."""

    def inner(phi, theta, support):
        pulls = jax.tree.map(
            lambda p, o, s: jnp.sum(jnp.exp(s) * (p - o) ** 2), phi, theta.omega, theta.log_lambda
        )
        return loss(phi, support) + sum(jax.tree.leaves(pulls))

    return Problem(inner, lambda phi, theta, query: loss(phi, query), init=lambda theta: theta.omega)
