"""Numbers as spikes: a population of Gaussian-tuned neurons, and sine waves whose inputs are spike trains (Zucchet et al. 2022).

Input neuron i prefers a place c_i, evenly spaced over [0, 1], and fires in every time step with the probability

    exp(-(u - c_i)^2 / (2 variance)),                u = x rescaled from [-5, 5] to [0, 1].
"""

import jax
import jax.numpy as jnp

from cmlcore.bilevel import Task
from cmlcore.data.sine import INPUT, Points, sine_task

NEURONS, STEPS, VARIANCE = 100, 20, 2e-4


def tuning(x, neurons: int = NEURONS, variance=VARIANCE) -> jax.Array:
    """How likely each input neuron fires in one step, for numbers `x`, any shape: `(..., neurons)` probabilities."""
    low, high = INPUT
    place = (jnp.asarray(x)[..., None] - low) / (high - low)
    return jnp.exp(-((place - jnp.linspace(0, 1, neurons)) ** 2) / (2 * variance))


def encode(key, x, steps: int = STEPS, neurons: int = NEURONS, variance=VARIANCE) -> jax.Array:
    """Random spike trains for numbers `x`, (examples, 1): 0 or 1, `(examples, steps, neurons)`.

    Raises ValueError for fewer than one step or two neurons.
    """
    if steps < 1 or neurons < 2:
        raise ValueError(f"steps is {steps} and neurons {neurons}; a code needs one step and two neurons at least.")
    chance = tuning(x[:, 0], neurons, variance)[:, None, :]
    return jax.random.bernoulli(key, chance, (x.shape[0], steps, neurons)).astype(chance.dtype)


def spiking_task(key, shots: int = 10, queries: int = 10, steps: int = STEPS) -> Task:
    """One random wave of `cmlcore.data.sine.sine_task`, its inputs drawn as spikes once: `x` (examples, steps, 100), `y` (examples, 1)."""
    wave, *noise = jax.random.split(key, 3)
    task = sine_task(wave, shots, queries)
    return Task(*(Points(encode(k, points.x, steps), points.y) for k, points in zip(noise, task)))
