"""The contrastive meta-learning rule (Zucchet, Schug, von Oswald, Zhao & Sacramento 2022) and its variants.

Learning runs twice, once free and once nudged by beta towards the outer loss; the meta-gradient is the difference of
two first derivatives:

    d/dtheta L_out(phi*_0) = lim 1/beta [ dL/dtheta(phi*_beta, beta) - dL/dtheta(phi*_0, 0) ]                    (3)

where L = L_in + beta L_out and d/dtheta holds phi fixed. `phi` and `theta` are trees, beta a scalar. Nothing here differentiates through a solver.

Each factory takes its solvers and beta (which may be traced, and may be negative) and returns a `MetaGradient`, a `Contrast`.
Nudged phases start from the free solution.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cmlcore import trees
from cmlcore.bilevel import Phi, Problem, Task, Theta, augmented, free, require_nonzero_beta
from cmlcore.estimate import Estimate, nudged_phase, phase
from cmlcore.solve import Solver, Until


def _partial(problem: Problem, theta: Theta, phi: Phi, task: Task, beta) -> Theta:
    """d/dtheta of the whole augmented loss, direct term included, phi held fixed."""
    return jax.grad(lambda th: augmented(problem, th, beta)(phi, task))(theta)


def _free_partial(problem: Problem, theta: Theta, phi: Phi, task: Task) -> Theta:
    return jax.grad(lambda th: free(problem, th)(phi, task))(theta)


def _keys(key):
    """One key for the free phase, one for all nudged phases (so that they see the same mini-batches)."""
    return (None, None) if key is None else jax.random.split(key)


class Contrast(NamedTuple):
    """A contrastive estimator, a `MetaGradient` that can be taken apart: `cmlcore.theory.trust.self_check` tries it with half of beta and twice the steps.

    rule: which difference is taken. free_solver, nudged_solver: how each phase learns. beta: the nudge, a scalar, traced or not.
    """

    rule: Callable
    free_solver: Solver
    nudged_solver: Solver
    beta: Any

    def __call__(self, problem: Problem, theta: Theta, task: Task, key=None) -> Estimate:
        return self.rule(self.free_solver, self.nudged_solver, self.beta, problem, theta, task, key)


def _nudging(rule: Callable, free_solver: Solver, nudged_solver: Solver, beta) -> Contrast:
    require_nonzero_beta(beta)
    return Contrast(rule, free_solver, nudged_solver, beta)


def contrastive(free_solver: Solver, nudged_solver: Solver, beta) -> Contrast:
    """The rule itself: the one-sided difference, bias O(beta): equation (3) at a finite beta (Zucchet et al. 2022).

    Raises ValueError for beta = 0.
    """
    return _nudging(_one_sided, free_solver, nudged_solver, beta)


def _one_sided(free_solver, nudged_solver, beta, problem, theta, task, key):
    first, second = _keys(key)
    start = free_solver(free(problem, theta), problem.init(theta), task, first)
    nudged = nudged_solver(augmented(problem, theta, beta), start.phi, task, second)
    after = _partial(problem, theta, nudged.phi, task, beta)
    before = _free_partial(problem, theta, start.phi, task)
    grad = trees.scale(1 / beta, trees.sub(after, before))
    value = problem.outer(start.phi, theta, task.query)
    return Estimate(grad, value, start.phi, {"free": phase(start), "nudged": nudged_phase(nudged, start)})


def symmetric(free_solver: Solver, nudged_solver: Solver, beta) -> Contrast:
    """The central difference: nudge by +beta and by -beta, bias O(beta^2) (Laborieux et al. 2021 for energies).

    `L_in - beta L_out` may have no minimum (cross-entropy, beta too large): the phase `nudged_negative` then reports
    that it diverged. `matched` cancels the same transients without a negative nudge. Raises ValueError for beta = 0.
    """
    return _nudging(_central, free_solver, nudged_solver, beta)


def _central(free_solver, nudged_solver, beta, problem, theta, task, key):
    first, second = _keys(key)
    start = free_solver(free(problem, theta), problem.init(theta), task, first)
    plus = nudged_solver(augmented(problem, theta, beta), start.phi, task, second)
    minus = nudged_solver(augmented(problem, theta, -beta), start.phi, task, second)
    grad = trees.scale(
        1 / (2 * beta),
        trees.sub(_partial(problem, theta, plus.phi, task, beta), _partial(problem, theta, minus.phi, task, -beta)),
    )
    value = problem.outer(start.phi, theta, task.query)
    info = {"free": phase(start), "nudged": nudged_phase(plus, start), "nudged_negative": nudged_phase(minus, start)}
    return Estimate(grad, value, start.phi, info)


def three_point(free_solver: Solver, nudged_solver: Solver, beta) -> Contrast:
    """The second-order forward difference over nudges 0, beta, 2 beta, all positive; bias O(beta^2) (in the code of Zucchet et al. 2022).

    Raises ValueError for beta = 0.
    """
    return _nudging(_forward, free_solver, nudged_solver, beta)


def _forward(free_solver, nudged_solver, beta, problem, theta, task, key):
    first, second = _keys(key)
    start = free_solver(free(problem, theta), problem.init(theta), task, first)
    once = nudged_solver(augmented(problem, theta, beta), start.phi, task, second)
    twice = nudged_solver(augmented(problem, theta, 2 * beta), start.phi, task, second)
    grad = jax.tree.map(
        lambda a, b, c: (-1.5 * a + 2 * b - 0.5 * c) / jnp.asarray(beta, a.dtype),
        _free_partial(problem, theta, start.phi, task),
        _partial(problem, theta, once.phi, task, beta),
        _partial(problem, theta, twice.phi, task, 2 * beta),
    )
    value = problem.outer(start.phi, theta, task.query)
    info = {"free": phase(start), "nudged": nudged_phase(once, start), "nudged_twice": nudged_phase(twice, start)}
    return Estimate(grad, value, start.phi, info)


def matched(free_solver: Solver, nudged_solver: Solver, beta) -> Contrast:
    """The one-sided rule with a matched control: the reference also keeps learning, un-nudged, for as long.

    The free solution is never exact. What is left of its transient enters the one-sided rule divided by beta; here
    both runs share it (same optimizer, same steps, same mini-batches), and it cancels. Costs one more phase on the
    support set, needs no negative beta. An addition of this book, not in Zucchet et al. 2022. Raises ValueError for
    beta = 0.
    """
    return _nudging(_with_control, free_solver, nudged_solver, beta)


def _with_control(free_solver, nudged_solver, beta, problem, theta, task, key):
    first, second = _keys(key)
    start = free_solver(free(problem, theta), problem.init(theta), task, first)
    nudged = nudged_solver(augmented(problem, theta, beta), start.phi, task, second)
    as_long = nudged_solver._replace(exactly=nudged.steps) if isinstance(nudged_solver, Until) else nudged_solver
    control = as_long(free(problem, theta), start.phi, task, second)
    after = _partial(problem, theta, nudged.phi, task, beta)
    before = _free_partial(problem, theta, control.phi, task)
    grad = trees.scale(1 / beta, trees.sub(after, before))
    value = problem.outer(start.phi, theta, task.query)
    info = {"free": phase(start), "nudged": nudged_phase(nudged, start), "control": nudged_phase(control, start, nudged.start_norm)}
    return Estimate(grad, value, start.phi, info)
