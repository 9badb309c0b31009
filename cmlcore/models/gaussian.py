"""A linear-Gaussian world, in which the best complex synapse is known in closed form (derived in this book).

In each task the right weights are drawn anew from a prior, one Gaussian per synapse, and seen through noise:

    w_i ~ N(m_i, v_i),         direct:  y = w + noise, one number per synapse        noise ~ N(0, sigma^2)
                               neuron:  y = x . w + noise, one number for all        x ~ N(0, I)

Errors are means over examples of the squared error, without a 1/2; for `direct`, summed over synapses like the pull.
Then the fast weights that minimize `error + sum_i lambda_i (phi_i - omega_i)^2` on n examples are the posterior mean of w if

    omega_i = m_i,         lambda_i = sigma^2 / (n v_i),

and no other rule has a lower expected error. (Errors that are *sums* over examples would give sigma^2 / v_i.)
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from cmlcore.bilevel import Task, concrete
from cmlcore.models.synapse import Synapses


class World(NamedTuple):
    """The prior and the noise: mean (d,) and variance (d,) of the right weights over tasks, noise variance, a scalar."""

    mean: jax.Array
    variance: jax.Array
    noise: jax.Array


class Examples(NamedTuple):
    """Examples of one linear neuron: inputs (examples, d) and targets (examples,)."""

    x: jax.Array
    y: jax.Array


def direct_task(world: World, key, shots: int, queries: int) -> Task:
    """A task whose synapses are seen one by one: `shots` support and `queries` query examples, (examples, d) each."""
    _require_examples(shots, queries)
    w, noise = jax.random.split(key)
    seen = _weights(world, w) + _noise(world, noise, (shots + queries, *world.mean.shape))
    return Task(seen[:shots], seen[shots:])


def direct_error(phi, y):
    """`phi` (d,) on examples `y` (examples, d): squared error, summed over synapses, mean over examples; a scalar."""
    return jnp.mean(jnp.sum((y - phi) ** 2, axis=-1))


def neuron_task(world: World, key, shots: int, queries: int) -> Task:
    """A task for a linear neuron, whose synapses share one error: a `Task` of `Examples`. `shots` may be less than d."""
    _require_examples(shots, queries)
    w, inputs, noise = jax.random.split(key, 3)
    x = jax.random.normal(inputs, (shots + queries, *world.mean.shape))
    y = x @ _weights(world, w) + _noise(world, noise, (shots + queries,))
    return Task(Examples(x[:shots], y[:shots]), Examples(x[shots:], y[shots:]))


def neuron_error(phi, examples: Examples):
    """`phi` (d,) on `examples`: the mean over examples of the squared error, a scalar."""
    return jnp.mean((examples.y - examples.x @ phi) ** 2)


def _weights(world, key):
    return world.mean + jnp.sqrt(world.variance) * jax.random.normal(key, world.mean.shape)


def _noise(world, key, shape):
    return jnp.sqrt(world.noise) * jax.random.normal(key, shape)


def _require_examples(shots, queries):
    if shots < 1 or queries < 1:
        raise ValueError(f"shots is {shots} and queries {queries}; a task needs at least one of each.")


# ---- closed forms ----------------------------------------------------------------------------------------------------


def best(world: World, shots: int) -> Synapses:
    """The prior, as synapses store it: omega = m, lambda = sigma^2 / (n v); for both kinds of task, each part (d,)."""
    return Synapses(world.mean, jnp.log(world.noise / (shots * world.variance)))


def settled_pull(world: World, shots: int, queries: int, beta):
    """Where the one-sided rule brings lambda at a finite nudge in `direct` tasks, both phases exact; (d,).

    With A and B the variances over tasks of the support's and the query's mean,

        1 + lambda = A (1 + r) / (2 v + beta B),      r^2 = 1 + beta (2 v + beta B) / A,

    and omega is still the prior's mean. At beta = 0 this is the best lambda. Where the formula gives lambda <= 0, which
    takes fewer query than support examples and `beta >= 2 queries / (shots - queries)`, a positive lambda falls without
    end; 0 is returned there. The tasks are infinitely many; for finitely many see `sampling_error`. Raises ValueError for
    beta < 0.
    """
    if (value := concrete(beta)) is not None and value < 0:
        raise ValueError(f"beta is {value:g}; where lambda settles is known for a nudge of 0 or more.")
    A, B = _variances(world, shots, queries)
    slope = (2 * world.variance + beta * B) / A
    return jnp.maximum((1 + jnp.sqrt(1 + beta * slope)) / slope - 1, 0.0)


def sampling_error(world: World, shots: int, queries: int, tasks: int) -> Synapses:
    """Standard deviations of omega and log lambda, learned from `tasks` `direct` tasks in the limit beta -> 0; (d,) each.

    There the rule does linear regression: of a task's query mean on its support mean. The slope is 1 / (1 + lambda), and the
    line meets the diagonal at omega. So both inherit the errors of a regression line (to first order in 1 / tasks).
    """
    A, B = _variances(world, shots, queries)
    v, lam = world.variance, jnp.exp(best(world, shots).log_lambda)
    rest = (B - v**2 / A) / tasks
    return Synapses(jnp.sqrt(rest) * (1 + lam) / lam, jnp.sqrt(rest / A) * (1 + lam) ** 2 / lam)


def _variances(world, shots, queries):
    """Over tasks, of the support's mean and of the query's mean, (d,) each."""
    return world.variance + world.noise / shots, world.variance + world.noise / queries
