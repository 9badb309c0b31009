"""Inner solvers: interchangeable values that minimize an objective and say how far from a fixed point they stopped.

A solver is a function `(objective, phi, task, key=None) -> Solved`, where `objective(phi, task)` is a scalar. Every
solver is pure, does not jit itself, and can be nested in `vmap`, `scan` and `grad`. Learning rates may be traced
values; step counts are static. Those that take a fixed number of steps are `Repeated`, which can be taken apart.
Updates are those of optax (DeepMind 2020); the interface is this book's own.
"""

from collections.abc import Callable
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from cmlcore import trees
from cmlcore.bilevel import Phi, Task, by_value


class Result(IntEnum):
    """How a phase ended, from best to worst; of several that hold, the worst.

    SETTLED:    the gradient is at most a thousandth of what it was, or at most the tolerance that was asked for.
    MOVING:     the steps were taken, and learning was not over.
    CAPPED:     `until` took all the steps that it may, and its tolerance was not reached.
    MOVED_AWAY: it ended farther from rest than it began, by a tenth or more, and higher (after a free phase that had settled: whatever its height).
                Of mini-batches, whose noise keeps a phase away from rest: ten times farther.
    NOT_FINITE: a parameter or the gradient overflowed, or was not a number from the start.
    """

    SETTLED = 0
    MOVING = 1
    CAPPED = 2
    MOVED_AWAY = 3
    NOT_FINITE = 4


class Solved(NamedTuple):
    """Where a solver stopped.

    phi:        the solution found.
    grad_norm:  norm of the objective's gradient there, on the full task: the distance from a fixed point.
    start_norm: the same at the start.
    steps:      how many steps were taken.
    path:       every iterate, `phi` of each step with a leading axis of length `steps + 1`; only when asked for.
    rose:       whether the objective ended higher than it began; None where the solver does not say.
    capped:     whether the steps ran out before the tolerance was reached; None where there is no tolerance.
    noise:      how many times as far from rest as it began a phase may end before it counts as moved away, where noise keeps it from rest; else None.
    """

    phi: Phi
    grad_norm: jax.Array
    start_norm: jax.Array
    steps: jax.Array
    path: Any = None
    rose: Any = None
    capped: Any = None
    noise: Any = None

    @property
    def result(self) -> jax.Array:
        """How it ended: a `Result`, as an integer. A gradient that grows while the objective falls is a saddle left, not a runaway."""
        if self.rose is None:  # nothing but the gradient to go by
            floor = jnp.sqrt(jnp.finfo(self.grad_norm.dtype).eps)
            away = self.grad_norm > 1e4 * jnp.maximum(self.start_norm, floor)
        else:
            away = self.ends_beyond(self.start_norm) & self.rose
        if self.capped is None:
            ended = jnp.where(self.grad_norm <= 1e-3 * self.start_norm, Result.SETTLED, Result.MOVING)
        else:
            ended = jnp.where(self.capped, Result.CAPPED, Result.SETTLED)
        finite = trees.all_finite(self.phi) & jnp.isfinite(self.grad_norm)
        return jnp.where(finite, jnp.where(away, Result.MOVED_AWAY, ended), Result.NOT_FINITE)

    def ends_beyond(self, norm) -> jax.Array:
        """Whether its gradient ends clearly above `norm`, a scalar: by a tenth, or by what its noise explains."""
        return self.grad_norm > (1.1 if self.noise is None else self.noise) * norm

    @property
    def diverged(self) -> jax.Array:
        """Whether the phase moved away or overflowed: what it ended with is not a solution."""
        return self.result >= Result.MOVED_AWAY


class Solver(Protocol):
    """The one interface of inner learning: minimize `objective(phi, task) -> scalar` from `phi`, a tree; gives a `Solved`."""

    def __call__(self, objective: Callable[[Phi, Task], jax.Array], phi: Phi, task: Task, key=None) -> Solved: ...


