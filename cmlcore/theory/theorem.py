"""The theorem of equilibrium propagation, both sides of it, on any bilevel problem.

    d/dtheta dL/dbeta (phi*_beta, theta, beta)  =  d/dbeta dL/dtheta (phi*_beta, theta, beta)^T                  (2)

with L = L_in + beta L_out and phi*_beta its minimizer (Scellier & Bengio 2017; Zucchet et al. 2022); theta is a tree, beta a scalar.
"""

from typing import NamedTuple

import jax

from cmlcore.bilevel import Problem, Task, Theta, augmented
from cmlcore.solve import Solver


class Sides(NamedTuple):
    """Both sides of the theorem at one (theta, beta).

    by_theta: d/dtheta of L_out at the minimizer, a tree shaped like theta; at beta = 0 the meta-gradient.
    by_beta:  d/dbeta of the partial derivative in theta at the minimizer, shaped likewise.
    residual: norm of the augmented loss's gradient where the solver stopped; the theorem holds where it is 0.
    """

    by_theta: Theta
    by_beta: Theta
    residual: jax.Array


def both_sides(problem: Problem, solver: Solver, theta: Theta, task: Task, beta) -> Sides:
    """Both sides, each by differentiating *through the solver*, so that neither takes the theorem for granted.

    The left side goes through it in reverse mode, with theta; the right side in forward mode, with beta. Both are
    derivatives of a minimizer only as far as the solver has converged. It must not be `until`.
    """

    def minimizer(theta, beta):
        return solver(augmented(problem, theta, beta), problem.init(theta, task.support), task)

    def outer_loss(theta):
        solved = minimizer(theta, beta)
        return problem.outer(solved.phi, theta, task.query), solved.grad_norm

    def slow_slope(beta):
        phi = minimizer(theta, beta).phi
        return jax.grad(lambda th: augmented(problem, th, beta)(phi, task))(theta)

    by_theta, residual = jax.grad(outer_loss, has_aux=True)(theta)
    one = jax.numpy.ones((), jax.numpy.result_type(float))
    _, by_beta = jax.jvp(slow_slope, (beta * one,), (one,))
    return Sides(by_theta, by_beta, residual)
