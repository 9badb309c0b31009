"""Memory that outlives a phase: an optimizer's momentum, handed from the free phase to those that follow it.

A solver starts every phase with a fresh memory. Here the memory becomes a part of the fast state, which every phase hands on to the
next as it is: `phi` is then the pair `(weights, memory)`, of which the losses see the weights alone. So no estimator knows about it, and
where one free phase is followed by two nudged ones, both start from the same memory. Of this book; the code of Zucchet et al. 2022
has it as an option for its largest images.

    learner = optimizer(optax.sgd(0.01, momentum=0.9, nesterov=True), 100)
    problem = carrying(fixed_pull(loss, 0.25), learner)
    rule = symmetric(carried(learner), carried(learner), beta=0.01)
"""

import jax
import jax.numpy as jnp

from cmlcore.bilevel import Problem
from cmlcore.solve import Repeated


def carrying(problem: Problem, solver: Repeated) -> Problem:
    """The same problem for fast states `(phi, memory)`, trees both; learning starts with the memory that `solver` starts with.

    Raises TypeError for a memory that is not made of real numbers: one that counts steps has no derivative.
    """

    def init(theta, support):
        phi = problem.init(theta, support)
        memory = solver.begin(phi)
        if whole := [x for x in jax.tree.leaves(memory) if not jnp.issubdtype(jnp.result_type(x), jnp.floating)]:
            raise TypeError(
                f"the solver's memory holds {len(whole)} whole numbers (Adam and schedules count their steps), and a fast state is made of "
                "real ones. Carry the momentum of optax.sgd with a constant rate, or let every phase begin afresh."
            )
        return phi, memory

    return Problem(
        lambda state, theta, support: problem.inner(state[0], theta, support),
        lambda state, theta, query: problem.outer(state[0], theta, query),
        init,
    )


def carried(solver: Repeated) -> Repeated:
    """The same solver on fast states `(phi, memory)`, trees both: it goes on from the memory that it is given, and hands its own on."""

    def step(objective, state, nothing, task, key):
        _, memory = state
        return solver.step(lambda phi, task: objective((phi, memory), task), *state, task, key), nothing

    return solver._replace(begin=lambda state: (), step=step)
