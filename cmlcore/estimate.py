"""What every meta-gradient estimator returns, the one interface they share, and the friendly call.

The interface is this book's own; what is estimated is d/dtheta L_out of Zucchet et al. 2022.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.extend.core as core
import jax.numpy as jnp
import numpy as np

from cmlcore import trees
from cmlcore.bilevel import Diverged, Phi, Problem, Task, Theta, by_value
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
    began, by a tenth or more (`Solved.ends_beyond`) and by more than rounding, it moved away, whatever its objective did.

    began: the gradient's norm to compare with, a scalar, if not that of its own start (a control is compared with the nudged phase).
    """
    rounding_alone = 8 * trees.epsilon(solved.phi) * start.start_norm
    farther = solved.ends_beyond(jnp.maximum(solved.start_norm, solved.start_norm if began is None else began)) & (solved.grad_norm > rounding_alone)
    away = farther & (start.result == Result.SETTLED)
    # A control that stirs by less than the nudge moves a phase from where it was at rest, and not away.
    stirs = ~farther & (solved.result == Result.MOVED_AWAY)
    result = jnp.where(stirs, Result.MOVING, solved.result)
    return phase(solved)._replace(result=jnp.where(away, jnp.maximum(result, Result.MOVED_AWAY), result))


@by_value
def unwatched(estimator: MetaGradient) -> MetaGradient:
    """The same estimator without its diagnostics: `info` is empty, `grad` the same tree, and what they cost, gradients on the full task at both ends of every phase, is not
    computed. For an outer loop over mini-batches of much data, once the settings are trusted."""
    return lambda problem, theta, task, key=None: estimator(problem, theta, task, key)._replace(info={})


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


def programs(values) -> Iterator:
    """The programs (jaxprs) among an equation's parameters, a list of anything: bodies of loops, branches, what is called."""
    for value in values:
        if isinstance(value, core.ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, core.Jaxpr):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from programs(value)


def _formats(program) -> set:
    """The dtypes of all that a program computes."""
    inside = (inner for equation in program.eqns for inner in programs(equation.params.values()))
    return {getattr(v.aval, "dtype", None) for equation in program.eqns for v in equation.outvars}.union(*map(_formats, inside))


def coarseness(problem: Problem, theta: Theta, task: Task, phi: Phi) -> float:
    """The largest epsilon among the formats of phi, of theta, and of whatever the losses compute, a number: a pass in bfloat16 inside of
    float32 counts."""
    losses = (problem.inner, task.support), (problem.outer, task.query)
    found = set().union(*(_formats(jax.make_jaxpr(loss)(phi, theta, data).jaxpr) for loss, data in losses))
    return max([trees.epsilon((phi, theta)), *(float(jnp.finfo(d).eps) for d in found if d is not None and jnp.issubdtype(d, jnp.floating))])


def rounding(problem: Problem, theta: Theta, task: Task, phi: Phi, coarse: float) -> jax.Array:
    """The size of the error that rounding leaves in a difference of two derivatives in theta, each rounded, each at a rounded phi: a scalar, an
    order of magnitude. coarse: the losses' `coarseness`. A contrastive rule divides it by beta."""
    partial = jax.grad(lambda th: problem.inner(phi, th, task.support))(theta)
    return 4 * coarse * trees.norm(partial)


def _estimate(estimator, problem, theta, task, key, beta):
    """The estimate, and for a rule with a nudge the coarseness of its losses and the error that rounding makes."""
    if beta is None:
        return estimator(problem, theta, task, key), 0.0, 0.0
    found = estimator._replace(beta=beta)(problem, theta, task, key)
    coarse = coarseness(problem, theta, task, found.phi)
    return found, coarse, rounding(problem, theta, task, found.phi, coarse) / jnp.abs(beta)


_compiled = jax.jit(_estimate, static_argnums=(0, 1))


