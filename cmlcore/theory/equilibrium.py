"""Relaxation of an energy's state within a box, and what it tells the synapses, step by step.

One step of relaxation is a projected step down the energy's slope,

    s <- clip(s - rate * dE/ds, 0, 1)

From a state at rest, nudge the relaxation for K steps, and photograph dE/dtheta after each. The increments between the
photographs are, for beta -> 0, the gradients that backpropagation through K free steps gives to the synapses *at each
step*, read backwards in time (Ernoult et al. 2019). Adding them up gives the two equal estimates of the whole.
"""

from typing import Any

import jax
import jax.numpy as jnp

from cmlcore import trees
from cmlcore.bilevel import Phi, Problem, Task, Theta, augmented, free
from cmlcore.solve import Solved, Solver


def _step(objective, state, task: Task, rate):
    slope = jax.grad(objective)(state, task)
    return jax.tree.map(lambda s, g: jnp.clip(s - rate * g, 0, 1), state, slope)


def relax(rate, steps: int, *, keep_path: bool = False) -> Solver:
    """`steps` projected gradient steps that keep every part of the state between 0 and 1; `rate` may be traced.

    `grad_norm` of what it returns is the norm of a further step over the rate: 0 at rest, also for a state that rests
    against a wall. Raises ValueError for a negative number of steps.
    """
    if steps < 0:
        raise ValueError(f"steps is {steps}; a solver takes 0 or more steps.")

    def solve(objective, state, task, key=None):
        move = lambda s: trees.norm(trees.sub(_step(objective, s, task, rate), s)) / rate

        def step(now, _):
            new = _step(objective, now, task, rate)
            return new, new if keep_path else None

        last, path = jax.lax.scan(step, state, length=steps)
        if keep_path:
            path = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), state, path)
        return Solved(last, move(last), move(state), jnp.asarray(steps), path)

    return solve


def nudged_by_step(problem: Problem, theta: Theta, task: Task, rest: Phi, rate, steps: int, beta) -> Any:
    """What each step of a nudged relaxation adds to the contrast: a tree like theta, leaves with a leading axis of `steps`.

    rest: a state at rest in the free phase. Entry t is [dE/dtheta(s_{t+1}) - dE/dtheta(s_t)] / beta.
    """
    path = relax(rate, steps, keep_path=True)(augmented(problem, theta, beta), rest, task).path
    photograph = lambda state: jax.grad(lambda th: free(problem, th)(state, task))(theta)
    return jax.tree.map(lambda p: (p[1:] - p[:-1]) / beta, jax.vmap(photograph)(path))


def backprop_by_step(problem: Problem, theta: Theta, task: Task, rest: Phi, rate, steps: int) -> Any:
    """The outer loss after `steps` free steps, differentiated in the theta *of each step*, the last step first.

    rest: a state at rest in the free phase. Shaped like the result of `nudged_by_step`, and equal to it for beta -> 0.
    """
    copies = jax.tree.map(lambda w: jnp.broadcast_to(w, (steps, *w.shape)), theta)

    def outcome(copies):
        last, _ = jax.lax.scan(lambda s, th: (_step(free(problem, th), s, task, rate), None), rest, copies)
        return problem.outer(last, theta, task.query)

    return jax.tree.map(lambda g: g[::-1], jax.grad(outcome)(copies))
