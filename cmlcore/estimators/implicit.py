"""Implicit differentiation: the meta-gradient from the free solution and the inverse curvature, no path stored.

    grad = d_theta L_out - (d_theta d_phi L_in) v,      v = (d_phi^2 L_in)^-1 d_phi L_out,   all at (phi*_0, theta)  (2)

Only how `v` is found differs, so that is an argument: a linear solver `(product, rhs) -> LinearSolved`, where
`product(v)` is the Hessian-vector product.

iMAML (Rajeswaran et al. 2019) is equation (2) for an initialization that inner learning is pulled to:
`implicit(solver, cg(5))` on `cmlcore.models.synapse.fixed_pull(loss, strength)`, with gradient descent or Hessian-free
optimization (`cmlcore.solve.newton`) as the solver. Its proximal weight is written `lambda / 2`; here it is `strength`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp

from cmlcore import trees
from cmlcore.bilevel import by_value, concrete, free
from cmlcore.estimate import Estimate, MetaGradient, Phase, phase
from cmlcore.solve import Result, Solver


class LinearSolved(NamedTuple):
    """The solution `v` of `H v = rhs` that was found, and how many Hessian-vector products it took."""

    v: Any
    products: int


LinearSolver = Callable[[Callable[[Any], Any], Any], LinearSolved]


@by_value
def cg(steps: int) -> LinearSolver:
    """Conjugate gradients from zero; `H` must be positive definite (iMAML: Rajeswaran et al. 2019)."""
    if steps < 1:
        raise ValueError(f"steps is {steps}; conjugate gradients take at least one step.")

    def solve(product, rhs):
        def step(carry, _):
            v, residual, direction, size = carry
            image = product(direction)
            curvature = trees.dot(direction, image)
            # A residual of exactly zero means done: freeze rather than divide 0 by 0.
            length = jnp.where(size > 0, size / jnp.where(size > 0, curvature, 1), 0)
            v = trees.add(v, trees.scale(length, direction))
            residual = trees.sub(residual, trees.scale(length, image))
            new_size = trees.dot(residual, residual)
            ratio = jnp.where(size > 0, new_size / jnp.where(size > 0, size, 1), 0)
            return (v, residual, trees.add(residual, trees.scale(ratio, direction)), new_size), None

        start = (jax.tree.map(jnp.zeros_like, rhs), rhs, rhs, trees.dot(rhs, rhs))
        (v, *_), _ = jax.lax.scan(step, start, length=steps)
        return LinearSolved(v, steps)

    return solve


@by_value
def neumann(terms: int, step) -> LinearSolver:
    """`H^-1 ~ step * sum_{i < terms} (I - step H)^i` (Lorraine et al. 2020); needs `step < 2 / lambda_max(H)`.

    The same numbers as `terms` steps of gradient descent, from zero, on the linear system: on `v' H v / 2 - v' rhs`.
    """
    if terms < 1:
        raise ValueError(f"terms is {terms}; a Neumann series has at least one term.")

    def solve(product, rhs):
        def echo(carry, _):
            total, term = carry
            term = trees.sub(term, trees.scale(step, product(term)))
            return (trees.add(total, term), term), None

        (total, _), _ = jax.lax.scan(echo, (rhs, rhs), length=terms - 1)
        return LinearSolved(trees.scale(step, total), terms - 1)

    return solve


@by_value
def identity() -> LinearSolver:
    """`H^-1 ~ I`, no product at all: T1-T2 (Luketina et al. 2016). Its error does not vanish."""
    return lambda product, rhs: LinearSolved(rhs, 0)


@by_value
def dense() -> LinearSolver:
    """Build `H` column by column and solve exactly, as Bengio (2000) did: for small problems, and for checking the others."""

    def solve(product, rhs):
        flat, unravel = jax.flatten_util.ravel_pytree(rhs)
        columns = jax.vmap(lambda e: jax.flatten_util.ravel_pytree(product(unravel(e)))[0])(jnp.eye(flat.size, dtype=flat.dtype))
        return LinearSolved(unravel(jnp.linalg.solve(columns.T, flat)), flat.size)

    return solve


@by_value
def damped(linear: LinearSolver, amount) -> LinearSolver:
    """Solve `(H + amount I) v = rhs` with `linear` instead: stable where `H` is nearly singular, shorter elsewhere.

    The damping of Hessian-free optimization (Martens 2010), also used with iMAML (Rajeswaran et al. 2019).

    `amount >= 0` may be traced. Where `H` has a negative eigenvalue, `amount` must exceed its size for `cg` to hold.
    """
    if (value := concrete(amount)) is not None and value < 0:
        raise ValueError(f"amount is {value:g}; damping adds curvature, so it must not be negative.")
    return lambda product, rhs: linear(lambda v: trees.add(product(v), trees.scale(amount, v)), rhs)


def _linear_result(left, size, products: int):
    """How a linear solve ended: a residual above its right-hand side is worse than no solution at all (T1-T2, without a product, claims none)."""
    away = (left > size) if products else (left > 1e4 * size)
    ended = jnp.where(left <= 1e-3 * size, Result.SETTLED, Result.MOVING)
    return jnp.where(jnp.isfinite(left), jnp.where(away, Result.MOVED_AWAY, ended), Result.NOT_FINITE)


def _require_rest_at_minimum(solver: Solver) -> None:
    """Refuse a solver that comes to rest elsewhere than where the gradient of the inner loss vanishes."""
    if getattr(solver, "project", None):
        raise TypeError(
            "implicit needs a vanishing gradient, and `projected` ends where a constraint holds it up. Use `contrastive`, which is right there, or `unrolled`."
        )
    transform = getattr(solver, "transform", None)
    if transform is None:
        return
    one, none = jnp.ones(1), jnp.zeros(1)
    moved, _ = transform.update(none, transform.init(one), one, value=none[0], grad=none, value_fn=lambda p: 0 * jnp.sum(p))
    if (step := concrete(jnp.abs(moved[0]))) is not None and step > 0:
        raise TypeError(
            "implicit needs a solver that rests where the gradient of L_in vanishes, and this transformation moves the weights where there is none "
            "(weight decay apart from the loss, or noise). Put the decay into L_in, or use `contrastive`, which only asks where learning ended."
        )


@by_value
def implicit(free_solver: Solver, linear: LinearSolver) -> MetaGradient:
    """Equation (2) at the solver's own `phi`, with `linear` standing for the inverse Hessian (Pedregosa 2016).

    Meta-parameters that act only through the path (where phi starts, learning rates) get exactly zero. Raises TypeError for a solver that
    comes to rest elsewhere than at a vanishing gradient: `projected`, or with weight decay apart from the loss.
    """
    _require_rest_at_minimum(free_solver)

    def estimate(problem, theta, task, key=None):
        objective = free(problem, theta)
        start = free_solver(objective, problem.init(theta, task.support), task, key)
        phi = start.phi
        gradient = jax.grad(lambda p: objective(p, task))

        def product(v):
            return jax.jvp(gradient, (phi,), (v,))[1]

        value, (of_phi, of_theta) = jax.value_and_grad(problem.outer, argnums=(0, 1))(phi, theta, task.query)
        solved = linear(product, of_phi)
        mixed = jax.grad(lambda th: trees.dot(jax.grad(problem.inner)(phi, th, task.support), solved.v))(theta)
        left = trees.norm(trees.sub(product(solved.v), of_phi))
        size = trees.norm(of_phi)
        ended = Phase(left, size, jnp.asarray(solved.products), _linear_result(left, size, solved.products))
        return Estimate(trees.sub(of_theta, mixed), value, phi, {"free": phase(start), "linear": ended})

    return estimate
