"""Quadratic bilevel problems, in which every quantity of the theory has a closed form (formulas derived in this book).

    L_in(phi, theta) = 1/2 (phi - a)' A (phi - a) + 1/2 sum_i s_i (phi_i - omega_i)^2
    L_out(phi)       = 1/2 (phi - b)' B (phi - b)                                  theta = (omega, s)

Every term here is an energy with its own 1/2, the pull included: a spring of stiffness `s`, whose curvature is `s`.
The pull `lambda` of the complex synapse (`cmlcore.models.synapse`) carries no 1/2, so `s = 2 lambda`. The two have
two names, and neither ever stands for the other.

A task is data, as in every other problem: its support is the bowl `(A, a)`, its query the bowl `(B, b)`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cmlcore import trees
from cmlcore.bilevel import Problem, Task, concrete


class Bowl(NamedTuple):
    """The loss `1/2 (phi - center)' curvature (phi - center)`: a (d, d) symmetric matrix and a (d,) vector."""

    curvature: jax.Array
    center: jax.Array


class Springs(NamedTuple):
    """The meta-parameters: where each spring rests and how stiff it is, (d,) each; stiffness must not be negative."""

    omega: jax.Array
    stiffness: jax.Array


def bowl_loss(phi, bowl: Bowl):
    """The height of `bowl` at `phi`, a scalar."""
    away = phi - bowl.center
    return away @ bowl.curvature @ away / 2


def _inner(phi, theta: Springs, support: Bowl):
    return bowl_loss(phi, support) + jnp.sum(theta.stiffness * (phi - theta.omega) ** 2) / 2


def _outer(phi, theta: Springs, query: Bowl):
    return bowl_loss(phi, query)


quadratic = Problem(_inner, _outer, init=lambda theta, support: jnp.zeros_like(theta.omega))
"""The problem; inner learning starts at zero, so that nothing depends on theta through the starting point."""


def golden() -> tuple[Springs, Task]:
    """The one-dimensional case to check by hand: `1/2 (phi - 1)^2 + 1/4 (phi - omega)^2` against `(phi + 1)^2`.

    At omega = 0, s = 1/2: `phi*_beta = (1 - 2 beta) / (3/2 + 2 beta)`, so phi*_0 = 2/3 and L_out = 25/9;
    dL_out/domega = 10/9 and dL_out/ds = -40/27.
    """
    theta = Springs(omega=jnp.zeros(1), stiffness=jnp.full(1, 0.5))
    return theta, Task(Bowl(jnp.ones((1, 1)), jnp.ones(1)), Bowl(jnp.full((1, 1), 2.0), -jnp.ones(1)))


class _Draws(NamedTuple):
    """Standard random numbers, before any knob has shaped them: normal, but `uniform` in [0, 1)."""

    first: Any
    second: Any
    uniform: Any
    a: Any
    b: Any
    omega: Any


def from_seed(seed: int, dim: int = 20, inner=(0.1, 10.0), outer=(0.5, 5.0), stiffness=(0.3, 3.0)) -> tuple[Springs, Task]:
    """A random problem drawn by numpy's `default_rng(seed)`: the same numbers on every machine and version of JAX.

    dim:          d, the number of fast parameters.
    inner, outer: lowest and highest eigenvalue of A and of B, geometric in between, in random rotations; may be traced.
    stiffness:    the range in which each s_i is log-uniform; may be traced.
    a, b and omega are standard normal. Raises ValueError for a spectrum that is not positive and ascending.
    """
    rng = np.random.default_rng(seed)
    square, vector = (lambda: rng.standard_normal((dim, dim))), (lambda: rng.standard_normal(dim))
    draws = _Draws(square(), square(), rng.uniform(size=dim), vector(), vector(), vector())
    return _shape(draws, inner, outer, stiffness)


def from_key(key, dim: int = 20, inner=(0.1, 10.0), outer=(0.5, 5.0), stiffness=(0.3, 3.0)) -> tuple[Springs, Task]:
    """As `from_seed`, drawn from a `jax.random.key`, so that `jax.vmap` over keys gives a family of problems."""
    shapes = _Draws((dim, dim), (dim, dim), (dim,), (dim,), (dim,), (dim,))
    keys = _Draws(*jax.random.split(key, len(shapes)))
    draws = _Draws(*(jax.random.normal(k, shape) for k, shape in zip(keys, shapes)))
    return _shape(draws._replace(uniform=jax.random.uniform(keys.uniform, (dim,))), inner, outer, stiffness)


def _shape(draws: _Draws, inner, outer, stiffness) -> tuple[Springs, Task]:
    for name, (low, high) in {"inner": inner, "outer": outer, "stiffness": stiffness}.items():
        _require_ascending(name, low, high)
    first, second, uniform, a, b, omega = (jnp.asarray(x, float) for x in draws)
    low, high = stiffness
    theta = Springs(omega, low * (high / low) ** uniform)
    return theta, Task(Bowl(_rotated(first, *inner), a), Bowl(_rotated(second, *outer), b))


def _rotated(normal, low, high):
    """A symmetric matrix with a geometric spectrum in [low, high], its eigenvectors from the QR of `normal`."""
    vectors, _ = jnp.linalg.qr(normal)
    spectrum = low * (high / low) ** jnp.linspace(0, 1, len(normal))
    return (vectors * spectrum) @ vectors.T


def _require_ascending(name: str, low, high) -> None:
    lowest, highest = concrete(low), concrete(high)
    if lowest is not None and highest is not None and not 0 < lowest <= highest:
        raise ValueError(f"{name} is ({low}, {high}); give a lowest value above 0 and a highest one not below it.")


def hessian(theta: Springs, task: Task, beta=0.0):
    """The curvature `A + diag(s) + beta B` of `L_in + beta L_out`, (d, d)."""
    return task.support.curvature + jnp.diag(theta.stiffness) + beta * task.query.curvature


def minimizer(theta: Springs, task: Task, beta=0.0):
    """`phi*_beta`, the minimizer of `L_in + beta L_out`, (d,); it exists for `beta > -largest_negative_nudge`."""
    (A, a), (B, b) = task
    return jnp.linalg.solve(hessian(theta, task, beta), A @ a + theta.stiffness * theta.omega + beta * B @ b)


def exact_gradient(theta: Springs, task: Task) -> Springs:
    """The meta-gradient `d/dtheta L_out(phi*_0)`: with `v = H^-1 B (phi*_0 - b)`, `s v` for omega and `-(phi*_0 - omega) v` for s."""
    return exact_contrast(theta, task, 0.0)


def exact_contrast(theta: Springs, task: Task, beta) -> Springs:
    """What the one-sided rule gives at nudge `beta` when both phases are solved exactly.

    The minimizer slides by `-beta v` with `v = (H + beta B)^-1 B (phi*_0 - b)`: a finite nudge *damps* the inverse
    curvature by the outer one, and that is all its bias. No division by beta, so it holds down to beta = 0, and no
    rounding error is amplified. The symmetric rule gives the mean of `beta` and `-beta`, the three-point rule
    `2 contrast(beta) - contrast(2 beta)`.
    """
    phi = minimizer(theta, task)
    v = jnp.linalg.solve(hessian(theta, task, beta), task.query.curvature @ (phi - task.query.center))
    return Springs(theta.stiffness * v, (theta.omega - phi) * v + beta * v**2 / 2)


def exact_symmetric(theta: Springs, task: Task, beta) -> Springs:
    """What the symmetric rule gives when both nudged phases are solved exactly: the mean of nudges `beta` and `-beta`."""
    both = trees.add(exact_contrast(theta, task, beta), exact_contrast(theta, task, -beta))
    return trees.scale(0.5, both)


def largest_negative_nudge(theta: Springs, task: Task):
    """The beta at which `L_in - beta L_out` stops being convex: `1 / lambda_max(H^-1 B)`, a scalar."""
    root = jnp.linalg.cholesky(hessian(theta, task))
    half = jnp.linalg.solve(root, task.query.curvature)
    return 1 / jnp.linalg.eigvalsh(jnp.linalg.solve(root, half.T))[-1]