def meta_gradient(estimator: MetaGradient, problem: Problem, theta: Theta, task: Task = Task(), key=None) -> Estimate:
    """One checked meta-gradient: compiles `estimator`, runs it, and raises or warns as `check_phases` does.

    theta, task: pytrees of arrays, one task (no batch axis). Kernels themselves never jit and never raise; use them directly inside your own `jit`
    or `vmap`, and call `check_phases` on what comes out. Of a rule with a real nudge it knows beta and the losses, and so warns, too, of a nudge
    that rounding swallows: the error is about 4 epsilon |dL_in/dtheta| / beta. With weights or losses in bfloat16 (epsilon 0.0078) ridge regressions
    were off by 100 to 600 % at beta = 0.0003, and by 40 to 200 % at 0.003. Raises TypeError, naming the leaf, for a theta that is not made of real numbers.
    """
    trees.require_real("theta", theta)
    beta = getattr(estimator, "beta", None)  # an argument of the compiled program: another nudge compiles nothing again
    known: Any = estimator if beta is None else estimator._replace(beta=None)  # type: ignore[attr-defined]
    try:
        hash((known, problem))
        run: Any = partial(_compiled, known, problem)
    except TypeError:  # an array among the settings, which identifies nothing: compiled for this call
        run = jax.jit(partial(_estimate, known, problem))
    found, coarse, lost = run(theta, task, key, beta)
    _check(found, {"theta": theta, "task": task}, coarse, lost)
    return found


def check_phases(estimate: Estimate) -> Estimate:
    """Return `estimate` unchanged, or say what is wrong with it. Call it outside `jit`. One rule:

    * raises `Diverged` where the number means nothing: a phase overflowed or moved away, a nudged phase took no step, the gradient is not finite;
    * warns with `NotSettled` where it is doubtful: `until` ran out of steps, the nudge of a rule without a control is smaller than what
      the free phase left, or the gradient is exactly zero.

    A batch of estimates, with its tasks along a leading axis, is checked as a whole. `meta_gradient` knows more, and names the numbers that are
    not finite.
    """
    _check(estimate, {}, 0.0, 0.0)
    return estimate


@jax.jit
def _looked_at(grad):
    """Whether a gradient is finite, whether it is not zero, and its size."""
    return trees.all_finite(grad), jnp.any(jnp.asarray([jnp.any(x) for x in jax.tree.leaves(grad)])), trees.norm(grad)


def _check(estimate: Estimate, given: dict[str, Any], coarse, lost) -> None:
    """Raise or warn. given: what went in, by name; coarse: the epsilon of the losses' format; lost: what rounding makes of the gradient."""
    read = jax.device_get((estimate.info, estimate.value, _looked_at(estimate.grad), coarse, lost))  # once: each reading waits for the device
    info, value, (finite, nonzero, size), coarse, lost = read
    # The free phase first: what went wrong there spoils all others (and jit sorts the names). A control, without a nudge, before the nudged ones.
    for name, ended in sorted(info.items(), key=lambda item: (item[0] != "free", item[0])):
        if wrong := _wrong(name, ended, info, coarse):
            raise Diverged(f"{wrong} {_not_finite(given) or _advice(name, ended, info, coarse)}")
    if not finite:
        raise Diverged(f"the meta-gradient is not finite although every phase ended finite: {_not_finite(given) or _no_number(value, info)}")
    for doubt in _doubts(info, nonzero, size, coarse, lost):
        warnings.warn(NotSettled(doubt), stacklevel=3)


def _wrong(name: str, ended: Phase, info: dict[str, Phase], coarse) -> str | None:
    """What went wrong in a phase, or None."""
    told, steps = name.replace("_", " "), int(np.max(ended.steps))
    if name == "left out":
        return f"all {steps} tasks of the batch were left out." if np.any(ended.diverged) else None
    if np.any(ended.diverged):
        return f"the {told} phase diverged: its gradient norm went from {np.max(ended.start_norm):.3g} to {np.max(ended.grad_norm):.3g} in {steps} steps."
    if name.startswith("nudged") and np.any((ended.steps == 0) & (ended.result != Result.MOVING)):
        return f"the {told} phase took no step: its gradient norm of {np.max(ended.start_norm):.3g} is within the tolerance, so nothing was learned from the nudge."
    return None


def _not_finite(given: dict[str, Any]) -> str:
    """Which array of what went in is not finite, in a sentence; empty if all are."""
    names = [f"{name}{where}" for name, tree in given.items() for where in trees.not_finite(tree)]
    return f"{' and '.join(names)} {'holds' if len(names) == 1 else 'hold'} numbers that are not finite." if names else ""


