"""Top-down modulation: a slow network whose neurons get a gain and a shift of their own for every task (Zucchet et al. 2022).

    h_l = tanh(g_l * (W_l h_{l-1} + b_l) + s_l),   l = 1..L,          y = A h_L + c                               (10)

Fast are the gains g_l, the shifts s_l and the read-out (A, c); slow are the weights and biases (W_l, b_l), the *body*, and where the
fast ones start. The body stands in both losses, so the contrastive rule sees it through ordinary weight derivatives:

    L_in = L(phi, body, support) + pull * sum (phi - start)^2,        L_out = L(phi, body, query)

With e_l = -dL/du_l the error at the drive u_l (the argument of tanh), the rule is a contrast of products of presynaptic rates and errors,

    Delta W_l = 1/beta [ <(g e)_l h_{l-1}'>_support + beta <(g e)_l h_{l-1}'>_query  at phi_beta
                         - <(g e)_l h_{l-1}'>_support  at phi_0 ]                                                 (11)

`hebbian` and `consolidate` compute it from a circuit's own rates and errors, with no derivative taken. Without a pull, nothing in the
losses names the start: the rule is blind to it (`cmlcore.theory.diagnostics.blind`), and `divided` asks another estimator.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cmlcore import trees
from cmlcore.bilevel import Problem, concrete, require_nonzero_beta
from cmlcore.estimate import MetaGradient
from cmlcore.models.mlp import init_mlp


class Modulation(NamedTuple):
    """The fast parameters of (10).

    gains, shifts: tuples with one (width,) array for each hidden layer.
    readout: `{"w": (width, out), "b": (out,)}`, the read-out A and c.
    """

    gains: tuple
    shifts: tuple
    readout: dict


class Slow(NamedTuple):
    """The slow parameters: the body, a tree, and the values at which the fast parameters start, a tree shaped like phi."""

    body: Any
    start: Any


def init_modulated(key, widths) -> Slow:
    """Random weights for layers of `widths` units, as `init_mlp` draws them; gains start at 1, shifts at 0.

    The body is a list of `{"w": (in, out), "b": (out,)}`, one for each hidden layer; the start is a `Modulation`.
    """
    *body, readout = init_mlp(key, widths)
    hidden = widths[1:-1]
    ones, zeros = (tuple(jnp.full(n, value) for n in hidden) for value in (1.0, 0.0))
    return Slow(body, Modulation(ones, zeros, readout))


def tuning(phi: Modulation, body, x) -> list[jax.Array]:
    """The rates h_1 .. h_L of all hidden units at inputs `x` (examples, in): a list of (examples, width)."""
    rates = []
    for layer, gain, shift in zip(body, phi.gains, phi.shifts, strict=True):
        x = jnp.tanh(gain * (x @ layer["w"] + layer["b"]) + shift)
        rates.append(x)
    return rates


def modulated(parameters: tuple[Modulation, Any], x) -> jax.Array:
    """The network's output (10) for `parameters = (phi, body)`: `(examples, in) -> (examples, out)`."""
    phi, body = parameters
    return tuning(phi, body, x)[-1] @ phi.readout["w"] + phi.readout["b"]


def dual(loss: Callable, pull=0.0) -> Problem:
    """The bilevel problem of a slow body and a fast rest: `theta` is a `Slow`, learning starts at `theta.start`.

    loss: `((phi, body), data) -> scalar`, the error on support or query.
    pull: how strongly the fast parameters are held to their start, summed, without a 1/2; may be traced. With 0 the start is a
    constant of the contrastive rule. Raises ValueError if it is negative.
    """
    if (value := concrete(pull)) is not None and value < 0:
        raise ValueError(f"pull is {value:g}; it must not be negative. Use 0 to let the fast parameters go where they like.")

    def inner(phi, theta, support):
        away = trees.sub(phi, theta.start)
        return loss((phi, theta.body), support) + pull * trees.dot(away, away)

    return Problem(inner, lambda phi, theta, query: loss((phi, theta.body), query), init=lambda theta, support: theta.start)


def divided(body: MetaGradient, start: MetaGradient) -> MetaGradient:
    """Two estimators for the two parts of a `Slow`: the meta-gradient of the body from one, that of the start from the other.

    So a start that the contrastive rule cannot see is learned by one that can, such as `first_order`. Both get the same key.
    """

    def estimate(problem, theta, task, key=None):
        one, other = body(problem, theta, task, key), start(problem, theta, task, key)
        return one._replace(grad=Slow(one.grad.body, other.grad.start))

    return estimate


# ---- the local rule --------------------------------------------------------------------------------------------------


def hebbian(phi: Modulation, body, x, error) -> list[dict[str, jax.Array]]:
    """The products of (11), summed over examples: a list like `body`, of `{"w": (in, out), "b": (out,)}`.

    x: inputs (examples, in). error: (examples, out), what the outputs should change by, -dL/dy.
    Errors come down through the read-out and, times the gain of the unit above, through the weights (the circuit of
    Rumelhart et al. 1986); every product is of two numbers that meet at the synapse.
    """
    rates = tuning(phi, body, x)
    wish = error @ phi.readout["w"].T  # what the rates of the layer should change by
    products = []
    for layer, gain, rate, below in reversed(list(zip(body, phi.gains, rates, [x, *rates[:-1]]))):
        gated = gain * (1 - rate**2) * wish
        products.append({"w": below.T @ gated, "b": gated.sum(0)})
        wish = gated @ layer["w"].T
    return products[::-1]


def consolidate(body, reference: Modulation, nudged: Modulation, task, beta) -> list[dict[str, jax.Array]]:
    """The local update (11) of the body for the mean squared error, from the two ends of learning (Zucchet et al. 2022).

    reference, nudged: fast parameters at the ends of two phases; the reference is the control's end for `matched`.
    task: its support and query have inputs `x` and targets `y`, (examples, 1). Returns the change for a learning rate of 1, a tree shaped
    like `body`: minus the estimator's `grad.body`. Raises ValueError for beta = 0.
    """
    require_nonzero_beta(beta)

    def products(phi, points):
        error = 2 * (points.y - modulated((phi, body), points.x)) / points.y.size
        return hebbian(phi, body, points.x, error)

    nudge = trees.scale(beta, products(nudged, task.query))
    after = trees.add(products(nudged, task.support), nudge)
    return trees.scale(1 / beta, trees.sub(after, products(reference, task.support)))
