"""How wrong the contrastive rule is: a bound on its error, the best nudge, and the powers of the solution error.

For strongly convex, smooth losses, nudge beta > 0 and solutions with |phihat_0 - phi*_0| <= delta and
|phihat_beta - phi*_beta| <= delta' (Zucchet et al. 2022; the constants and the proofs are in the chapter *How wrong, and why*):

    |estimate - exact|  <=  B_in (delta + delta') / beta  +  B_out delta'  +  C beta / (1 + beta)                 (4)

Where both runs share one start, one length and one learner (`matched`, `symmetric`), nothing of the free phase is divided by beta:

    |matched - exact|    <=  a rho^T_1 + b delta + c beta / (1 + beta)
    |symmetric - exact|  <=  a rho^T_1 + b delta + c beta^2                                                   (shared)

On the quadratic problems every constant has a closed form. Errors here are norms over all of theta, not relative ones.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from cmlcore import trees
from cmlcore.bilevel import augmented
from cmlcore.theory.quadratic import Springs, exact_gradient, hessian, minimizer, quadratic


class Constants(NamedTuple):
    """What bound (4) has to know of a problem, all scalars.

    inner: B_in, the Lipschitz constant of `phi -> d/dtheta L_in`.
    outer: B_out, that of `phi -> d/dtheta L_out`.
    bias:  C, what a finite nudge costs.
    mu, L: the lowest and the highest curvature of both losses.
    push:  G_0 = |d/dphi L_out(phi*_0)|, how hard the test pulls at the free solution.
    start: D, the distance from where learning starts to phi*_0.
    """

    inner: jax.Array
    outer: jax.Array
    bias: jax.Array
    mu: jax.Array
    L: jax.Array
    push: jax.Array
    start: jax.Array


def constants(theta: Springs, task, delta=0.0, beta=jnp.inf) -> Constants:
    """The constants of a quadratic problem, valid for solution errors up to `delta` and nudges up to `beta`, both scalars.

    The derivative in a stiffness, `(phi - omega)^2 / 2`, is Lipschitz only where phi is bounded, so `inner` depends on
    how far solutions can be from phi*_0: `delta` plus the slide of the minimum, at most `beta / (1 + beta) G_0 / mu`.
    """
    phi, out = minimizer(theta, task), task.query.curvature
    low_in, *_, high_in = jnp.linalg.eigvalsh(hessian(theta, task))
    low_out, *_, high_out = jnp.linalg.eigvalsh(out)
    mu = jnp.minimum(low_in, low_out)
    wish = out @ (phi - task.query.center)
    push = jnp.linalg.norm(wish)
    echo = out @ jnp.linalg.solve(hessian(theta, task), wish)
    reach = delta + push / mu / (1 + 1 / jnp.asarray(beta))
    return Constants(
        inner=_lipschitz(theta, phi, reach),
        outer=jnp.zeros(()),
        bias=_lipschitz(theta, phi, 0.0) * jnp.linalg.norm(echo) / mu + (push / mu) ** 2 / 2,
        mu=mu,
        L=jnp.maximum(high_in, high_out),
        push=push,
        start=jnp.linalg.norm(phi - quadratic.init(theta, None)),
    )


def _lipschitz(theta: Springs, phi, reach):
    """The largest norm of the derivative of `phi -> (-s (phi - omega), (phi - omega)^2 / 2)` within `reach` of phi."""
    return jnp.max(jnp.hypot(theta.stiffness, jnp.abs(phi - theta.omega) + reach))


def bound(known: Constants, delta, nudged_delta, beta):
    """The right side of (4): unfinished learning over beta, the direct term, and bias, a scalar."""
    unfinished = known.inner * (delta + nudged_delta) / beta
    return unfinished + known.outer * nudged_delta + known.bias * beta / (1 + beta)


def bound_in_steps(known: Constants, free_steps, nudged_steps, beta):
    """Bound (4) with gradient descent of T_0 and T_1 steps and learning rate `1 / (L (1 + beta))`, a scalar.

    Each step shortens a distance by `rho = 1 - mu / L`, and the nudged phase starts at the free solution:

        delta <= rho^T_0 D,        delta' <= rho^T_1 (delta + beta / (1 + beta) G_0 / mu)                             (6)
    """
    rho = 1 - known.mu / known.L
    delta = rho**free_steps * known.start
    nudged_delta = rho**nudged_steps * (delta + beta / (1 + beta) * known.push / known.mu)
    return bound(known, delta, nudged_delta, beta)


class Shared(NamedTuple):
    """What the bounds for shared transients have to know: a, b and c of the module's text, and rho of the nudged phase; scalars."""

    nudged: jax.Array
    unfinished: jax.Array
    bias: jax.Array
    rho: jax.Array


