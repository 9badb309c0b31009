"""Nudges in the complex plane: learning once with a nudge along the imaginary axis, on a circle, or with none at all.

Let F(b) be d/dtheta of L_in + b L_out at the end of a phase nudged by b. F is real where b is, and `matched` is [F(beta) - F(0)] / beta. Where the
losses are holomorphic, so is F, and its derivative at 0, the limit of `matched`, needs no difference:

    imaginary   Im F(i beta) / beta                           = F'(0) + O(beta^2)
    contour     mean over N nudges r e^{it} of F e^{-it} / r  = F'(0) + O(r^N)
    tangent     the derivative in b itself                    = F'(0)

The first is the complex step (Squire & Trapp 1998) taken in the nudge, a relative of holomorphic equilibrium propagation (Laborieux & Zenke 2022),
whose circle the second one takes over. Nothing is subtracted, so rounding has nothing to divide by beta. Of this book; the chapter *Learning
once, in the complex plane* has the proofs.
"""

import jax
import jax.numpy as jnp

from cmlcore.bilevel import augmented, by_value, free, require_nonzero_beta
from cmlcore.estimate import Estimate, MetaGradient, nudged_phase, phase
from cmlcore.estimators.holomorphic import joined, lifted, on_pairs, pair, require_linear, slope
from cmlcore.solve import Solved, Solver


def _free_phase(problem, theta, task, solver, key):
    """The free solution, real, and the key of the nudged phase."""
    first, second = (None, None) if key is None else jax.random.split(key)
    return solver(free(problem, theta), problem.init(theta, task.support), task, first), second


def _nudged(problem, theta, task, solver, start: Solved, nudge, key):
    """F(nudge), a complex tree like theta, and how the phase from `start.phi` (real) with the complex `nudge` ended."""
    objective = on_pairs(augmented(problem, theta, nudge))
    require_linear(solver, objective, pair(start.phi), task, key)
    ended = solver(objective, pair(start.phi), task, key)
    phi = joined(ended.phi)
    return slope(lambda th: augmented(problem, th, nudge)(phi, task), lifted(theta)), nudged_phase(ended, start)


@by_value
def imaginary(free_solver: Solver, nudged_solver: Solver, beta) -> MetaGradient:
    """Learning once with the nudge i beta: the real part is the control, the imaginary part the nudged difference; bias O(beta^2).

    The complex step (Squire & Trapp 1998), taken in the nudge. beta: a scalar; in single precision anything from 1e-3 to 1e-10 will do. Raises ValueError for beta = 0; the estimator raises TypeError for a
    loss that is not holomorphic, a nudged solver that is not linear in its gradients (Adam: take `cmlcore.estimators.holomorphic.adam`), or a complex start.
    """
    require_nonzero_beta(beta)

    def estimate(problem, theta, task, key=None):
        start, second = _free_phase(problem, theta, task, free_solver, key)
        found, ended = _nudged(problem, theta, task, nudged_solver, start, jax.lax.complex(0.0 * beta, 1.0 * beta), second)
        grad = jax.tree.map(lambda g: jnp.imag(g) / beta, found)
        return Estimate(grad, problem.outer(start.phi, theta, task.query), start.phi, {"free": phase(start), "nudged_complex": ended})

    return estimate


def contour(free_solver: Solver, nudged_solver: Solver, radius, nudges: int = 8) -> MetaGradient:
    """`nudges` nudges, evenly on a circle of `radius` around 0, none of them real; bias O(radius^nudges), inside the nearest singularity
    (Laborieux & Zenke 2022, for energies).

    The nudges come in conjugate pairs whose phases are conjugate, so half of them are learned, side by side. Two are `imaginary`. Raises
    ValueError for radius = 0 and for a number of nudges that is odd or below 2; the estimator raises TypeError as that of `imaginary` does.
    """
    require_nonzero_beta(radius)
    if nudges < 2 or nudges % 2:
        raise ValueError(f"nudges is {nudges}; on the circle they come in conjugate pairs: give an even number, 2 or more.")
    angles = jnp.pi * (2 * jnp.arange(nudges // 2) + 1) / nudges

    def estimate(problem, theta, task, key=None):
        start, second = _free_phase(problem, theta, task, free_solver, key)
        one = lambda nudge: _nudged(problem, theta, task, nudged_solver, start, nudge, second)
        back = jnp.exp(-1j * angles) / radius
        found, ended = jax.vmap(one)(radius * jnp.exp(1j * angles))
        grad = jax.tree.map(lambda g: jnp.mean(jnp.real(jnp.expand_dims(back, tuple(range(1, g.ndim))) * g), axis=0), found)
        return Estimate(grad, problem.outer(start.phi, theta, task.query), start.phi, {"free": phase(start), "nudged_complex": ended})

    return estimate


@by_value
def tangent(free_solver: Solver, nudged_solver: Solver) -> MetaGradient:
    """The derivative in the nudge, at 0, by forward mode (`jax.jvp`): one number, however many slow parameters there are; no bias.
    Of this book.

    One product with a second derivative for each nudged step, none stored: exact, causal, and not local. It differentiates through the nudged
    solver, any that JAX can go through forwards (Adam and rectifiers among them).
    """

    def estimate(problem, theta, task, key=None):
        start, second = _free_phase(problem, theta, task, free_solver, key)

        def at(beta):
            ended = nudged_solver(augmented(problem, theta, beta), start.phi, task, second)
            return jax.grad(lambda th: augmented(problem, th, beta)(ended.phi, task))(theta), phase(ended)

        zero = jnp.zeros((), jnp.result_type(*jax.tree.leaves(theta)))
        _, grad, ended = jax.jvp(at, (zero,), (jnp.ones_like(zero),), has_aux=True)
        return Estimate(grad, problem.outer(start.phi, theta, task.query), start.phi, {"free": phase(start), "nudged_tangent": ended})

    return estimate
