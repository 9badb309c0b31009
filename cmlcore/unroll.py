"""Backpropagation through training: differentiate the solver itself (MAML, Finn et al. 2017)."""

import jax

from cmlcore.bilevel import free
from cmlcore.estimate import Estimate, MetaGradient, phase
from cmlcore.solve import Solver


def unrolled(free_solver: Solver) -> MetaGradient:
    """Reverse mode through every inner step: exact for the steps taken, memory grows with their number.

    Sees everything that touches the path, the starting point and the learning rates included. `free_solver` must not
    be `until` (a `while_loop` has no reverse mode).
    """

    def estimate(problem, theta, task, key=None):
        def learn_then_test(theta):
            solved = free_solver(free(problem, theta), problem.init(theta), task, key)
            return problem.outer(solved.phi, theta, task.query), solved

        (value, solved), grad = jax.value_and_grad(learn_then_test, has_aux=True)(theta)
        return Estimate(grad, value, solved.phi, {"free": phase(solved)})

    return estimate
