"""First-order meta-learning of an initialization: learn, look at where it ended, and drop every Jacobian.

Both use `problem.init` alone to lead back to theta, so they are for a theta that says where learning starts. What
theta does in the inner loss they do not see. They run one free phase and differentiate nothing but one loss.
"""

import jax

from cmlcore import trees
from cmlcore.bilevel import by_value, free
from cmlcore.estimate import Estimate, MetaGradient, phase
from cmlcore.solve import Solver


@by_value
def first_order(free_solver: Solver) -> MetaGradient:
    """MAML without second derivatives: `d phi_T / d phi_0 = I` (Finn et al. 2017, section 5.2).

        grad = d_theta L_out + (d init / d theta)' d_phi L_out,     both at (phi_T, theta)

    With `init = lambda theta, support: theta` it is the outer gradient at the learned weights. Not T1-T2, which sets the
    inverse *Hessian* to the identity and sees theta through the inner loss.
    """

    def estimate(problem, theta, task, key=None):
        start, back = jax.vjp(lambda th: problem.init(th, task.support), theta)
        solved = free_solver(free(problem, theta), start, task, key)
        value, (of_phi, of_theta) = jax.value_and_grad(problem.outer, argnums=(0, 1))(solved.phi, theta, task.query)
        return Estimate(trees.add(of_theta, back(of_phi)[0]), value, solved.phi, {"free": phase(solved)})

    return estimate


@by_value
def reptile(free_solver: Solver) -> MetaGradient:
    """Reptile: move the start towards where learning ended, `grad = (d init / d theta)' (phi_0 - phi_T)`, a tree like theta.

    The query set enters the reported `value` only. The length of `grad` is a distance, not a slope of `L_out`: the outer
    learning rate is the fraction of the way to go (Nichol et al. 2018). To use all data of a task as the authors do,
    put them into its support set.
    """

    def estimate(problem, theta, task, key=None):
        start, back = jax.vjp(lambda th: problem.init(th, task.support), theta)
        solved = free_solver(free(problem, theta), start, task, key)
        value = problem.outer(solved.phi, theta, task.query)
        return Estimate(back(trees.sub(start, solved.phi))[0], value, solved.phi, {"free": phase(solved)})

    return estimate
