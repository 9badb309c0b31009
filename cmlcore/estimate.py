"""What every meta-gradient estimator returns, the one interface they share, and the friendly call.

The interface is this book's own; what is estimated is d/dtheta L_out of Zucchet et al. 2022.
"""

from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from cmlcore import trees
from cmlcore.bilevel import Diverged, Phi, Problem, Task, Theta
from cmlcore.solve import Solved


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
    """How one phase ended, four scalars: the gradient's norm at its end and start, steps, whether it ran away."""

    grad_norm: jax.Array
    start_norm: jax.Array
    steps: jax.Array
    diverged: jax.Array


def phase(solved: Solved) -> Phase:
    """The part of a `Solved` that is worth plotting, scalars only."""
    return Phase(solved.grad_norm, solved.start_norm, solved.steps, solved.diverged)


@partial(jax.jit, static_argnums=(0, 1))
def _compiled(estimator, problem, theta, task, key):
    return estimator(problem, theta, task, key)


def meta_gradient(estimator: MetaGradient, problem: Problem, theta: Theta, task: Task = Task(), key=None) -> Estimate:
    """One checked meta-gradient: compiles `estimator`, runs it, and raises `Diverged` by name if a phase ran away.

    theta, task: pytrees of arrays, one task (no batch axis). Kernels themselves never jit and never raise; use them
    directly inside your own `jit` or `vmap`, and call `check_phases` on what comes out.
    """
    return check_phases(_compiled(estimator, problem, theta, task, key))


def check_phases(estimate: Estimate) -> Estimate:
    """Return `estimate` unchanged, or raise `Diverged` naming the phase that ran away. Call it outside `jit`.

    A batch of estimates, with its tasks along a leading axis, is checked as a whole.
    """
    # The free phase first: what went wrong there spoils all others (and jit sorts the names).
    for name, ended in sorted(estimate.info.items(), key=lambda item: item[0] != "free"):
        if bool(jnp.any(ended.diverged)):
            raise Diverged(
                f"the {name.replace('_', ' ')} phase diverged: its gradient norm went from "
                f"{float(jnp.max(ended.start_norm)):.3g} to {float(jnp.max(ended.grad_norm)):.3g} in "
                f"{int(jnp.max(ended.steps))} steps. {_advice(name)}"
            )
    if not bool(trees.all_finite(estimate.grad)):
        raise Diverged("the meta-gradient is not finite although every phase ended finite: is beta 0, or theta not finite?")
    return estimate


def _advice(name: str) -> str:
    if name == "nudged_negative":
        return (
            "L_in - beta L_out may have no minimum: lower beta, or use `matched`, which never nudges negatively."
        )
    if name == "linear":
        return "Lower the Neumann step below 2 / (largest curvature), or use cg."
    return "Lower the inner learning rate (below 2 / (largest curvature) for gradient descent) or beta."