class Repeated(NamedTuple):
    """A solver that repeats one step a fixed number of times, and can be taken apart.

    begin: `phi -> memory`, the optimizer's state before the first step; fresh in every phase.
    step:  `(objective, phi, memory, task, key) -> (phi, memory)`, one step.
    steps: how many; static.
    loop:  how they are chained, `(body, carry, xs, length) -> (carry, ys)` like `jax.lax.scan`. Every loop reaches the
           same phi; what may differ is how a derivative runs through it (see `cmlcore.estimators.unroll`).
    keep_path: whether `Solved.path` is kept.
    finish: `(phi, memory) -> phi`, what to keep of the last step; None: phi itself.
    transform: the optax transformation that makes the steps, or None.
    project: `phi -> phi`, the constraint that every step ends in (see `projected`), or None.
    drawn:  whether each step sees a random part of the task, so that its end scatters about rest.
    """

    begin: Callable
    step: Callable
    steps: int
    loop: Callable = jax.lax.scan
    keep_path: bool = False
    finish: Callable | None = None
    transform: Any = None
    project: Callable | None = None
    drawn: bool = False

    def __call__(self, objective, phi, task, key=None) -> Solved:
        trees.require_real("phi", phi)

        def body(carry, key):
            phi, memory = self.step(objective, *carry, task, key)
            return (phi, memory), phi if self.keep_path else None

        keys = None if key is None else jax.random.split(key, self.steps)
        (last, memory), path = self.loop(body, (phi, self.begin(phi)), keys, length=self.steps)
        if self.keep_path:
            path = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), phi, path)
        if self.finish:
            last = self.finish(last, memory)
        (end, size), (start, start_size) = (_height(objective, p, task, self.project) for p in (last, phi))
        return Solved(last, size, start_size, jnp.asarray(self.steps), path, rose=_higher(end, start), noise=jnp.asarray(10.0) if self.drawn else None)


def _height(objective, phi, task, project=None):
    """The objective at `phi`, and how far that is from a fixed point: the gradient's norm, or how far a projected step of it leads."""
    value, gradient = jax.value_and_grad(objective)(phi, task)
    if project is None:
        return value, trees.norm(gradient)
    return value, trees.norm(trees.sub(phi, project(trees.sub(phi, gradient))))


def _higher(end, start):
    """Whether a value rose by more than rounding explains."""
    return end > start + 8 * jnp.finfo(end.dtype).eps * jnp.abs(start)


@by_value
def optimizer(transform: optax.GradientTransformation, steps: int, *, keep_path: bool = False, unroll: int = 1) -> Repeated:
    """`steps` updates with any optax transformation on the full task. Fresh optimizer state for every phase.

    Line searches, L-BFGS, Polyak steps and whatever else asks for the value or the function get them; of `optax.contrib.schedule_free` the
    averaged weights are the solution. Raises ValueError for a negative number of steps, TypeError for `optax.lookahead`, whose parameters are
    pairs.
    """
    return minibatch(transform, steps, _all_of_it, keep_path=keep_path, unroll=unroll)._replace(drawn=False)


@by_value
def gradient_descent(rate, steps: int, *, keep_path: bool = False, unroll: int = 1) -> Repeated:
    """Plain gradient descent, `phi <- phi - rate * grad`; `rate` may be traced."""
    return optimizer(optax.sgd(rate), steps, keep_path=keep_path, unroll=unroll)


@by_value
def minibatch(
    transform: optax.GradientTransformation,
    steps: int,
    draw: Callable[[jax.Array, Task], Task],
    *,
    keep_path: bool = False,
    unroll: int = 1,
) -> Repeated:
    """`steps` updates with an optax transformation, each on `draw(key, task)`, a random part of the task.

    Two calls with the same key see the same mini-batches in the same order, which is what lets `matched` cancel
    their noise. `unroll` steps of the loop are compiled as one. What `draw` returns is all that the loss sees in that step: a fresh key in it
    is the randomness of dropout. Raises as `optimizer` does.
    """
    _require_steps("steps", steps)
    transform = _told_all(transform)

    def step(objective, phi, memory, task, key):
        batch = draw(key, task)
        value, gradient = jax.value_and_grad(objective)(phi, batch)
        updates, memory = transform.update(gradient, memory, phi, value=value, grad=gradient, value_fn=lambda p: objective(p, batch))
        return optax.apply_updates(phi, updates), memory

    return Repeated(transform.init, step, steps, partial(jax.lax.scan, unroll=unroll), keep_path, _averaged, transform, drawn=True)


