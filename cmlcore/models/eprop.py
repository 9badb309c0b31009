"""First derivatives of a spiking network's loss, from three sources that can be exchanged: a *plug* for any inner learner.

The loss of examples b = 1..B with the targets y*, and of a firing rate that is held near a target, is

    E = 1/B sum_b |Y_b - y*_b|^2 + strength (mean z - target)^2,              Y_b the mean over time of the read-out y.

Backpropagation through time (`bptt`) runs backwards through all steps. E-prop (Bellec et al. 2020) carries forward, at each synapse from
i to j, an eligibility e_t = psi_j,t trace_i,t and its low-pass filter ebar_t = kappa ebar_{t-1} + e_t; the error comes when the example ends:

    dE/dW_ij ~ sum_b [ L_bj mean_t ebar_bij,t + R sum_t e_bij,t ],     L_bj = sum_o 2/B (Y_bo - y*_bo) W_out_jo,     R = dE/dz of the rate.   (1)

So its memory does not grow with time. It leaves out how a spike acts on later spikes of other neurons; without recurrence nothing is left
out. With `feedback`, a fixed random matrix takes the place of W_out in L, as in feedback alignment (Lillicrap et al. 2016).

Each source is a function `(weights, points) -> (E, dE/dweights)`, `points.x` spikes (examples, T, inputs), `points.y` (examples, outputs).
`plugged` makes it a loss whose derivative it is.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from cmlcore import trees
from cmlcore.models.spiking import Cell, Surrogate, Weights, rest, run, tick

First = Callable[[Weights, object], tuple[jax.Array, Weights]]
ADVICE = (
    "{} gives first derivatives only, and this estimator asks for a second. Use `contrastive`, `symmetric`, `three_point`, `matched`, "
    "`first_order` or `reptile`; or `opened`, to go on through the source's own computations."
)


class Rate(NamedTuple):
    """How strongly the mean firing rate (spikes a neuron and step) is held to `target`: scalars, may be traced."""

    strength: float = 0.0
    target: float = 0.2


def error(cell: Cell, surrogate: Surrogate, rate: Rate = Rate(), cut: bool = False) -> Callable:
    """The loss E as a plain function `(weights, points) -> scalar`, differentiated by backpropagation through time as often as one likes.

    cut: whether derivatives stop at recurrent spikes; the first derivative then is e-prop's (Bellec et al. 2020).
    """

    def loss(weights, points):
        records = jax.vmap(lambda x: run(weights, cell, surrogate, x, cut))(points.x)
        return _error(jnp.mean(records.readout, 1), jnp.mean(records.spikes), points.y, rate)

    return loss


def _error(output, firing, target, rate: Rate):
    return jnp.mean(jnp.sum((output - target) ** 2, -1)) + rate.strength * (firing - rate.target) ** 2


def bptt(cell: Cell, surrogate: Surrogate, rate: Rate = Rate()) -> First:
    """Backpropagation through time: `(weights, points) -> (scalar, tree like weights)` (with surrogates: Neftci et al. 2019)."""
    return jax.value_and_grad(error(cell, surrogate, rate))


def eprop(cell: Cell, surrogate: Surrogate, rate: Rate = Rate(), feedback=None) -> First:
    """E-prop (1), every trace carried forward from step to step: memory flat in time (Bellec et al. 2020).

    feedback: None for L through the read-out's own weights, or a matrix (neurons, outputs). Gives `(scalar, tree like weights)`.
    """

    def one(weights, x):
        def step(carry, x):
            state, filtered, total, summed, firing = carry
            state, psi = tick(weights, cell, surrogate, state, x)
            eligible = jnp.concatenate([state.trace_into, state.trace_among])[:, None] * psi
            trace, mean = filtered
            trace = cell.kappa * trace + eligible
            shown, spikes = cell.kappa * summed[0] + state.spikes, summed[1]
            carry = state, (trace, mean + trace), total + eligible, (shown, spikes + shown), firing + jnp.sum(state.spikes)
            return carry, None

        start = rest(weights)
        none = jnp.zeros((sum(weights.into.shape), weights.out.shape[0]), weights.into.dtype)
        begin = start, (none, none), none, (start.spikes, start.spikes), jnp.zeros((), none.dtype)
        (_, (_, mean), total, (_, shown), firing), _ = jax.lax.scan(step, begin, x)
        steps, neurons = x.shape[0], none.shape[1]
        return shown / steps, mean / steps, total, firing / (steps * neurons)

    def first(weights, points):
        shown, filtered, total, firing = jax.vmap(lambda x: one(weights, x))(points.x)
        output, firing = shown @ weights.out, jnp.mean(firing)
        signal, to_rate, value = _signals(weights, output, firing, points, rate, feedback)
        both = jnp.einsum("bn,bin->in", signal, filtered) + to_rate * jnp.sum(total, 0)
        return value, _assembled(weights, both, shown, output, points)

    return first


def stored(cell: Cell, surrogate: Surrogate, rate: Rate = Rate(), feedback=None) -> First:
    """The numbers of `eprop`, up to rounding, from spikes and traces that are kept to the end and multiplied at once.

    Its memory grows with time; for short trains it is several times as fast. Gives `(scalar, tree like weights)`. An arrangement of this book.
    """

    def first(weights, points):
        record = jax.vmap(lambda x: run(weights, cell, surrogate, x))(points.x)
        steps = points.x.shape[1]
        # What a spike s steps before the end adds to the mean of the read-out: sum_{t <= s} kappa^t / T.
        left = jnp.cumsum(cell.kappa ** jnp.arange(steps))[::-1] / steps
        shown = jnp.einsum("t,btn->bn", left.astype(record.spikes.dtype), record.spikes)
        output = shown @ weights.out
        signal, to_rate, value = _signals(weights, output, jnp.mean(record.spikes), points, rate, feedback)
        factor = record.psi * (signal[:, None, :] * left[:, None].astype(signal.dtype) + to_rate)
        traces = jnp.concatenate([record.trace_into, record.trace_among], -1)
        both = jnp.einsum("bti,btn->in", traces, factor)
        return value, _assembled(weights, both, shown, output, points)

    return first


def _signals(weights, output, firing, points, rate: Rate, feedback):
    """L (examples, neurons), R and E."""
    examples, steps, _ = points.x.shape
    away = 2 / examples * (output - points.y)
    signal = away @ (weights.out if feedback is None else feedback).T
    to_rate = 2 * rate.strength * (firing - rate.target) / (examples * steps * weights.out.shape[0])
    return signal, to_rate, _error(output, firing, points.y, rate)


def _assembled(weights, both, shown, output, points) -> Weights:
    into, among = jnp.split(both, [weights.into.shape[0]])
    return Weights(into, among, 2 / points.y.shape[0] * shown.T @ (output - points.y))


def plugged(first: First, name: str) -> Callable:
    """The loss `(weights, points) -> scalar` whose derivative is what `first` says; a custom derivative, so every inner solver and every
    contrastive estimator takes it as it is.

    A second derivative does not exist: whoever asks for it gets a TypeError with `name` in it. Of this book.
    """

    @jax.custom_jvp
    def once(weights, points):
        return first(weights, points)

    @once.defjvp
    def _(primals, tangents):
        raise TypeError(ADVICE.format(name))

    return _with_derivative(once)


def opened(first: First) -> Callable:
    """The loss `(weights, points) -> scalar` whose derivative is what `first` says, and whose second derivative goes through the computations of
    `first` itself: backpropagation through an inner learner that uses e-prop, as the baselines of Zucchet et al. 2022 do."""
    return _with_derivative(first)


def _with_derivative(first: First) -> Callable:
    @jax.custom_vjp
    def loss(weights, points):
        return first(weights, points)[0]

    loss.defvjp(first, lambda gradient, up: (trees.scale(up, gradient), None))
    return loss
