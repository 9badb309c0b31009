"""The contrastive rule on the sine network with its backward pass written out: the book's fast runs.

One problem only, the 1-H-H-1 regressor with tanh, a squared error and a fixed pull, learned by Adam on the full task. There the
rules below give what `cmlcore.contrastive` gives, to rounding, in fewer and cheaper operations:

* the synapses of a task lie in three arrays instead of six, so Adam is three updates a step and not six;
* backpropagation is written out (`slope`) with every matrix product's left factor untransposed: on a CPU, with tasks side by
  side under `vmap`, the other form falls back to code three times as slow;
* in a nudged phase the query examples are rows of the same products as the support examples, weighted by beta.

Updates are Adam's (Kingma & Ba 2015), the rule that of Zucchet et al. 2022; the arrangement is this book's own.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from cmlcore import trees
from cmlcore.bilevel import Loss, require_nonzero_beta
from cmlcore.data.sine import mean_squared_error
from cmlcore.estimate import Estimate, MetaGradient, phase
from cmlcore.models.mlp import mlp
from cmlcore.models.synapse import fixed_pull
from cmlcore.solve import Solved


class PulledRegression(NamedTuple):
    """A `Problem` that also says which it is: mean squared error of the tanh network, pulled to omega.

    inner, outer, init: as in `cmlcore.bilevel.Problem`. pull: lambda, a scalar.
    """

    inner: Loss
    outer: Loss
    init: Callable
    pull: jax.Array | float


def pulled_regression(pull) -> PulledRegression:
    """The sine problem with the pull lambda, a scalar; every solver and estimator of the package takes it.

    Its phi and theta are parameters of `cmlcore.models.mlp`, widths (1, H, H, 1). Raises ValueError for a negative pull.
    """
    plain = fixed_pull(mean_squared_error(lambda phi, x: mlp(phi, x, jnp.tanh)), pull)
    return PulledRegression(*plain, pull)


class Packed(NamedTuple):
    """The parameters of a 1-H-H-1 network in three arrays, or anything shaped like them.

    rows:   (4, H): first weights, first biases, second biases, last weights.
    middle: (H, H): second weights, from unit to unit.
    last:   (1,): the output's bias.
    """

    rows: jax.Array
    middle: jax.Array
    last: jax.Array


def pack(params) -> Packed:
    """Parameters of `cmlcore.models.mlp`, widths (1, H, H, 1), as `Packed`; raises ValueError for other shapes."""
    shapes = [layer["w"].shape for layer in params]
    width = shapes[0][-1]
    if shapes != [(1, width), (width, width), (width, 1)]:
        raise ValueError(f"the layers are {shapes}; this code is for widths (1, H, H, 1) only. Use cmlcore.contrastive.")
    a, b, c = params
    return Packed(jnp.stack([a["w"][0], a["b"], b["b"], c["w"][:, 0]]), b["w"], c["b"])


def unpack(packed: Packed):
    """The inverse of `pack`, a list of `{"w": (in, out), "b": (out,)}`."""
    w1, b1, b2, w3 = packed.rows
    return [{"w": w1[None], "b": b1}, {"w": packed.middle, "b": b2}, {"w": w3[:, None], "b": packed.last}]


class Rows(NamedTuple):
    """Examples with a weight each, all (examples, 1): inputs, targets, and what the example's squared error counts."""

    x: jax.Array
    y: jax.Array
    weight: jax.Array


def support_rows(task) -> Rows:
    """The free phase's examples, `Rows` of shape (support, 1), each weighted 1 / support."""
    x, y = task.support
    return Rows(x, y, jnp.full_like(x, 1 / x.shape[0]))


def nudged_rows(task, beta) -> Rows:
    """The nudged phase's examples, `Rows` of shape (support + query, 1): the query's are weighted beta / query."""
    query = Rows(*task.query, jnp.full_like(task.query.x, beta / task.query.x.shape[0]))
    return jax.tree.map(lambda *both: jnp.concatenate(both), support_rows(task), query)


def by_product(left, right):
    """`left^T right`, (examples, m) and (examples, n) to (m, n), as a matrix product."""
    return left.T @ right


def slope(phi: Packed, rows: Rows, sums: Callable = by_product) -> Packed:
    """The gradient of `sum_i weight_i (f_phi(x_i) - y_i)^2`, shaped like phi: backpropagation (Rumelhart et al. 1986) written out.

    sums: how `left^T right`, a sum over examples, is computed where one factor is thin.
    """
    w1, b1, b2, w3 = phi.rows
    x = rows.x
    h1 = jnp.tanh(x * w1 + b1)
    h2 = jnp.tanh(h1 @ phi.middle + b2)
    error = 2 * rows.weight * (h2 @ w3[:, None] + phi.last - rows.y)
    d2 = error * w3 * (1 - h2**2)
    d1 = (d2 @ phi.middle.T) * (1 - h1**2)
    # The first activations again, units first: cheaper to compute twice than to transpose.
    h1_columns = jnp.tanh(w1[:, None] * x[:, 0] + b1[:, None])
    inputs = jnp.concatenate([x, jnp.ones_like(x)], 1)
    small = jnp.concatenate([sums(inputs, d1), sums(inputs, d2)[1:], sums(error, h2)])
    return Packed(small, h1_columns @ d2, jnp.sum(error, 0))


