"""A layered Hopfield network: neurons relax to a minimum of an energy that their synapses define (Hopfield 1984).

    E(r, theta, x) = sum_l |r_l|^2 / 2 - sum_l r_{l-1}^T W_l r_l - sum_l b_l^T r_l,      0 <= r_l <= 1,   r_0 = x

`r_1, ..., r_L` are the rates of the layers; every synapse works in both directions. The cost of the answer is

    C(r, y) = |r_L - y|^2 / 2

Seen as a bilevel problem the rates are the fast parameters phi, the synapses the slow ones theta: relaxing is the inner
loop, E the inner loss, C the outer one. So the estimators of this package train it, and `contrastive` *is* equilibrium
propagation (Scellier & Bengio 2017). On the box the energy is theirs for the hard sigmoid, whose integral is |r|^2 / 2.

A batch is one problem: energy and cost are sums over examples, which do not hear one another. Synapses are stored as
in `cmlcore.models.mlp`, a list of `{"w": (in, out), "b": (out,)}`; rates are a list of (examples, units).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from cmlcore import trees
from cmlcore.bilevel import Problem, free
from cmlcore.estimate import Estimate, MetaGradient, phase
from cmlcore.solve import Solver

Synapses = list[dict[str, jax.Array]]
Rates = list[jax.Array]


def init_synapses(key, widths: Sequence[int]) -> Synapses:
    """Symmetric synapses between layers of `widths` units: uniform in +-1 / sqrt(in), so weak that between layers of
    rates the energy begins convex (the norm of `w` is below 1), with one minimum.

    Biases are 0, those of the answer 1/2: a rate that rests against the wall at 0 does not hear a small nudge, and an
    answer that is silent for every example would stay so.
    """
    keys = jax.random.split(key, len(widths) - 1)
    synapses = [{"w": jax.random.uniform(k, (m, n), minval=-1, maxval=1) / jnp.sqrt(m), "b": jnp.zeros(n)} for k, m, n in zip(keys, widths[:-1], widths[1:])]
    synapses[-1]["b"] += 0.5
    return synapses


def energy(rates: Rates, synapses: Synapses, x) -> jax.Array:
    """E, summed over examples; x: (examples, in)."""
    total = jnp.zeros(())
    for layer, below, r in zip(synapses, [x, *rates], rates, strict=False):
        total += jnp.sum(r * (r / 2 - below @ layer["w"] - layer["b"]))
    return total


def cost(rates: Rates, synapses: Synapses, y) -> jax.Array:
    """C, summed over examples; y: (examples, out). Synapses do not enter."""
    return jnp.sum((rates[-1] - y) ** 2) / 2


def correlations(rates: Rates, x) -> Synapses:
    """What a synapse can measure, minus dE/dtheta: rate below times rate above, summed over examples."""
    return [{"w": below.T @ r, "b": jnp.sum(r, axis=0)} for below, r in zip([x, *rates], rates, strict=False)]


def hopfield(examples: int) -> Problem:
    """The network on a batch of `examples`, as a bilevel problem; `Task(support=x, query=y)`. Rates start at 0.

    Solve it with `cmlcore.theory.equilibrium.relax`, which keeps the rates between 0 and 1.
    """

    def at_rest(synapses: Synapses, x) -> Rates:
        return [jnp.zeros((examples, *layer["b"].shape), layer["b"].dtype) for layer in synapses]

    return Problem(energy, cost, at_rest)


def contrastive_hebbian(free_solver: Solver, clamped_solver: Solver) -> MetaGradient:
    """Contrastive Hebbian learning (Movellan 1991): free correlations minus those with the answer clamped to y.

    `grad` is that difference. beta times the estimate of equilibrium propagation becomes it for beta -> infinity.
    """

    def estimate(problem, synapses, task, key=None):
        start = free_solver(free(problem, synapses), problem.init(synapses, task.support), task)
        clamped = clamped_solver(lambda hidden, task: energy([*hidden, task.query], synapses, task.support), start.phi[:-1], task)
        grad = trees.sub(correlations(start.phi, task.support), correlations([*clamped.phi, task.query], task.support))
        value = problem.outer(start.phi, synapses, task.query)
        return Estimate(grad, value, start.phi, {"free": phase(start), "clamped": phase(clamped)})

    return estimate
