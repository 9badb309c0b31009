"""Learning continued into the complex plane: complex parameters, complex nudges, and what a solver sees of them.

A loss made of sums, products, exp, tanh, ... is a function of a complex phi as it stands, and its derivative is complex too. Solvers of this
package descend along real gradients, so they get a complex tree as a `Pair` of real ones, and an objective whose "gradient" is the pair of the
complex derivative. Whatever a solver does *linearly* to a gradient (a rate, a schedule, momentum, weight decay, mini-batches) then does the same to
the complex one; what it does otherwise is refused by `require_linear`, and Adam is continued here. Of this book.

Choices (a rectifier's, a pool's, the largest logit's) are made by the real part, which is the analytic continuation wherever no choice is a tie.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from cmlcore.bilevel import Phi, Task


class Pair(NamedTuple):
    """A complex tree as two real ones of the same shapes."""

    real: Any
    imag: Any


def pair(tree) -> Pair:
    """A real tree as a `Pair` whose imaginary part is 0."""
    return Pair(tree, jax.tree.map(jnp.zeros_like, tree))


def joined(both: Pair):
    """The complex tree of a `Pair`."""
    return jax.tree.map(jax.lax.complex, *both)


def parted(tree) -> Pair:
    """The `Pair` of a complex tree."""
    return Pair(jax.tree.map(jnp.real, tree), jax.tree.map(jnp.imag, tree))


def lifted(tree):
    """A tree with every leaf complex, of twice its own precision's bits; what is complex stays as it is."""
    return jax.tree.map(lambda x: jnp.asarray(x).astype(jnp.promote_types(jnp.asarray(x).dtype, jnp.complex64)), tree)


def slope(loss: Callable, at):
    """The complex derivative of `loss(tree) -> scalar` at a complex tree, shaped like it; raises TypeError where `loss` is not holomorphic."""
    scalar = lambda tree: jnp.asarray(loss(tree)).astype(jnp.result_type(*jax.tree.leaves(at)))
    require_analytic(jax.make_jaxpr(scalar)(at))
    return jax.grad(scalar, holomorphic=True)(at)


def on_pairs(objective: Callable[[Phi, Task], jax.Array]) -> Callable[[Pair, Task], jax.Array]:
    """An objective of a `Pair` for a real solver: its value is the real part, its "gradient" the pair of the complex derivative.

    No real function has this gradient (the real part of a holomorphic one is a saddle everywhere): descending along it is what makes the
    iterates holomorphic in the nudge.
    """

    def height(both, task):
        return jnp.real(objective(joined(both), task))

    value = jax.custom_vjp(height)

    def forward(both, task):
        return height(both, task), continued_gradient(both, task)

    @jax.jit
    def continued_gradient(both, task):
        return parted(slope(lambda phi: objective(phi, task), joined(both)))

    value.defvjp(forward, lambda gradient, weight: (jax.tree.map(lambda g: weight * g, gradient), None))
    return value


# --- What is refused ---------------------------------------------------------------------------------------------------

_CONJUGATING = {"real", "imag", "conj", "abs", "sign"}
_LINEAR = {
    "add", "sub", "neg", "add_any", "convert_element_type", "reshape", "broadcast_in_dim", "squeeze", "transpose", "concatenate", "slice", "pad",
    "reduce_sum", "copy", "copy_p", "dynamic_slice", "dynamic_update_slice", "gather", "stop_gradient", "expand_dims", "rev", "optimization_barrier",
}  # fmt: skip


def require_analytic(program) -> None:
    """Raise TypeError, with the operation's name, if the output of a traced loss takes a real part, a conjugate or a size of a complex number.

    program: a closed jaxpr of `complex tree -> scalar`. Choices by comparison are let through: they are constant almost everywhere.
    """

    def spoils(equation, labels):
        touched = any(jnp.issubdtype(v.aval.dtype, jnp.complexfloating) and label is not None for v, label in zip(equation.invars, labels))
        return equation.primitive.name if touched and equation.primitive.name in _CONJUGATING else None

    if found := _spoiled(program.jaxpr, [""] * len(program.jaxpr.invars), spoils):
        raise TypeError(
            f"the loss is not holomorphic: it takes `{found}` of a complex number. Use what cmlcore.estimators.holomorphic continues (relu, max_pool, "
            "log_sum_exp, cross_entropy, transductive), or a real estimator (`matched`, `tangent`)."
        )


def require_linear(solver, objective, start: Pair, task, key) -> None:
    """Raise TypeError, with the operation's name, if `solver` does anything to the gradient that is not linear in it.

    What a callback hides is not seen, and how many steps a `while_loop` takes is let through: it is constant almost everywhere.
    """
    run = lambda phi: solver(objective, phi, task, key).phi
    program = jax.make_jaxpr(run)(start)

    def spoils(equation, labels):
        name, touched = equation.primitive.name, [label is not None for label in labels]
        if not any(touched) or name in _LINEAR or "callback" in name:
            return None
        if name in ("mul", "dot_general") and sum(touched) == 1:
            return None
        if name == "div" and not touched[1] or name == "select_n" and not touched[0]:
            return None
        return name

    if found := _spoiled(program.jaxpr, [""] * len(program.jaxpr.invars), spoils):
        raise TypeError(
            f"the nudged solver is not analytic: it applies `{found}` to a gradient, as adaptive rates (Adam, RMSprop, clipping by a norm) do. "
            "Use cmlcore.estimators.holomorphic.adam for Adam, gradient descent or momentum, or a real estimator (`matched`, `tangent`)."
        )