def matched_constants(theta: Springs, task, delta, beta) -> Shared:
    """The constants for `matched` on a quadratic problem, for a free solution off by at most `delta` and the nudge `beta`, scalars.

    Every nudged step has the learning rate `1 / (L (1 + beta))`. With B_out = M = 0 and J = 1, for `G = G_0 + L delta`:

        a = B_in G_0 / mu,   b = (B_in L + G_0) / mu,   c = (B_in L + G / 2) G_0 / mu^2
    """
    known = constants(theta, task)
    mu, L, push, pull = _of_both(known, delta)
    inner = _lipschitz(theta, minimizer(theta, task), delta + beta / (1 + beta) * pull / mu)
    return Shared(inner * push / mu, (inner * L + push) / mu, (inner * L + pull / 2) * push / mu**2, 1 - mu / L)


def symmetric_constants(theta: Springs, task, delta, beta) -> Shared:
    """The same for `symmetric`, scalars, `beta` below `largest_negative_nudge`; a and b are those of the limit, and with m the least curvature
    of `L_in - beta L_out`, `B` the largest of L_out, `G = (G_0 + L delta) (1 + beta B / m)`:

        c = B G / m^3 (B_in B + G)
    """
    known = constants(theta, task)
    mu, L, push, pull = _of_both(known, delta)
    low = jnp.linalg.eigvalsh(hessian(theta, task, -beta))[0]
    steep = jnp.linalg.eigvalsh(task.query.curvature)[-1]
    inner = _lipschitz(theta, minimizer(theta, task), delta + beta * pull / low)
    most = pull * (1 + beta * steep / low)
    bias = steep * most / low**3 * (inner * steep + most)
    return Shared(inner * push / mu, (inner * L + push) / mu, bias, 1 - mu / (L * (1 + beta)))


def _of_both(known: Constants, delta):
    """mu, L, G_0, and G: how hard the test pulls anywhere within `delta` of the free solution."""
    return known.mu, known.L, known.push, known.push + known.L * delta


def matched_bound(shared: Shared, delta, nudged_steps, beta):
    """The bound on the error of `matched`, a scalar; `delta` is the free solution's error, nothing is divided by beta."""
    return shared.nudged * shared.rho**nudged_steps + shared.unfinished * delta + shared.bias * beta / (1 + beta)


def symmetric_bound(shared: Shared, delta, nudged_steps, beta):
    """The bound on the error of `symmetric`, a scalar."""
    return shared.nudged * shared.rho**nudged_steps + shared.unfinished * delta + shared.bias * beta**2


def best_beta(known: Constants, delta, nudged_delta):
    """The nudge that makes (4) smallest, and the bound there: two scalars, the nudge infinite where more is always better.

    In the constants `known`,

        beta* = sqrt(a) / (sqrt(C) - sqrt(a)),   bound = 2 sqrt(a C) - a + B_out delta',   a = B_in (delta + delta') < C   (5)
    """
    a = known.inner * (delta + nudged_delta)
    root, limit = jnp.sqrt(a), jnp.sqrt(known.bias)
    finite = root < limit
    beta = jnp.where(finite, root / jnp.where(finite, limit - root, 1), jnp.inf)
    return beta, jnp.where(finite, 2 * root * limit - a, known.bias) + known.outer * nudged_delta


