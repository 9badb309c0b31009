"""Bilevel problems: an inner loss that learning minimizes, an outer loss that judges what was learned.

    min_theta  E_task[ L_out(phi*, theta, query) ]     with     phi* = argmin_phi L_in(phi, theta, support)      (1)

As in Zucchet et al. 2022. `phi` are the fast, task-specific parameters; `theta` the slow ones, which no inner learning changes. Both are
pytrees. Everything here is for one task; a meta-batch is `jax.vmap` around it (see `cmlcore.meta`).
"""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, NamedTuple, TypeVar

import jax

from cmlcore import trees

Phi = Any
Theta = Any
Data = Any
Loss = Callable[[Phi, Theta, Data], jax.Array]


class Task(NamedTuple):
    """The data of one task: what is learned from, and what the outcome is judged on."""

    support: Data = None
    query: Data = None


class Problem(NamedTuple):
    """A bilevel problem, equation (1).

    inner: `L_in(phi, theta, support) -> scalar`, what learning minimizes.
    outer: `L_out(phi, theta, query) -> scalar`, what judges the outcome.
    init:  `(theta, support) -> phi`, where inner learning starts; by default from `theta` itself. What else a start depends on (the end of an
           earlier phase, a guess that another network made) is handed over as a part of `support`.
    """

    inner: Loss
    outer: Loss
    init: Callable[[Theta, Data], Phi] = lambda theta, support: theta


def augmented(problem: Problem, theta: Theta, beta) -> Callable[[Phi, Task], jax.Array]:
    """The nudged objective `phi, task -> L_in + beta * L_out` at fixed `theta` (Scellier & Bengio 2017).

    `beta` may be negative. For the free phase use `free`, which never touches the query set.
    """
    return lambda phi, task: problem.inner(phi, theta, task.support) + beta * problem.outer(phi, theta, task.query)


def free(problem: Problem, theta: Theta) -> Callable[[Phi, Task], jax.Array]:
    """The free phase's objective `phi, task -> L_in`, which pays nothing for the query set.

    Every estimator begins with it, so complex parameters are refused here: TypeError for a complex phi or theta.
    """
    _require_real("theta", theta)

    def objective(phi, task):
        _require_real("phi", phi)
        return problem.inner(phi, theta, task.support)

    return objective


def _require_real(name: str, tree) -> None:
    if trees.is_complex(tree):
        raise TypeError(
            f"{name} is complex, and a free phase learns real numbers. Start from a real one: `imaginary` and `contour` of "
            "cmlcore.estimators.imaginary make the nudged phase complex by themselves."
        )


class Diverged(ArithmeticError):
    """An inner phase, a linear solve or a meta-step ran away; the message names which and what to try."""


Factory = TypeVar("Factory", bound=Callable)


def by_value(factory: Factory) -> Factory:
    """A decorator: the factory gives one object for equal settings, so that what a loop builds again is compiled once.

    Settings without a hash (an array, a traced value) identify nothing, and get an object of their own.
    """
    kept = lru_cache(maxsize=256, typed=True)(factory)

    @wraps(factory)
    def build(*settings, **named):
        try:
            hash((settings, tuple(named.values())))
        except TypeError:
            return factory(*settings, **named)
        return kept(*settings, **named)

    return build  # type: ignore[return-value]


def concrete(value) -> float | None:
    """`value` as a Python float, or None while it is traced and has no value yet."""
    try:
        return float(value)
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
        return None


def require_nonzero_beta(beta) -> None:
    """Raise ValueError for `beta == 0`: the contrast divides by it."""
    if concrete(beta) == 0:
        raise ValueError(
            "beta is 0, and the contrastive rule divides by beta. Choose a small positive nudge (1e-3 to 1 is usual); "
            "a negative beta nudges away from the outer loss."
        )
