"""What every meta-gradient estimator returns, the one interface they share, and the friendly call.

The interface is this book's own; what is estimated is d/dtheta L_out of Zucchet et al. 2022.
"""

import warnings
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from cmlcore import trees
from cmlcore.bilevel import Diverged, Phi, Problem, Task, Theta
from cmlcore.solve import Result, Solved


class Estimate(NamedTuple):
    """What a meta-gradient estimator returns for one task.

    grad:  the estimate of d/dtheta L_out, a tree shaped like theta.
    value: L_out at the free solution, a scalar.
    phi:   the free solution.
    info:  how each phase ended, by name (`free`, `nudged`, ...): a `Solved` without its parameters and path.
    """

    grad: Theta
    value: jax.Array
    phi: Phi
    info: dict[str, Any]


class MetaGradient(Protocol):
    """The one interface of all estimators, for one task: theta is a tree, task a `Task` without a batch axis."""

    def __call__(self, problem: Problem, theta: Theta, task: Task, key=None) -> Estimate: ...


class Phase(NamedTuple):
    """How one phase ended, four scalars: the gradient's norm at its end and start, steps, and a `cmlcore.solve.Result`."""

    grad_norm: jax.Array
    start_norm: jax.Array
    steps: jax.Array
    result: jax.Array

    @property
    def diverged(self) -> jax.Array:
        """Whether the phase moved away or overflowed."""
        return self.result >= Result.MOVED_AWAY


def phase(solved: Solved) -> Phase:
    """The part of a `Solved` that is worth plotting, scalars only."""
    return Phase(solved.grad_norm, solved.start_norm, solved.steps, solved.result)


def nudged_phase(solved: Solved, start: Solved, began=None) -> Phase:
    """The same of a phase that went on from the free phase `start`. Where that one had settled, and this one ends farther from rest than it
    began, by a tenth or more, it moved away, whatever its objective did.

    began: the gradient's norm to compare with, a scalar, if not that of its own start (a control is compared with the nudged phase).
    """
    farther = solved.grad_norm > 1.1 * jnp.maximum(solved.start_norm, solved.start_norm if began is None else began)
    away = farther & (start.result == Result.SETTLED)
    return phase(solved)._replace(result=jnp.where(away, jnp.maximum(solved.result, Result.MOVED_AWAY), solved.result))


class NotSettled(UserWarning):
    """A phase stopped before it was over, in a way that makes the meta-gradient doubtful; the message, a text, says which and what to try."""


ZERO = (
    "Does theta stand in the inner loss, and phi in the outer one? Where learning starts, and how fast, is seen by `unrolled` alone; a start is seen "
    "through a pull to it (`fixed_pull`). A nudge that rounding swallows gives a zero, too, and so does a constraint that holds phi: there it is right."
)


@contextmanager
def measured():
    """A context in which nothing warns with `NotSettled`: for what measures, as a number, the error that it warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotSettled)
        yield


@partial(jax.jit, static_argnums=(0, 1))
def _compiled(estimator, problem, theta, task, key, beta):
    return (estimator if beta is None else estimator._replace(beta=beta))(problem, theta, task, key)


def meta_gradient(estimator: MetaGradient, problem: Problem, theta: Theta, task: Task = Task(), key=None) -> Estimate:
    """One checked meta-gradient: compiles `estimator`, runs it, and raises or warns as `check_phases` does.

    theta, task: pytrees of arrays, one task (no batch axis). Kernels themselves never jit and never raise; use them
    directly inside your own `jit` or `vmap`, and call `check_phases` on what comes out. Raises TypeError, naming the leaf, for a theta that is not made
    of real numbers.
    """
    trees.require_real("theta", theta)
    beta = getattr(estimator, "beta", None)  # an argument of the compiled program: another nudge compiles nothing again
    known: Any = estimator if beta is None else estimator._replace(beta=None)  # type: ignore[attr-defined]
    try:
        hash((known, problem))
    except TypeError:  # an array among the settings, which identifies nothing: compiled for this call
        return check_phases(jax.jit(lambda theta, task, key: estimator(problem, theta, task, key))(theta, task, key))
    return check_phases(_compiled(known, problem, theta, task, key, beta))


def check_phases(estimate: Estimate) -> Estimate:
    """Return `estimate` unchanged, or say what is wrong with it. Call it outside `jit`. One rule:

    * raises `Diverged` where the number means nothing: a phase overflowed or moved away, a nudged phase took no step, the gradient is not finite;
    * warns with `NotSettled` where it is doubtful: `until` ran out of steps, the nudge of a rule without a control is smaller than what
      the free phase left, or the gradient is exactly zero.

    A batch of estimates, with its tasks along a leading axis, is checked as a whole.
    """
    # The free phase first: what went wrong there spoils all others (and jit sorts the names).
    for name, ended in sorted(estimate.info.items(), key=lambda item: item[0] != "free"):
        told = name.replace("_", " ")
        if bool(jnp.any(ended.diverged)):
            raise Diverged(
                f"the {told} phase diverged: its gradient norm went from "
                f"{float(jnp.max(ended.start_norm)):.3g} to {float(jnp.max(ended.grad_norm)):.3g} in "
                f"{int(jnp.max(ended.steps))} steps. {_advice(name)}"
            )
        if name.startswith("nudged") and bool(jnp.any((ended.steps == 0) & (ended.result != Result.MOVING))):
            raise Diverged(
                f"the {told} phase took no step: its gradient norm of {float(jnp.max(ended.start_norm)):.3g} is within the tolerance, so nothing "
                "was learned from the nudge. Lower the tolerance of `until` well below beta times the outer gradient, or raise beta."
            )
        if bool(jnp.any(ended.result == Result.CAPPED)):
            warnings.warn(
                NotSettled(
                    f"the {told} phase ran out of steps: {int(jnp.max(ended.steps))} of them led from a gradient norm of "
                    f"{float(jnp.max(ended.start_norm)):.3g} to {float(jnp.max(ended.grad_norm)):.3g}. Allow more steps, or raise the tolerance."
                ),
                stacklevel=3,
            )
    if not bool(trees.all_finite(estimate.grad)):
        raise Diverged("the meta-gradient is not finite although every phase ended finite: is beta 0, or theta or the query set not finite?")
    _compare_nudge(estimate.info)
    if not any(bool(jnp.any(x)) for x in jax.tree.leaves(estimate.grad)):
        warnings.warn(NotSettled(f"the meta-gradient is exactly zero. {ZERO}"), stacklevel=3)
    return estimate


def _compare_nudge(info: dict[str, Any]) -> None:
    """Warn where a difference without a control compares a nudge with what is left of the free phase (complex nudges subtract nothing)."""
    if not {"free", "nudged"} <= info.keys() or info.keys() & {"control", "nudged_negative"}:
        return
    left, began = info["free"].grad_norm, info["nudged"].start_norm
    if bool(jnp.any(left > 0.5 * began)):
        warnings.warn(
            NotSettled(
                f"the nudge is lost in what the free phase left: its gradient norm is {float(jnp.max(left)):.3g}, and the nudged phase began at "
                f"{float(jnp.max(began)):.3g}. Take more free steps, a larger beta, or `matched`, whose control cancels what is left."
            ),
            stacklevel=4,
        )


def _advice(name: str) -> str:
    if name == "nudged_negative":
        return "L_in - beta L_out may have no minimum: lower beta, or use `matched`, which never nudges negatively."
    if name == "linear":
        return "Lower the Neumann step below 2 / (largest curvature), or use cg."
    return "Lower the inner learning rate (below 2 / (largest curvature) for gradient descent, decaying for Adam) or beta; or the data are not finite."