def surrogate(theta: Springs, task, beta):
    """`S_beta = [min (L_in + beta L_out) - min L_in] / beta`, whose exact gradient the one-sided rule is, a scalar."""
    depth = lambda b: augmented(quadratic, theta, b)(minimizer(theta, task, b), task)
    return (depth(beta) - depth(0.0)) / beta


def noisy_error(theta: Springs, task, against, beta, delta, key):
    """The error of one contrast whose two solutions are each off by `delta` in a random direction, a scalar.

    against: the reference's nudge as a multiple of `beta`: 0 is the one-sided rule, -1 the symmetric one.
    """
    shape = theta.omega.shape

    def partial_at(nudge, key):
        off = jax.random.normal(key, shape, theta.omega.dtype)
        phi = minimizer(theta, task, nudge) + delta * off / jnp.linalg.norm(off)
        return jax.grad(lambda th: augmented(quadratic, th, nudge)(phi, task))(theta)

    first, second = jax.random.split(key)
    contrast = trees.sub(partial_at(beta, first), partial_at(against * beta, second))
    estimate = trees.scale(1 / (beta * (1 - against)), contrast)
    return trees.norm(trees.sub(estimate, exact_gradient(theta, task)))


class Scaling(NamedTuple):
    """How the best nudge and its error follow the solution error: `beta* ~ delta^power`, `error ~ delta^power`.

    beta_power, error_power: least squares between logarithms, scalars.
    deltas, betas, errors:   (n,) each: solution errors, the best nudge for each, and the error there.
    """

    beta_power: jax.Array
    error_power: jax.Array
    deltas: jax.Array
    betas: jax.Array
    errors: jax.Array


def scaling(theta: Springs, task, against, deltas, betas, keys) -> Scaling:
    """The powers of delta, measured: `noisy_error` over all deltas and betas, root mean square over `keys`, then fitted.

    against: 0 for the one-sided rule, -1 for the symmetric one, whose `betas` must stay below `largest_negative_nudge`.
    deltas (n,), betas (m,) ascending, keys (k,). Raises ValueError if a best nudge is at an end of `betas`, where it is none.
    """
    errors = _all_errors(theta, task, against, deltas, betas, keys)
    at = jnp.argmin(errors, axis=1)
    if bool(jnp.any((at == 0) | (at == len(betas) - 1))):
        raise ValueError("the best nudge is at an end of betas; give more, or other, betas so that each delta has its own inside.")
    best, least = jax.vmap(_bottom, in_axes=(None, 0, 0))(jnp.log(betas), jnp.log(errors), at)
    return Scaling(_slope(jnp.log(deltas), best), _slope(jnp.log(deltas), least), deltas, jnp.exp(best), jnp.exp(least))


@jax.jit
def _all_errors(theta, task, against, deltas, betas, keys):
    """Errors (n, m), root mean square over keys. The same noise at every beta and delta: the curves are smooth."""
    one = lambda delta, beta, key: noisy_error(theta, task, against, beta, delta, key)
    over = jax.vmap(jax.vmap(jax.vmap(one, (None, None, 0)), (None, 0, None)), (0, None, None))
    return jnp.sqrt(jnp.mean(over(deltas, betas, keys) ** 2, axis=-1))


def _bottom(x, y, at):
    """The lowest point of the parabola through point `at` and its two neighbors, so that a grid gives no steps."""
    near = lambda values, shift: values[at + shift]
    left, right = (near(y, s) - near(y, 0) for s in (-1, 1))
    width = near(x, 1) - near(x, 0)
    shift = (left - right) / (left + right) / 2
    return near(x, 0) + shift * width, near(y, 0) - shift**2 * (left + right) / 2


def _slope(x, y):
    x = x - jnp.mean(x)
    return jnp.sum(x * y) / jnp.sum(x * x)
