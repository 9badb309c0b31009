"""Is this meta-gradient to be believed? The estimate is compared with itself at half the nudge and at twice the steps; no exact answer is needed.

The comparison of a difference with itself at half its step is Richardson's (1911); what it is compared for here is this book's own.
"""

from typing import Any, NamedTuple

from cmlcore import trees
from cmlcore.bilevel import Problem, Task, Theta
from cmlcore.estimate import ZERO, Estimate, coarseness, measured, meta_gradient, rounding
from cmlcore.estimators.contrastive import Contrast
from cmlcore.solve import Repeated, Until


class SelfCheck(NamedTuple):
    """What limits an estimate, and what to try.

    limit:     "nudge", "steps", "precision"; "nothing": all three are below the tolerance; "zero": the estimate is exactly zero.
    nudge:     relative error that the size of beta makes, extrapolated from beta and beta / 2 at twice the steps.
    steps:     relative change when every phase takes twice its steps.
    precision: relative error that rounding makes: the dtype's epsilon on both derivatives, divided by beta; an order of magnitude.
    proposed:  the same estimator with settings that meet the tolerance if errors fall as theory says; itself where nothing limits it.
    advice:    one sentence, a text.
    estimate:  the `Estimate` at the settings given.
    """

    limit: str
    nudge: float
    steps: float
    precision: float
    proposed: Contrast
    advice: str
    estimate: Estimate


def self_check(problem: Problem, estimator: Contrast, theta: Theta, task: Task = Task(), key=None, tolerance: float = 0.05) -> SelfCheck:
    """Check one meta-gradient of `contrastive`, `symmetric`, `three_point` or `matched` against itself: three estimates.

    theta, task: pytrees of arrays, one task. tolerance: the relative error that would do, a number. The three errors are orders of magnitude, not bounds: an
    estimator that is wrong in the same way at beta and beta / 2, and at T and 2 T, passes. Raises TypeError for an estimator that is not a
    `Contrast` of solvers whose steps can be doubled, `Diverged` where a phase ran away.
    """
    if not isinstance(estimator, Contrast):
        raise TypeError(f"self_check halves beta and doubles the steps of a contrastive estimator, and was given {estimator!r}.")
    longer = estimator._replace(free_solver=_twice(estimator.free_solver), nudged_solver=_twice(estimator.nudged_solver))
    with measured():
        found, twice, half = (meta_gradient(one, problem, theta, task, key) for one in (estimator, longer, longer._replace(beta=estimator.beta / 2)))
    size = float(trees.norm(twice.grad))
    endless = float("inf")
    if not size:
        return SelfCheck("zero", endless, endless, endless, estimator, f"The estimate is exactly zero. {ZERO}", found)
    relative = lambda a, b: float(trees.norm(trees.sub(a.grad, b.grad))) / size
    errors = {
        "nudge": relative(twice, half) / (1 - 0.5**estimator.order),
        "steps": relative(found, twice),
        "precision": float(rounding(problem, theta, task, found.phi, coarseness(problem, theta, task, found.phi))) / abs(float(estimator.beta)) / size,
    }
    limit = _limit(errors, tolerance)
    proposed, advice = _better(limit, errors, estimator, longer, tolerance)
    return SelfCheck(limit, errors["nudge"], errors["steps"], errors["precision"], proposed, advice, found)


def _limit(errors: dict[str, float], tolerance: float) -> str:
    """Rounding and an unfinished phase are divided by beta, so they, too, change what half of it gives: they are looked for first.

    Rounding is told by its order of magnitude alone, so a tenth of what half the nudge changes counts as much.
    """
    if errors["precision"] > 0.1 * errors["nudge"] and max(errors["precision"], errors["nudge"]) > tolerance:
        return "precision"
    if errors["steps"] > max(tolerance, 0.3 * errors["nudge"]):
        return "steps"
    return "nudge" if errors["nudge"] > tolerance else "nothing"


def _twice(solver: Any) -> Any:
    if isinstance(solver, Repeated):
        return solver._replace(steps=2 * solver.steps)
    if isinstance(solver, Until):
        return solver._replace(tolerance=solver.tolerance / 10, max_steps=2 * solver.max_steps)
    raise TypeError(f"self_check doubles a solver's steps, and cannot those of {solver!r}. Use gradient_descent, optimizer, minibatch or until.")


def _better(limit: str, errors: dict[str, float], estimator: Contrast, longer: Contrast, tolerance: float) -> tuple[Contrast, str]:
    if limit == "nothing":
        return estimator, f"Half the nudge and twice the steps change it by less than {tolerance:g}."
    if limit == "nudge":
        beta = float(estimator.beta) * (0.5 * tolerance / errors[limit]) ** (1 / estimator.order)
        return estimator._replace(beta=beta), f"The nudge is too large: take beta = {beta:.1g}, and check again that rounding and the steps allow it."
    if limit == "steps":
        return longer, "Learning was not over: take twice the steps or more, or let the rate decay; `matched` forgives an unfinished free phase."
    beta = float(estimator.beta) * 2 * max(errors["precision"], errors["nudge"]) / tolerance
    return estimator._replace(beta=beta), f"Rounding is divided by beta: take beta = {beta:.1g}, double precision, or `imaginary`, which subtracts nothing."
