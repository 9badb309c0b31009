"""Few-shot regression of sine waves (Finn et al. 2017; here with the ranges of the CML talk).

A task is y = A sin(x + psi) with amplitude A ~ U[0.1, 5] and phase psi ~ U[0, pi]; inputs x ~ U[-5, 5].
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from cmlcore.bilevel import Task

AMPLITUDE = (0.1, 5.0)
PHASE = (0.0, jnp.pi)
INPUT = (-5.0, 5.0)
WIDTHS = (1, 40, 40, 1)


class Points(NamedTuple):
    """Examples of one wave: inputs and targets, each `(examples, 1)`."""

    x: jax.Array
    y: jax.Array


def wave(amplitude, phase, x) -> Points:
    """The examples of the wave with this amplitude and phase (radians) at inputs `x`, `(examples, 1)`."""
    return Points(x, amplitude * jnp.sin(x + phase))


def sine_task(key, shots: int = 10, queries: int = 10) -> Task:
    """One random wave: `shots` support and `queries` query examples, all at random inputs, each `(examples, 1)`."""
    if shots < 1 or queries < 1:
        raise ValueError(f"shots is {shots} and queries {queries}; a task needs at least one of each.")
    a, p, s, q = jax.random.split(key, 4)
    amplitude = jax.random.uniform(a, minval=AMPLITUDE[0], maxval=AMPLITUDE[1])
    phase = jax.random.uniform(p, minval=PHASE[0], maxval=PHASE[1])
    at = lambda k, n: jax.random.uniform(k, (n, 1), minval=INPUT[0], maxval=INPUT[1])
    return Task(wave(amplitude, phase, at(s, shots)), wave(amplitude, phase, at(q, queries)))


def mean_squared_error(predict):
    """`predict(phi, x) -> y` to a loss `(phi, points) -> mean over examples of (prediction - target)^2`."""
    return lambda phi, points: jnp.mean((predict(phi, points.x) - points.y) ** 2)


def nearest_wave(points: Points, x) -> jax.Array:
    """The wave of period 2 pi that is nearest to the points, by least squares, at inputs `x`, (n,): the true one, where they lie on a wave."""
    s, c, y = jnp.sin(points.x[:, 0]), jnp.cos(points.x[:, 0]), points.y[:, 0]
    ss, cc, sc = s @ s + 1e-4, c @ c + 1e-4, s @ c
    a, b = cc * (s @ y) - sc * (c @ y), ss * (c @ y) - sc * (s @ y)
    return (a * jnp.sin(x) + b * jnp.cos(x)) / (ss * cc - sc**2)