def _all_of_it(key, task: Task) -> Task:
    return task


def _told_all(transform: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """The transformation, ready to be given the value, the gradient and the function, if it asks for them."""
    made_by = getattr(transform.init, "__qualname__", "").partition(".")[0]
    pairs = TypeError(
        "optax.lookahead holds its parameters in pairs, fast and slow, and an inner loss takes one set of them. Use its inner optimizer alone; "
        "for averaged weights, optax.contrib.schedule_free."
    )
    if made_by == "lookahead":
        raise pairs
    told = optax.with_extra_args_support(transform)

    def init(phi):
        memory = told.init(phi)
        if _parts(memory, optax.LookaheadState):
            raise pairs
        return memory

    def update(gradient, memory, phi=None, **more):
        try:
            return told.update(gradient, memory, phi, **more)
        except (AttributeError, TypeError) as error:
            raise TypeError(f"optax's `{made_by}` cannot learn phi here: {error}") from error

    return optax.GradientTransformationExtraArgs(init, update)


def _parts(memory, kind: type) -> list:
    """The parts of an optimizer's memory that are of a kind, at whatever depth of a chain."""
    is_one = lambda part: isinstance(part, kind)
    return [part for part in jax.tree.leaves(memory, is_leaf=is_one) if is_one(part)]


def _averaged(phi: Phi, memory) -> Phi:
    """The averaged weights of a schedule-free transformation; of any other, phi itself."""
    for part in _parts(memory, optax.contrib.ScheduleFreeState):
        phi = optax.contrib.schedule_free_eval_params(part, phi)
    return phi


def projected(solver: Repeated, project: Callable[[Phi], Phi]) -> Repeated:
    """The same solver under a constraint: every step ends in `project(phi)`, as in `optax.projections`, and so does the start.

    Then `grad_norm` is how far a projected gradient step of length one leads. The contrastive rules are right for it as they are, as long as
    the constraint does not depend on theta: the difference is that of the optimal values (Danskin's theorem), whatever set they are taken over.
    A proximal operator at the solver's rate will do, too: its penalty does not enter the contrast. `implicit` refuses: its equation holds
    where the gradient vanishes. Raises TypeError for a solver that cannot be taken apart.
    """
    if not isinstance(solver, Repeated):
        raise TypeError(f"projected ends every step in the constraint, and was given {solver!r}. Use gradient_descent, optimizer or minibatch.")

    def step(objective, phi, memory, task, key):
        phi, memory = solver.step(objective, project(phi), memory, task, key)
        return project(phi), memory

    return solver._replace(step=step, project=project)


class OfTheta(NamedTuple):
    """A solver that theta has a say in, such as a learned rate: `make(theta)` is the solver. See `of_theta`."""

    make: Callable[[Any], Solver]

    def __call__(self, objective, phi, task, key=None) -> Solved:
        raise TypeError(
            "this solver depends on theta (`of_theta`), and the estimator asks only where learning ends, which no rate or step changes: its "
            "meta-gradient would be zero without a word. Use `unrolled` or `forward_mode`; for a rate that is not learned, pass the solver itself."
        )


def of_theta(make: Callable[[Any], Solver]) -> OfTheta:
    """The solver `make(theta)`, for the estimators that differentiate through it: `unrolled` and `forward_mode`; all others refuse it.

        learner = of_theta(lambda theta: gradient_descent(jnp.exp(theta["log_rate"]), 20))

    A rate for every weight is a tree shaped like phi, in a transformation of your own (learned rates: Li et al. 2017).
    """
    return OfTheta(make)


def newton(linear: Callable, steps: int, *, keep_path: bool = False) -> Repeated:
    """Newton's method, `phi <- phi - v` with `H v = grad`, the curvature seen through Hessian-vector products alone.

    linear: solves that system; a linear solver of `cmlcore.estimators.implicit`. One step with `dense()` ends at the minimum of
    a quadratic; `damped(cg(5), 1.0)` makes Hessian-free optimization (Martens 2010), the second inner learner of
    iMAML. There is no line search: far from a minimum, damp. Raises ValueError for a negative number of steps.
    """
    _require_steps("steps", steps)

    def step(objective, phi, memory, task, key):
        gradient = jax.grad(lambda p: objective(p, task))
        solved = linear(lambda v: jax.jvp(gradient, (phi,), (v,))[1], gradient(phi))
        return trees.sub(phi, solved.v), memory

    return Repeated(lambda phi: (), step, steps, keep_path=keep_path)


def _require_steps(name: str, steps: int) -> None:
    if steps < 0:
        raise ValueError(f"{name} is {steps}; a solver takes 0 or more steps.")


@by_value
def until(transform: optax.GradientTransformation, tolerance, max_steps: int) -> Solver:
    """Updates on the full task until the gradient's norm is at most `tolerance`, or `max_steps` are taken.

    A `while_loop`: it cannot be differentiated in reverse mode, so it goes with every estimator but `unrolled`,
    `truncated` and `checkpointed`. A nudged phase begins at a gradient of beta |d L_out|: with a tolerance above that it takes no step, which
    `cmlcore.estimate.check_phases` refuses. Raises as `optimizer` does.
    """
    _require_steps("max_steps", max_steps)
    return Until(_told_all(transform), tolerance, max_steps)


class Until(NamedTuple):
    """The solver that `until` returns: a transformation, a tolerance for the gradient's norm, and the most steps that it takes.

    exactly: if given, a number of steps, traced or not, taken whatever the tolerance says: how `matched` gives its control as many.
    """

    transform: optax.GradientTransformationExtraArgs
    tolerance: Any
    max_steps: int
    exactly: Any = None

    def __call__(self, objective, phi, task, key=None) -> Solved:
        trees.require_real("phi", phi)
        look = jax.value_and_grad(objective)

        def step(carry):
            phi, state, value, grads, _, count = carry
            updates, state = self.transform.update(grads, state, phi, value=value, grad=grads, value_fn=lambda p: objective(p, task))
            phi = optax.apply_updates(phi, updates)
            value, grads = look(phi, task)
            return phi, state, value, grads, trees.norm(grads), count + 1

        def unfinished(carry):
            *_, size, count = carry
            return count < self.exactly if self.exactly is not None else (size > self.tolerance) & (count < self.max_steps)

        first, grads = look(phi, task)
        start = trees.norm(grads)
        phi, state, value, _, size, count = jax.lax.while_loop(unfinished, step, (phi, self.transform.init(phi), first, grads, start, jnp.asarray(0)))
        capped = None if self.exactly is not None else ~(size <= self.tolerance)
        if _parts(state, optax.contrib.ScheduleFreeState):
            phi = _averaged(phi, state)
            size = trees.norm(look(phi, task)[1])
        return Solved(phi, size, start, count, rose=_higher(value, first), capped=capped)


@by_value
def subsample(size: int, query_size: int | None = None) -> Callable[[jax.Array, Task], Task]:
    """A `draw` for `minibatch`: `size` support and `query_size` query examples (None: as many), with replacement, along the leading axis.

    0 is all of them, each once. Raises ValueError for a negative size; the draw does for data that are absent, or of arrays whose leading axes
    differ.
    """
    sizes = size, size if query_size is None else query_size
    if min(sizes) < 0:
        raise ValueError(f"a size is {min(sizes)}; a mini-batch holds one example or more, or all of them: 0.")

    def pick(key, data, size):
        if size == 0:
            return data
        lengths = {jnp.shape(x)[:1] for x in jax.tree.leaves(data)}
        if len(lengths) != 1 or () in lengths:
            what = f"arrays of lengths {sorted(n[0] if n else 0 for n in lengths)}" if lengths else "no data"
            raise ValueError(f"a mini-batch draws rows of all arrays of a set at once, and found {what}. Give them one length; 0 takes a set whole.")
        (count,) = lengths.pop()
        rows = jax.random.randint(key, (size,), 0, count)
        return jax.tree.map(lambda x: x[rows], data)

    def draw(key, task):
        if key is None:
            raise ValueError("a mini-batch solver draws at random: pass a key to the estimator (key=jax.random.key(0)).")
        return Task(*map(pick, jax.random.split(key), task, sizes))

    return draw
