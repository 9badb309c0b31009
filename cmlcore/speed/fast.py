"""The contrastive rule on the sine network with its backward pass written out: the book's fast runs.

One problem only, the 1-H-H-1 regressor with tanh, a squared error and a fixed pull, learned by Adam on the full task. There the
rules below give what `cmlcore.estimators.contrastive` gives, to rounding, in fewer and cheaper operations:

* the synapses of a task lie in three arrays instead of six, so Adam is three updates a step and not six;
* backpropagation is written out (`backpropagate`) with every matrix product's left factor untransposed: on a CPU, with tasks side by
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
from cmlcore.estimate import Estimate, MetaGradient, nudged_phase, phase
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
        raise ValueError(f"the layers are {shapes}; this code is for widths (1, H, H, 1) only. Use cmlcore.estimators.contrastive.")
    a, b, c = params
    return Packed(jnp.stack([a["w"][0], a["b"], b["b"], c["w"][:, 0]]), b["w"], c["b"])


def unpack(packed: Packed):
    """The inverse of `pack`, a list of `{"w": (in, out), "b": (out,)}`."""
    w1, b1, b2, w3 = packed.rows
    return [{"w": w1[None], "b": b1}, {"w": packed.middle, "b": b2}, {"w": w3[:, None], "b": packed.last}]


class Rows(NamedTuple):
    """Examples with a weight each, all of shape (examples,): inputs, targets, and what the example's squared error counts."""

    x: jax.Array
    y: jax.Array
    weight: jax.Array


def support_rows(task) -> Rows:
    """The free phase's examples, `Rows` of shape (support,), each weighted 1 / support."""
    x, y = (points[:, 0] for points in task.support)
    return Rows(x, y, jnp.full_like(x, 1 / x.shape[0]))


def nudged_rows(task, beta) -> Rows:
    """The nudged phase's examples, `Rows` of shape (support + query,): the query's are weighted beta / query."""
    x, y = (points[:, 0] for points in task.query)
    return jax.tree.map(lambda *both: jnp.concatenate(both), support_rows(task), Rows(x, y, jnp.full_like(x, beta / x.shape[0])))


class Thin(NamedTuple):
    """How the products with a thin side are computed, which is a matter of the machine.

    output: `(examples, H), (H,) -> (examples,)`. sums: `(x, error, d1, d2, h2) -> (H,) four times`, sums over examples.
    """

    output: Callable
    sums: Callable


def _sums_by_products(x, error, d1, d2, h2):
    inputs = jnp.stack([x, jnp.ones_like(x)])
    of_first, of_second = inputs @ d1, inputs @ d2
    return of_first[0], of_first[1], of_second[1], error @ h2


BY_PRODUCTS = Thin(jnp.dot, _sums_by_products)


def backpropagate(w1, b1, w2, b2, w3, b3, rows: Rows, thin: Thin):
    """The gradient of `sum_i weight_i (f_phi(x_i) - y_i)^2`, backpropagation (Rumelhart et al. 1986) written out.

    w1, b1, b2, w3: (H,); w2: (H, H), from unit to unit; b3: a scalar. Returns the six gradients, shaped like the six.
    """
    x = rows.x
    times = lambda a, b: jnp.dot(a, b, precision="highest")
    h1 = jnp.tanh(x[:, None] * w1 + b1)
    h2 = jnp.tanh(times(h1, w2) + b2)
    error = 2 * rows.weight * (thin.output(h2, w3) + b3 - rows.y)
    d2 = error[:, None] * w3 * (1 - h2 * h2)
    d1 = times(d2, w2.T) * (1 - h1 * h1)
    # The first activations again, units first: cheaper to compute twice than to transpose.
    h1_columns = jnp.tanh(w1[:, None] * x + b1[:, None])
    of_w1, of_b1, of_b2, of_w3 = thin.sums(x, error, d1, d2, h2)
    return of_w1, of_b1, times(h1_columns, d2), of_b2, of_w3, jnp.sum(error)


def slope(phi: Packed, rows: Rows) -> Packed:
    """`backpropagate` on packed parameters: the gradient of the weighted squared error, shaped like phi."""
    w1, b1, b2, w3 = phi.rows
    g = backpropagate(w1, b1, phi.middle, b2, w3, phi.last[0], rows, BY_PRODUCTS)
    return Packed(jnp.stack([g[0], g[1], g[3], g[4]]), g[2], g[5][None])


def pulled(gradient, phi, omega, pull):
    """The whole inner gradient, a tree like phi: `gradient` and the pull's `2 lambda (phi - omega)`."""
    return jax.tree.map(lambda g, p, o: g + 2 * pull * (p - o), gradient, phi, omega)


class Adam(NamedTuple):
    """An inner learner: Adam with decays 0.9 and 0.999, as optax has it. Its two corrections are folded into two numbers a step.

    rate:  `step -> rate` counted from 0, or one rate, a scalar. steps: how many. Both may be traced.
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


def descend(start, gradient: Callable, adam: Adam):
    """All the steps of one phase from `start`, a tree, with fresh moments; `gradient` and the result are shaped like it."""

    def step(count, carry):
        now = adam.coefficients(count)
        gradients = jax.tree.leaves(gradient(jax.tree.unflatten(shape, carry[0])))
        new = [adam_update(*leaves, *now) for leaves in zip(*carry, gradients)]
        return tuple(map(list, zip(*new)))

    leaves, shape = jax.tree.flatten(start)
    zero = [jnp.zeros_like(x) for x in leaves]
    return jax.tree.unflatten(shape, jax.lax.fori_loop(0, adam.steps, step, (leaves, zero, zero))[0])


def learn(start: Packed, omega: Packed, pull, rows: Rows, adam: Adam) -> Solved:
    """One phase from `start`, shaped like omega: a `Solved` whose phi is `Packed`."""
    gradient = lambda phi: pulled(slope(phi, rows), phi, omega, pull)
    end = descend(start, gradient, adam)
    return Solved(end, trees.norm(gradient(end)), trees.norm(gradient(start)), jnp.asarray(adam.steps))


def _setting(problem, theta, task, beta):
    """What both rules start from: omega, and the free and the nudged phase's learners as `(start, adam) -> Solved`."""
    if not isinstance(problem, PulledRegression):
        raise TypeError(
            "the rules of cmlcore.speed.fast are written out for one problem, cmlcore.speed.fast.pulled_regression(pull). "
            "For any other use cmlcore.estimators.contrastive, which has the same rules."
        )
    omega = pack(theta)
    on = lambda rows: lambda start, adam: learn(start, omega, problem.pull, rows, adam)
    return omega, on(support_rows(task)), on(nudged_rows(task, beta))


def _estimate(problem, theta, task, beta, start, nudged, reference, info) -> Estimate:
    """Equation (8): the pull is all that theta enters by, so the contrast is the synapses' difference."""
    contrast = jax.tree.map(lambda b, c: -2 * problem.pull / beta * (b - c), nudged.phi, reference.phi)
    phi = unpack(start.phi)
    ended = {k: phase(v) if k == "free" else nudged_phase(v, info["free"], nudged.start_norm) for k, v in info.items()}
    return Estimate(unpack(contrast), problem.outer(phi, theta, task.query), phi, ended)


def contrastive(free: Adam, nudged: Adam, beta) -> MetaGradient:
    """`cmlcore.estimators.contrastive.contrastive` on a `pulled_regression` (Zucchet et al. 2022): the end of the free phase is the reference.

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
    """`cmlcore.estimators.contrastive.matched` on a `pulled_regression`: a control that goes on without the nudge is the reference; of this book.

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
