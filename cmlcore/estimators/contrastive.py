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
from cmlcore.solve import Solved, Solver, Until


class Phases(NamedTuple):
    """What a rule has at hand: where the free phase ended, and how to learn on from there. All nudged phases see the same mini-batches.

    start: the free solution, a `Solved`. solver: of the phases that begin there. problem, theta, task: what is learned. key: for the solver.
    """

    start: Solved
    solver: Solver
    problem: Problem
    theta: Theta
    task: Task
    key: Any

    def nudged(self, beta) -> Solved:
        """Where a phase ends that is nudged by `beta`, a scalar."""
        return self.solver(augmented(self.problem, self.theta, beta), self.start.phi, self.task, self.key)

    def control(self, nudged: Solved) -> Solved:
        """Where the free phase ends if it goes on for as many steps as `nudged` took."""
        as_long = self.solver._replace(exactly=nudged.steps) if isinstance(self.solver, Until) else self.solver
        return as_long(free(self.problem, self.theta), self.start.phi, self.task, self.key)

    def partial(self, phi: Phi, beta) -> Theta:
        """d/dtheta of the whole augmented loss, direct term included, phi held fixed."""
        return jax.grad(lambda th: augmented(self.problem, th, beta)(phi, self.task))(self.theta)

    def free_partial(self, phi: Phi) -> Theta:
        """The same of the inner loss alone, which never touches the query set."""
        return jax.grad(lambda th: free(self.problem, th)(phi, self.task))(self.theta)


class Contrast(NamedTuple):
    """A contrastive estimator, a `MetaGradient` that can be taken apart: `cmlcore.theory.trust.self_check` tries it with half of beta and twice the steps.

    rule: `(phases, beta) -> (grad, {name: Phase})`, which difference is taken. free_solver, nudged_solver: how each phase learns. beta: the nudge,
    a scalar, traced or not. order: the power of beta that its bias falls with.
    """

    rule: Callable
    free_solver: Solver
    nudged_solver: Solver
    beta: Any
    order: int

    def __call__(self, problem: Problem, theta: Theta, task: Task, key=None) -> Estimate:
        first, second = (None, None) if key is None else jax.random.split(key)
        start = self.free_solver(free(problem, theta), problem.init(theta, task.support), task, first)
        grad, ends = self.rule(Phases(start, self.nudged_solver, problem, theta, task, second), self.beta)
        return Estimate(grad, problem.outer(start.phi, theta, task.query), start.phi, {"free": phase(start)} | ends)


def contrastive(free_solver: Solver, nudged_solver: Solver, beta) -> Contrast:
    """The rule itself: the one-sided difference, bias O(beta): equation (3) at a finite beta (Zucchet et al. 2022).

    Raises ValueError for beta = 0.
    """
    require_nonzero_beta(beta)
    return Contrast(_one_sided, free_solver, nudged_solver, beta, order=1)


def _one_sided(phases: Phases, beta):
    start, nudged = phases.start, phases.nudged(beta)
    grad = trees.scale(1 / beta, trees.sub(phases.partial(nudged.phi, beta), phases.free_partial(start.phi)))
    return grad, {"nudged": nudged_phase(nudged, start)}


def symmetric(free_solver: Solver, nudged_solver: Solver, beta) -> Contrast:
    """The central difference: nudge by +beta and by -beta, bias O(beta^2) (Laborieux et al. 2021 for energies).

    `L_in - beta L_out` may have no minimum (cross-entropy, beta too large): the phase `nudged_negative` then reports
    that it diverged. `matched` cancels the same transients without a negative nudge. Raises ValueError for beta = 0.
    """
    require_nonzero_beta(beta)
    return Contrast(_central, free_solver, nudged_solver, beta, order=2)


def _central(phases: Phases, beta):
    start, plus, minus = phases.start, phases.nudged(beta), phases.nudged(-beta)
    grad = trees.scale(1 / (2 * beta), trees.sub(phases.partial(plus.phi, beta), phases.partial(minus.phi, -beta)))
    return grad, {"nudged": nudged_phase(plus, start), "nudged_negative": nudged_phase(minus, start)}


def three_point(free_solver: Solver, nudged_solver: Solver, beta) -> Contrast:
    """The second-order forward difference over nudges 0, beta, 2 beta, all positive; bias O(beta^2) (in the code of Zucchet et al. 2022).

    Raises ValueError for beta = 0.
    """
    require_nonzero_beta(beta)
    return Contrast(_forward, free_solver, nudged_solver, beta, order=2)


def _forward(phases: Phases, beta):
    start, once, twice = phases.start, phases.nudged(beta), phases.nudged(2 * beta)
    grad = jax.tree.map(
        lambda a, b, c: (-1.5 * a + 2 * b - 0.5 * c) / jnp.asarray(beta, a.dtype),
        phases.free_partial(start.phi),
        phases.partial(once.phi, beta),
        phases.partial(twice.phi, 2 * beta),
    )
    return grad, {"nudged": nudged_phase(once, start), "nudged_twice": nudged_phase(twice, start)}


def matched(free_solver: Solver, nudged_solver: Solver, beta) -> Contrast:
    """The one-sided rule with a matched control: the reference also keeps learning, un-nudged, for as long.

    The free solution is never exact. What is left of its transient enters the one-sided rule divided by beta; here
    both runs share it (same optimizer, same steps, same mini-batches), and it cancels. Costs one more phase on the
    support set, needs no negative beta. An addition of this book, not in Zucchet et al. 2022. Raises ValueError for
    beta = 0.
    """
    require_nonzero_beta(beta)
    return Contrast(_with_control, free_solver, nudged_solver, beta, order=1)


def _with_control(phases: Phases, beta):
    start, nudged = phases.start, phases.nudged(beta)
    control = phases.control(nudged)
    grad = trees.scale(1 / beta, trees.sub(phases.partial(nudged.phi, beta), phases.free_partial(control.phi)))
    return grad, {"nudged": nudged_phase(nudged, start), "control": nudged_phase(control, start, nudged.start_norm)}