def pulled_slope(phi: Packed, omega: Packed, pull, rows: Rows, sums: Callable = by_product) -> Packed:
    """The whole inner gradient, shaped like phi: `slope` and the pull's `2 lambda (phi - omega)`."""
    return jax.tree.map(lambda g, p, o: g + 2 * pull * (p - o), slope(phi, rows, sums), phi, omega)


class Adam(NamedTuple):
    """An inner learner: Adam with decays 0.9 and 0.999, as optax has it. Its two corrections are folded into two numbers a step.

    rate:  `step -> rate` counted from 0, or one rate, a scalar (may be traced). steps: how many; static.
    """

    rate: Callable | float
    steps: int

    def coefficients(self, step):
        """Rate and epsilon of a step counted from 0, two scalars, with Adam's bias corrections inside."""
        rate = self.rate(step) if callable(self.rate) else self.rate
        root = jnp.sqrt(1 - 0.999 ** (step + 1.0))
        return rate * root / (1 - 0.9 ** (step + 1.0)), 1e-8 * root


def adam_update(phi, mean, square, grad, rate, epsilon):
    """One step of Adam on one array of any shape, with a step's `coefficients`: `(phi, mean, square)`, shaped alike."""
    mean = 0.9 * mean + 0.1 * grad
    square = 0.999 * square + 0.001 * grad * grad
    return phi - rate * mean / (jnp.sqrt(square) + epsilon), mean, square


def learn(start: Packed, omega: Packed, pull, rows: Rows, adam: Adam) -> Solved:
    """One phase from `start`, shaped like omega, with fresh moments: a `Solved` whose phi is `Packed`."""
    gradient = lambda phi: pulled_slope(phi, omega, pull, rows)

    def step(count, carry):
        now = adam.coefficients(count)
        new = [adam_update(*leaves, *now) for leaves in zip(*carry, gradient(carry[0]))]
        return tuple(Packed(*part) for part in zip(*new))

    zero = jax.tree.map(jnp.zeros_like, start)
    end, _, _ = jax.lax.fori_loop(0, adam.steps, step, (start, zero, zero))
    return Solved(end, trees.norm(gradient(end)), trees.norm(gradient(start)), jnp.asarray(adam.steps))


def _setting(problem, theta, task, beta):
    """What both rules start from: omega, and the free and the nudged phase's learners as `(start, adam) -> Solved`."""
    if not isinstance(problem, PulledRegression):
        raise TypeError(
            "the rules of cmlcore.fast are written out for one problem, cmlcore.fast.pulled_regression(pull). "
            "For any other use cmlcore.contrastive, which has the same rules."
        )
    omega = pack(theta)
    on = lambda rows: lambda start, adam: learn(start, omega, problem.pull, rows, adam)
    return omega, on(support_rows(task)), on(nudged_rows(task, beta))


def _estimate(problem, theta, task, beta, start, nudged, reference, info) -> Estimate:
    """Equation (8): the pull is all that theta enters by, so the contrast is the synapses' difference."""
    contrast = jax.tree.map(lambda b, c: -2 * problem.pull / beta * (b - c), nudged.phi, reference.phi)
    phi = unpack(start.phi)
    return Estimate(unpack(contrast), problem.outer(phi, theta, task.query), phi, {k: phase(v) for k, v in info.items()})


def contrastive(free: Adam, nudged: Adam, beta) -> MetaGradient:
    """`cmlcore.contrastive.contrastive` on a `pulled_regression` (Zucchet et al. 2022): the end of the free phase is the reference.

    beta: a scalar. Raises ValueError for beta = 0; the estimator raises TypeError for another problem. It needs no key.
    """
    require_nonzero_beta(beta)

    def estimate(problem, theta, task, key=None):
        omega, freely, pushed = _setting(problem, theta, task, beta)
        start = freely(omega, free)
        end = pushed(start.phi, nudged)
        return _estimate(problem, theta, task, beta, start, end, start, {"free": start, "nudged": end})

    return estimate


def matched(free: Adam, nudged: Adam, beta) -> MetaGradient:
    """`cmlcore.contrastive.matched` on a `pulled_regression`: a control that goes on without the nudge is the reference; of this book.

    beta: a scalar. Raises as `contrastive` does.
    """
    require_nonzero_beta(beta)

    def estimate(problem, theta, task, key=None):
        omega, freely, pushed = _setting(problem, theta, task, beta)
        start = freely(omega, free)
        end, control = pushed(start.phi, nudged), freely(start.phi, nudged)
        info = {"free": start, "nudged": end, "control": control}
        return _estimate(problem, theta, task, beta, start, end, control, info)

    return estimate