def _advice(name: str, ended: Phase, info: dict[str, Phase], coarse) -> str:
    """What to try, by what the numbers say."""
    if name == "left out":
        return "In each of them a phase moved away, or a number was not finite: give one of them to `meta_gradient`, which says which."
    if not np.any(ended.diverged):
        return "Lower the tolerance of `until` well below beta times the outer gradient, or raise beta."
    if not np.all(np.isfinite(ended.start_norm)):
        where = "theta, the start or the support set is not, or the inner loss has no derivative there"
        return f"It was not finite before the first step: {where if name == 'free' else 'the outer loss has no finite derivative at the free solution'}."
    settled = np.all(info["free"].result == Result.SETTLED) if "free" in info else True
    if name == "linear":
        return (
            "The free phase had not settled, and where it stopped the curvature need not be positive: take more free steps."
            if not settled
            else "The Neumann step must lie below 2 / (largest curvature); `cg` needs a curvature that is positive in every direction, which `damped(cg(...), amount)` "
            "sees to, and enough steps; `dense` needs one that vanishes in no direction."
        )
    if name == "free":
        return "Lower the inner learning rate (below 2 / (largest curvature) for gradient descent, decaying for Adam)."
    if coarse > 1e-4 and settled:
        return f"The free phase had settled, and the losses are computed in half precision (epsilon {coarse:.2g}), whose rounding moves what is at rest: compute them in single."
    if name == "nudged_negative":
        return "L_in - beta L_out may have no minimum: lower beta, or use `matched`, which never nudges negatively."
    fresh = "every phase begins with a fresh optimizer, at the first rate of its schedule"
    if name == "control":
        return f"It only goes on where the free phase ended, and {fresh}: lower that rate."
    return f"The free phase did not: lower the inner learning rate ({fresh}) or beta."


def _no_number(value, info: dict[str, Phase]) -> str:
    """Why a gradient may be no number where all phases, and all that went in, are finite."""
    if not np.all(np.isfinite(value)):
        return "the outer loss is not, at the free solution."
    if not info:
        return "its phases were not watched. The same estimator without `unwatched` says more."
    root = "a square root of zero, the norm of a vector of zeros"
    if any(name.startswith("nudged") for name in info):
        return f"is beta 0? Or a loss has no derivative in theta there ({root})."
    if "linear" in info:
        return f"a loss has no derivative in theta there ({root})."
    return (
        f"learning itself has no derivative there ({root}). Adam takes the root of a mean of squares, which is zero for a weight without a gradient, such as that of a "
        "dead unit: give it `eps_root`, as in optax.adam(rate, eps_root=1e-8)."
    )


def _doubts(info: dict[str, Phase], nonzero, size, coarse, lost) -> Iterator[str]:
    """What makes an estimate doubtful, a sentence each."""
    for name, ended in info.items():
        if np.any(ended.result == Result.CAPPED):
            yield (
                f"the {name.replace('_', ' ')} phase ran out of steps: {int(np.max(ended.steps))} of them led from a gradient norm of {np.max(ended.start_norm):.3g} to "
                f"{np.max(ended.grad_norm):.3g}. Allow more steps, or raise the tolerance."
            )
    if not nonzero:
        yield f"the meta-gradient is exactly zero. {ZERO}"
    elif lost > size:
        yield (
            f"the nudge is lost in rounding, which, divided by beta, is about {lost:.2g}, and the meta-gradient is {size:.2g} (the losses' epsilon: {coarse:.2g}). "
            "Take a larger beta, a wider format, or `imaginary`, which subtracts nothing."
        )
    for name, ended in info.items():
        if name == "control" or name.startswith("nudged") and name != "nudged_tangent":
            began = info["nudged" if name == "control" else name].start_norm
            settled = np.expand_dims(info["free"].result == Result.SETTLED, tuple(range(np.ndim(info["free"].result), np.ndim(ended.grad_norm))))
            share = np.where(settled, ended.grad_norm / np.where(began > 0, began, np.inf), 0)
            if np.any(share > 0.1):
                yield (
                    f"learning had come to rest, and the {name.replace('_', ' ')} phase has not: {np.max(share):.0%} of the nudge are left, and as much may the "
                    "meta-gradient be off. Take more steps, or a rate that decays (a constant one keeps Adam from rest)."
                )
                break
    # A difference without a control compares a nudge with what is left of the free phase (complex nudges subtract nothing).
    if {"free", "nudged"} <= info.keys() and not info.keys() & {"control", "nudged_negative"}:
        left, began = info["free"].grad_norm, info["nudged"].start_norm
        if np.any(left > 0.5 * began):
            yield (
                f"the nudge is lost in what the free phase left: its gradient norm is {np.max(left):.3g}, and the nudged phase began at {np.max(began):.3g}. "
                "Take more free steps, a larger beta, or `matched`, whose control cancels what is left."
            )
