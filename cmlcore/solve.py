"""Inner solvers: interchangeable values that minimize an objective and say how far from a fixed point they stopped.

A solver is a function `(objective, phi, task, key=None) -> Solved`, where `objective(phi, task)` is a scalar. Every
solver is pure, does not jit itself, and can be nested in `vmap`, `scan` and `grad`. Learning rates may be traced
values; step counts are static. Those that take a fixed number of steps are `Repeated`, which can be taken apart.
Updates are those of optax (DeepMind 2020); the interface is this book's own.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from cmlcore import trees
from cmlcore.bilevel import Phi, Task


class Solved(NamedTuple):
    """Where a solver stopped.

    phi:        the solution found.
    grad_norm:  norm of the objective's gradient there, on the full task: the distance from a fixed point.
    start_norm: the same at the start.
    steps:      how many steps were taken.
    path:       every iterate, `phi` of each step with a leading axis of length `steps + 1`; only when asked for.
    """

    phi: Phi
    grad_norm: jax.Array
    start_norm: jax.Array
    steps: jax.Array
    path: Any = None

    @property
    def diverged(self) -> jax.Array:
        """Whether the phase ran away: something is not finite, or the gradient grew ten-thousandfold."""
        floor = jnp.sqrt(jnp.finfo(self.grad_norm.dtype).eps)
        grown = self.grad_norm > 1e4 * jnp.maximum(self.start_norm, floor)
        return grown | ~trees.all_finite(self.phi) | ~jnp.isfinite(self.grad_norm)


class Solver(Protocol):
    """The one interface of inner learning: minimize `objective(phi, task) -> scalar` from `phi`, a tree; gives a `Solved`."""

    def __call__(self, objective: Callable[[Phi, Task], jax.Array], phi: Phi, task: Task, key=None) -> Solved: ...


class Repeated(NamedTuple):
    """A solver that repeats one step a fixed number of times, and can be taken apart.

    begin: `phi -> memory`, the optimizer's state before the first step; fresh in every phase.
    step:  `(objective, phi, memory, task, key) -> (phi, memory)`, one step.
    steps: how many; static.
    loop:  how they are chained, `(body, carry, xs, length) -> (carry, ys)` like `jax.lax.scan`. Every loop reaches the
           same phi; what may differ is how a derivative runs through it (see `cmlcore.unroll`).
    keep_path: whether `Solved.path` is kept.
    """

    begin: Callable
    step: Callable
    steps: int
    loop: Callable = jax.lax.scan
    keep_path: bool = False

    def __call__(self, objective, phi, task, key=None) -> Solved:
        def body(carry, key):
            phi, memory = self.step(objective, *carry, task, key)
            return (phi, memory), phi if self.keep_path else None

        keys = None if key is None else jax.random.split(key, self.steps)
        (last, _), path = self.loop(body, (phi, self.begin(phi)), keys, length=self.steps)
        if self.keep_path:
            path = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), phi, path)
        gradient = jax.grad(objective)
        sizes = trees.norm(gradient(last, task)), trees.norm(gradient(phi, task))
        return Solved(last, *sizes, jnp.asarray(self.steps), path)


def optimizer(
    transform: optax.GradientTransformation, steps: int, *, keep_path: bool = False, unroll: int = 1
) -> Repeated:
    """`steps` updates with any optax transformation on the full task. Fresh optimizer state for every phase.

    Raises ValueError for a negative number of steps.
    """
    return minibatch(transform, steps, lambda key, task: task, keep_path=keep_path, unroll=unroll)


def gradient_descent(rate, steps: int, *, keep_path: bool = False, unroll: int = 1) -> Repeated:
    """Plain gradient descent, `phi <- phi - rate * grad`; `rate` may be traced."""
    return optimizer(optax.sgd(rate), steps, keep_path=keep_path, unroll=unroll)


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
    their noise. `unroll` steps of the loop are compiled as one. Raises ValueError for a negative number of steps.
    """
    _require_steps("steps", steps)

    def step(objective, phi, memory, task, key):
        updates, memory = transform.update(jax.grad(objective)(phi, draw(key, task)), memory, phi)
        return optax.apply_updates(phi, updates), memory

    return Repeated(transform.init, step, steps, partial(jax.lax.scan, unroll=unroll), keep_path)


def newton(linear: Callable, steps: int, *, keep_path: bool = False) -> Repeated:
    """Newton's method, `phi <- phi - v` with `H v = grad`, the curvature seen through Hessian-vector products alone.

    linear: solves that system; a linear solver of `cmlcore.implicit`. One step with `dense()` ends at the minimum of
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


def until(transform: optax.GradientTransformation, tolerance, max_steps: int) -> Solver:
    """Updates on the full task until the gradient's norm is at most `tolerance`, or `max_steps` are taken.

    A `while_loop`: it cannot be differentiated in reverse mode, so it goes with every estimator but `unrolled`,
    `truncated` and `checkpointed`.
    Raises ValueError for a negative number of steps.
    """
    _require_steps("max_steps", max_steps)

    def solve(objective, phi, task, key=None):
        gradient = jax.grad(objective)

        def step(carry):
            phi, state, grads, _, count = carry
            updates, state = transform.update(grads, state, phi)
            phi = optax.apply_updates(phi, updates)
            grads = gradient(phi, task)
            return phi, state, grads, trees.norm(grads), count + 1

        def unfinished(carry):
            _, _, _, size, count = carry
            return (size > tolerance) & (count < max_steps)

        grads = gradient(phi, task)
        start = trees.norm(grads)
        phi, _, _, size, count = jax.lax.while_loop(
            unfinished, step, (phi, transform.init(phi), grads, start, jnp.asarray(0))
        )
        return Solved(phi, size, start, count)

    return solve


def subsample(size: int, query_size: int | None = None) -> Callable[[jax.Array, Task], Task]:
    """A `draw` for `minibatch`: `size` support and `query_size` query examples (None: as many), with replacement, along the leading axis.

    0 is all of them, each once. Raises ValueError for a negative size.
    """
    sizes = size, size if query_size is None else query_size
    if min(sizes) < 0:
        raise ValueError(f"a size is {min(sizes)}; a mini-batch holds one example or more, or all of them: 0.")

    def pick(key, data, size):
        if size == 0:
            return data
        count = jax.tree.leaves(data)[0].shape[0]
        rows = jax.random.randint(key, (size,), 0, count)
        return jax.tree.map(lambda x: x[rows], data)

    def draw(key, task):
        if key is None:
            raise ValueError("a mini-batch solver draws at random: pass a key to the estimator (key=jax.random.key(0)).")
        return Task(*map(pick, jax.random.split(key), task, sizes))

    return draw
