"""Bayesian linear regression with unknown noise, its posterior in closed form (as the reference agents of Riquelme et al. 2018 use it).

Prior: the noise's variance is inverse gamma with shape a and scale b, and given it the weights are normal, N(0, variance / ridge). After
rows x_i with targets y_i, as sums over rows,

    P = ridge I + sum x x',   mean = P^-1 sum x y,   a + n / 2,   b + (sum y^2 - mean' P mean) / 2

Last comes a difference of two large numbers that may be nearly equal: use double precision, `with jax.enable_x64(True)`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Sums(NamedTuple):
    """What is kept of the rows seen so far: xx (features, features), xy (features,), yy and count, scalars."""

    xx: jax.Array
    xy: jax.Array
    yy: jax.Array
    count: jax.Array  # type: ignore[assignment]  # hides tuple.count


class Prior(NamedTuple):
    """ridge: precision of the weights in units of the noise's; shape, scale: of the noise's variance. All positive scalars."""

    ridge: float = 0.25
    shape: float = 6.0
    scale: float = 6.0


class Posterior(NamedTuple):
    """mean (features,); root (features, features), the lower Cholesky factor of P; shape and scale of the noise's variance, scalars."""

    mean: jax.Array
    root: jax.Array
    shape: jax.Array
    scale: jax.Array


def no_rows(features: int) -> Sums:
    """The sums before any row, in the precision that JAX computes in now."""
    return Sums(jnp.zeros((features, features)), jnp.zeros(features), jnp.zeros(()), jnp.zeros(()))


def add_rows(sums: Sums, x, y, weight=None) -> Sums:
    """`sums` with rows x (n, features) and targets y (n,); `weight` (n,) counts each row so often (default: once)."""
    x, y = x.astype(sums.xx.dtype), y.astype(sums.xx.dtype)
    weight = jnp.ones_like(y) if weight is None else weight.astype(y.dtype)
    weighted = x * weight[:, None]
    return Sums(sums.xx + weighted.T @ x, sums.xy + weighted.T @ y, sums.yy + jnp.sum(weight * y * y), sums.count + jnp.sum(weight))


def posterior(sums: Sums, prior: Prior = Prior()) -> Posterior:
    """The posterior after the rows in `sums`. Raises ValueError for a prior that is not positive."""
    if min(prior) <= 0:
        raise ValueError(f"{prior}: ridge, shape and scale must all be positive.")
    root = jnp.linalg.cholesky(sums.xx + prior.ridge * jnp.eye(sums.xy.shape[0], dtype=sums.xx.dtype))
    mean = jax.scipy.linalg.cho_solve((root, True), sums.xy)
    left = sums.yy - jnp.dot(mean, sums.xy)  # mean' P mean = mean' sum x y
    return Posterior(mean, root, prior.shape + sums.count / 2, prior.scale + left / 2)


def sample(belief: Posterior, key) -> jax.Array:
    """Weights (features,) drawn from the posterior: first the noise's variance, then the weights given it."""
    first, second = jax.random.split(key)
    dtype = belief.mean.dtype
    variance = belief.scale / jax.random.gamma(first, belief.shape, dtype=dtype)
    away = jax.random.normal(second, belief.mean.shape, dtype)
    return belief.mean + jnp.sqrt(variance) * jax.scipy.linalg.solve_triangular(belief.root, away, lower=True, trans=1)
