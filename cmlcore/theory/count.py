"""What an estimator asks of the losses, counted in the traced program of one estimate instead of asserted.

`marked` puts a mark on every gradient of a loss that is computed, and on every product of its second derivative with
a vector. A mark is an operation that returns its argument, so it goes through `grad`, `jvp`, `vmap`, `scan` and
`checkpoint` like any other: whatever an estimator does with the losses, the program that results shows. `counts`
reads it. These definitions are this book's own.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.extend.core as core
from jax.flatten_util import ravel_pytree
from jax.interpreters import ad, batching, mlir

from cmlcore import trees
from cmlcore.bilevel import Loss, Problem, Task, Theta
from cmlcore.estimate import MetaGradient, programs
from cmlcore.estimators.holomorphic import lifted

_mark = core.Primitive("loss_derivative")  # parameters: its order, 1 or 2, and how many stand side by side under vmap
_mark.def_impl(lambda x, **_: x)
_mark.def_abstract_eval(lambda x, **_: x)
mlir.register_lowering(_mark, lambda context, x, **_: [x])
ad.deflinear2(_mark, lambda cotangent, x, **parameters: [_mark.bind(cotangent, **parameters)])


def _several(arguments, axes, *, order, wide):
    (x,), (axis,) = arguments, axes
    return _mark.bind(x, order=order, wide=wide * x.shape[axis]), axis


batching.primitive_batchers[_mark] = _several


def _marked(order: int, tree):
    flat, unravel = ravel_pytree(tree)
    return unravel(_mark.bind(flat, order=order, wide=1))  # type: ignore[call-arg]


def _marked_loss(loss: Loss) -> Loss:
    """The same loss; its gradient in (phi, theta) is one mark, a product with its second derivative another one.

    Where phi or theta is complex, so is the gradient, and it is one mark too.
    """
    of = lambda both, data: loss(*both, data)  # type: ignore[call-arg]

    def plain(both, data):
        return jax.grad(of, holomorphic=True)(lifted(both), data) if trees.is_complex(both) else jax.grad(of)(both, data)

    @jax.custom_jvp
    def slope(both, data):
        return _marked(1, plain(both, data))

    @slope.defjvp
    def _(primals, tangents):
        (both, data), (v, _) = primals, tangents
        product = jax.jvp(lambda b: plain(b, data), (both,), (v,))[1]
        return slope(both, data), _marked(2, product)

    @jax.custom_jvp
    def value(both, data):
        return of(both, data)

    @value.defjvp
    def _(primals, tangents):
        (both, data), (v, _) = primals, tangents
        return value(both, data), trees.dot(slope(both, data), v)

    return lambda phi, theta, data: value((phi, theta), data)


def marked(problem: Problem) -> Problem:
    """The same problem, same numbers, with a mark on each first and second derivative of its two losses."""
    # A plain problem, whatever kind was given: an estimator that does not call the losses of its kind must say so, not count as asking nothing.
    return Problem(_marked_loss(problem.inner), _marked_loss(problem.outer), problem.init)


class Counts(NamedTuple):
    """What one estimate asks of the two losses; numbers, infinite where a `while_loop` decides as it runs.

    first:    gradients of a loss, in phi, theta or both at once; a complex one counts once, and costs up to four times the products.
    second:   products of a second derivative of a loss with one vector: a Hessian-vector product, or a mixed one.
    chain:    the longest chain of these, each needing the one before: the sequential steps. A loop is as long as all
              its turns.
    backward: those of `second` that are computed in a loop that runs in reverse: steps of learning visited again,
              the last one first.
    """

    first: float = 0
    second: float = 0
    chain: float = 0
    backward: float = 0


def counts(estimator: MetaGradient, problem: Problem, theta: Theta, task: Task = Task(), key=None) -> Counts:
    """The four numbers that say what `estimator` asks of the losses for its `grad`; it is traced and not run.

    What only its diagnostics need is not counted. Of a `cond` the costlier branch is.
    """
    watched = marked(problem)
    return _program(jax.make_jaxpr(lambda theta, task: estimator(watched, theta, task, key).grad)(theta, task).jaxpr)


def _program(jaxpr) -> Counts:
    """The counts of all that `jaxpr` computes for its outputs."""
    total, depth = Counts(), dict[Any, int]()
    for equation in _needed(jaxpr):
        asked = _equation(equation)
        below = max((depth.get(v, 0) for v in _variables(equation.invars)), default=0)
        depth |= dict.fromkeys(_variables(equation.outvars), below + asked.chain)
        total = Counts(*(a + b for a, b in zip(total, asked)))
    return total._replace(chain=max(depth.values(), default=0))


def _equation(equation) -> Counts:
    parameters = equation.params
    if equation.primitive is _mark:
        first, second = (parameters["wide"] * (parameters["order"] == order) for order in (1, 2))
        return Counts(first, second, chain=1)
    inside = [_program(jaxpr) for jaxpr in programs(parameters.values())]
    if equation.primitive.name == "cond":
        return Counts(*map(max, zip(*inside)))
    together = Counts(*map(sum, zip(*inside))) if inside else Counts()
    if equation.primitive.name == "while":
        return Counts(*(math.inf if n else 0 for n in together))
    if equation.primitive.name == "scan":
        together = Counts(*(parameters["length"] * n for n in together))
        return together._replace(backward=together.second) if parameters["reverse"] else together
    return together


def _needed(jaxpr) -> list:
    """The equations that the outputs of `jaxpr` depend on, in order."""
    wanted, kept = set(_variables(jaxpr.outvars)), []
    for equation in reversed(jaxpr.eqns):
        if wanted.intersection(_variables(equation.outvars)):
            wanted.update(_variables(equation.invars))
            kept.append(equation)
    return kept[::-1]


def _variables(atoms) -> list:
    return [atom for atom in atoms if isinstance(atom, core.Var)]
