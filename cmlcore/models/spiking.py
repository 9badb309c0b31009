"""A recurrent network of leaky integrate-and-fire neurons with a read-out that integrates (Bellec et al. 2020; Zucchet et al. 2022).

    v_t = alpha v_{t-1} + W_in x_t + W_rec z_{t-1} - threshold z_{t-1},        z_t = 1 where v_t > threshold, else 0
    y_t = kappa y_{t-1} + W_out z_t,                                           the output is the mean of y_t over time

A spike takes `threshold` off the voltage (reset by subtraction), and no derivative goes through that. The step from v to z has derivative
zero or none; a *surrogate* psi stands in for it (Neftci et al. 2019), and is an argument. Networks are written for one example, time along the
leading axis; `jax.vmap` makes many.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

Surrogate = Callable[[jax.Array], jax.Array]


class Cell(NamedTuple):
    """The constants of all neurons, scalars, may be traced: what is left after one step of a voltage (`alpha`) and of the read-out
    (`kappa`), and the threshold. The defaults are e^(-1/30) and 0.1."""

    alpha: float = 0.9672161
    kappa: float = 0.9672161
    threshold: float = 0.1


class Weights(NamedTuple):
    """All synapses: `into` (inputs, neurons), `among` (neurons, neurons), `out` (neurons, outputs)."""

    into: jax.Array
    among: jax.Array
    out: jax.Array


class Record(NamedTuple):
    """What one example did, time along the leading axis of length T.

    spikes:   z, (T, neurons), 0 or 1.
    voltage:  v, (T, neurons).
    psi:      the surrogate derivative at v, (T, neurons).
    readout:  y, (T, outputs).
    trace_into, trace_among: the presynaptic traces sum_s alpha^(t-s) x_s and sum_s alpha^(t-s) z_{s-1}, (T, inputs) and (T, neurons).
    """

    spikes: jax.Array
    voltage: jax.Array
    psi: jax.Array
    readout: jax.Array
    trace_into: jax.Array
    trace_among: jax.Array


def triangle(height=0.3, width=0.1) -> Surrogate:
    """The surrogate `height max(0, 1 - |u| / width)` of u = v - threshold, any shape, as for e-prop (Bellec et al. 2020); `width` is their threshold."""
    return lambda u: height * jnp.maximum(0, 1 - jnp.abs(u) / width)


def fast_sigmoid(steepness=100.0) -> Surrogate:
    """The surrogate `1 / (steepness |u| + 1)^2` of u = v - threshold, any shape (Zenke & Ganguli 2018, in Neftci et al. 2019)."""
    return lambda u: 1 / (steepness * jnp.abs(u) + 1) ** 2


def spike(surrogate: Surrogate, u) -> jax.Array:
    """1 where `u > 0`, else 0, any shape; its derivative is `surrogate(u)` and its second that of the surrogate (Neftci et al. 2019)."""
    # Not a custom derivative: inside `scan`, JAX forgets it on the second of two reverse passes. `zero` is 0, with derivative 1.
    zero = u - jax.lax.stop_gradient(u)
    slope = jax.lax.stop_gradient(jax.jvp(surrogate, (u,), (jnp.ones_like(u),))[1])
    return jax.lax.stop_gradient((u > 0).astype(u.dtype)) + zero * (surrogate(u) - zero * slope / 2)


def init_weights(key, inputs: int = 100, neurons: int = 100, outputs: int = 1, gains=(0.1, 0.01, 0.1)) -> Weights:
    """Random synapses: normal, of deviation gain * sqrt(2 / fan_in), the gains for `into`, `among`, `out` in turn (Zucchet et al. 2022)."""
    shapes = (inputs, neurons), (neurons, neurons), (neurons, outputs)
    keys = jax.random.split(key, 3)
    return Weights(*(g * jnp.sqrt(2 / s[0]) * jax.random.normal(k, s) for k, s, g in zip(keys, shapes, gains)))


class State(NamedTuple):
    """All that the network carries from one time step to the next: voltage, spikes and `trace_among` (neurons,), readout (outputs,),
    `trace_into` (inputs,)."""

    voltage: jax.Array
    spikes: jax.Array
    readout: jax.Array
    trace_into: jax.Array
    trace_among: jax.Array


def rest(weights: Weights) -> State:
    """Everything at zero: a `State` in the shapes of `weights`."""
    (inputs, neurons), outputs = weights.into.shape, weights.out.shape[1]
    zero = partial(jnp.zeros, dtype=weights.into.dtype)
    return State(zero(neurons), zero(neurons), zero(outputs), zero(inputs), zero(neurons))


def tick(weights: Weights, cell: Cell, surrogate: Surrogate, state: State, x, cut: bool = False) -> tuple[State, jax.Array]:
    """One time step from a `State` with input spikes `x` (inputs,): the next one, and psi (neurons,).

    cut: whether derivatives stop at the spikes that come back from the last step. Backpropagation then is what e-prop computes
    (Bellec et al. 2020).
    """
    back = jax.lax.stop_gradient(state.spikes)
    came = back if cut else state.spikes
    voltage = cell.alpha * state.voltage + x @ weights.into + came @ weights.among - cell.threshold * back
    spikes = spike(surrogate, voltage - cell.threshold)
    readout = cell.kappa * state.readout + spikes @ weights.out
    traces = cell.alpha * state.trace_into + x, cell.alpha * state.trace_among + came
    return State(voltage, spikes, readout, *traces), surrogate(voltage - cell.threshold)


def run(weights: Weights, cell: Cell, surrogate: Surrogate, x, cut: bool = False) -> Record:
    """The network on one example's spikes `x`, (T, inputs): a `Record`. `cut` as in `tick`."""

    def step(state, x):
        state, psi = tick(weights, cell, surrogate, state, x, cut)
        return state, Record(state.spikes, state.voltage, psi, state.readout, state.trace_into, state.trace_among)

    return jax.lax.scan(step, rest(weights), x)[1]
