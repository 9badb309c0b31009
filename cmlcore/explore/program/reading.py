"""A jaxpr becomes a function: calls are inlined, and operations on constant scalars are done here."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from cmlcore.explore.program.building import Body, Constants, Function, opened, type_of
from cmlcore.explore.program.composed import COMPOSED
from cmlcore.explore.program.control import CONTROL, REMEMBERED, calls_remembered
from cmlcore.explore.program.primitives import CALLS, PRIMITIVES, RANDOM, RENAMED, SAME, changes_nothing
from cmlcore.explore.program.refusing import ADD_IT, DRAW_BEFORE, Unsupported, place


def read(closed, known: list[int | None], constants: Constants) -> Function:
    """Translate a jaxpr. `known[i]` is the constant that the i-th argument always is, or None for a real input."""
    jaxpr, _ = opened(closed)
    body = Body(constants)
    arguments = [body.input(type_of(v.aval)) if k is None else k for v, k in zip(jaxpr.invars, known, strict=True)]
    outputs = _inline(body, closed, arguments)
    return Function(body.types[: body.count_inputs], body.ops, outputs)


def _inline(body: Body, closed, arguments) -> list[int]:
    """Append a jaxpr's equations; returns the operands of its outputs."""
    jaxpr, consts = opened(closed)
    env = {}

    def operand(atom):
        if isinstance(atom, Literal):
            return body.constants.add(np.asarray(atom.val, atom.aval.dtype), type_of(atom.aval))
        return env[atom]

    for var, value in zip(jaxpr.constvars, consts, strict=True):
        type_ = type_of(var.aval)
        env[var] = body.constants.add(np.asarray(value), type_)
    env.update(zip(jaxpr.invars, arguments, strict=True))
    for eqn in jaxpr.eqns:
        try:
            outputs = _equation(body, eqn, [operand(atom) for atom in eqn.invars])
        except Unsupported as error:
            raise error if error.place else Unsupported(error.what, error.advice, place(eqn)) from None
        env.update(zip(eqn.outvars, outputs, strict=True))
    return [operand(atom) for atom in jaxpr.outvars]


def _equation(body: Body, eqn, operands: list[int]) -> list[int]:
    name, params = eqn.primitive.name, eqn.params
    if name in CALLS and calls_remembered(eqn):
        return CONTROL[REMEMBERED](body, eqn, operands, [type_of(v.aval) for v in eqn.outvars], read)
    if name in CALLS:
        inner = next(params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in params)
        return _inline(body, inner, operands)
    if name == "custom_linear_solve":
        return _inline(body, params["jaxprs"].solve, _linear_solve_arguments(params, operands))
    if name in RANDOM:
        raise Unsupported(f"the page cannot draw random numbers: `{name}`", DRAW_BEFORE)
    types = [type_of(v.aval) for v in eqn.outvars]
    if hasattr(eqn.primitive, "plain"):  # one of this package's own, written here with JAX's
        avals = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in eqn.invars]
        return _inline(body, jax.make_jaxpr(eqn.primitive.plain)(*avals), operands)
    if name == "cond" and operands[0] < 0:
        return _inline(body, *_chosen(body, params["branches"], operands))
    if name in CONTROL:
        return CONTROL[name](body, eqn, operands, types, read)
    if name in COMPOSED:
        return COMPOSED[name](body, eqn, operands, types)
    if name in SAME or changes_nothing(body, name, params, operands, types):
        return [body.reshape(x, t) for x, t in zip(operands, types, strict=True)]
    if name not in PRIMITIVES:
        raise Unsupported(f"the page cannot compute `{name}`", ADD_IT)
    if all(x < 0 for x in operands) and operands and all(t.size == 1 for t in types):
        return _fold(body, eqn, operands, types)
    if name == "integer_pow" and params["y"] == 2:
        return body.emit("square", operands, types)
    return body.emit(RENAMED.get(name, name), operands, types, PRIMITIVES[name](params))


def _fold(body: Body, eqn, operands, types) -> list[int]:
    """Do an operation on constants now."""
    values = eqn.primitive.bind(*(jnp.asarray(body.constants[x]) for x in operands), **eqn.params)
    values = values if eqn.primitive.multiple_results else [values]
    return [body.constants.add(np.asarray(v), t) for v, t in zip(values, types, strict=True)]


def _linear_solve_arguments(params, operands):
    """The operands of `solve` among those of `custom_linear_solve`: its own constants, then the right-hand sides."""
    lengths = params["const_lengths"]
    start = lengths.matvec + lengths.vecmat
    return operands[start : start + lengths.solve] + operands[start + lengths.solve + lengths.transpose_solve :]


def _chosen(body: Body, branches, operands):
    """The branch that a constant index always takes, and its arguments."""
    index, *arguments = operands
    return branches[min(max(int(body.constants[index]), 0), len(branches) - 1)], arguments