def _spoiled(jaxpr, labels, spoils) -> str | None:
    """The operation that spoiled an output, by name, or None. Labels of inputs: None does not depend, "" does, a name is spoiled."""
    return next((label for label in _labels(jaxpr, labels, spoils) if label), None)


def _labels(jaxpr, labels, spoils) -> list:
    known = dict(zip(jaxpr.invars, labels))
    look = lambda atom: None if hasattr(atom, "val") else known.get(atom)
    for equation in jaxpr.eqns:
        given = [look(v) for v in equation.invars]
        known |= zip(equation.outvars, _through(equation, given, spoils))
    return [look(v) for v in jaxpr.outvars]


def _through(equation, given, spoils) -> list:
    """Labels of an equation's outputs."""
    name, parameters = equation.primitive.name, equation.params
    outputs = equation.outvars
    if all(label is None for label in given):
        return [None] * len(outputs)
    if "callback" in name:
        return [""] * len(outputs)
    inside = next((parameters[k] for k in ("jaxpr", "call_jaxpr", "fun_jaxpr") if k in parameters), None)
    if name == "while":
        body, first = parameters["body_jaxpr"].jaxpr, parameters["cond_nconsts"]
        return _loop(body, given[first:], parameters["body_nconsts"], len(outputs), spoils)
    if name == "scan":
        body = parameters["jaxpr"].jaxpr
        return _loop(body, given, parameters["num_consts"], parameters["num_carry"], spoils)
    if name == "cond":
        branches = [_labels(branch.jaxpr, given[1:], spoils) for branch in parameters["branches"]]
        return [_joint(labels) for labels in zip(*branches)]
    if inside is not None and not str(parameters.get("name", "")).startswith("continued_"):
        return _labels(getattr(inside, "jaxpr", inside), given, spoils)
    worst = _joint(given)
    if inside is None and not worst:
        worst = spoils(equation, given) or worst
    moves = lambda v: jnp.issubdtype(v.aval.dtype, jnp.inexact)
    return [worst if moves(v) else None for v in outputs]


def _joint(labels):
    """What depends on several: spoiled if one is, dependent if one is."""
    return next((x for x in labels if x), next((x for x in labels if x is not None), None))


def _loop(body, given, constants, carried, spoils) -> list:
    """A loop's outputs: its body until the labels of what it carries do not change any more."""
    while True:
        out = _labels(body, given, spoils)
        carry = [_joint(both) for both in zip(given[constants : constants + carried], out)]
        if carry == given[constants : constants + carried]:
            return out
        given = [*given[:constants], *carry, *given[constants + carried :]]


# --- What is continued -------------------------------------------------------------------------------------------------


def relu(x):
    """The rectifier, chosen by the real part; any shape, real or complex."""
    return jnp.where(jnp.real(x) > 0, x, jnp.zeros_like(x))


def log_sum_exp(x):
    """`log sum exp` along the last axis, real or complex, shifted by the largest real part."""
    return _continued(x, lambda x: _shifted_log_sum_exp(x))


def _shifted_log_sum_exp(x):
    shift = jax.lax.stop_gradient(jnp.max(jnp.real(x), axis=-1, keepdims=True)).astype(x.dtype)
    return jnp.log(jnp.sum(jnp.exp(x - shift), axis=-1)) + shift[..., 0]


def _continued(x, function):
    """`function(x)` under a name that says that its use of real parts is the analytic continuation."""

    @jax.jit
    def continued_by_the_real_part(x):
        return function(x)

    return continued_by_the_real_part(x)


def cross_entropy(logits: Callable):
    """As `cmlcore.models.conv4.cross_entropy`, for complex parameters too: `(phi, examples) -> mean of -log p(label)`."""

    def loss(phi, examples):
        found = logits(phi, examples)
        chosen = jnp.take_along_axis(found, examples.labels[..., None], axis=-1)[..., 0]
        return jnp.mean(log_sum_exp(found) - chosen)

    return loss


def transductive(batch, support):
    """As `cmlcore.models.conv4.transductive`, for complex activations too: the mean square, not the mean squared size."""
    away = batch - jnp.mean(batch, axis=(0, 1, 2))
    return away * jax.lax.rsqrt(jnp.mean(away * away, axis=(0, 1, 2)) + 1e-5)


def adam(rate, decays=(0.9, 0.999), epsilon: float = 1e-8) -> optax.GradientTransformation:
    """Adam (Kingma & Ba 2015) for a `Pair`, its squares and roots taken in the complex plane: `optax.adam` on the real axis.

    rate: a scalar or a schedule. The root is the one with a positive real part. A fresh first step is `rate * g / sqrt(g^2)`, a sign: it does
    not depend on a small nudge at all.
    """
    first, second = decays

    def init(phi: Pair):
        zero = jax.tree.map(jnp.zeros_like, joined(phi))
        return jnp.asarray(0), zero, zero

    @jax.jit
    def continued_adam(gradient: Pair, state):
        count, mean, square = state
        gradient = joined(gradient)
        mean = jax.tree.map(lambda m, g: first * m + (1 - first) * g, mean, gradient)
        square = jax.tree.map(lambda s, g: second * s + (1 - second) * g * g, square, gradient)
        now = rate(count) if callable(rate) else rate
        right, root = 1 - first ** (count + 1.0), jnp.sqrt(1 - second ** (count + 1.0))
        move = jax.tree.map(lambda m, s: -now * (m / right) / (jnp.sqrt(s) / root + epsilon), mean, square)
        return parted(move), (count + 1, mean, square)

    return optax.GradientTransformation(init, lambda gradient, state, phi=None: continued_adam(gradient, state))
