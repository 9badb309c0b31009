"""Loops, branches and functions that remember: operations with functions of their own, which `read` (that of reading.py) makes of their jaxprs."""

from collections.abc import Callable

import jax

from cmlcore.explore.program.building import Body, opened

REMEMBERED = "remembered"


def remembered(fn: Callable) -> Callable:
    """`fn` of arrays, which here is `jax.jit(fn)`; a page keeps its newest results, and computes nothing again for inputs that it has seen."""

    def call(*arrays):
        return fn(*arrays)

    call.__name__ = call.__qualname__ = REMEMBERED
    return jax.jit(call)


def _known(operands):
    """Operands that are constants are built into the function; the others stay its inputs."""
    return [x if x < 0 else None for x in operands], [x for x in operands if x >= 0]


def _scan(body: Body, eqn, operands, types, read) -> list[int]:
    params = eqn.params
    jaxpr, _ = opened(params["jaxpr"])
    # Ranks tell constants, carry and slices apart whatever this version of jax calls its parameters.
    slices = sum(len(a.aval.shape) > len(v.aval.shape) for a, v in zip(eqn.invars, jaxpr.invars, strict=True))
    stacked = sum(len(a.aval.shape) > len(v.aval.shape) for a, v in zip(eqn.outvars, jaxpr.outvars, strict=True))
    carry = len(types) - stacked
    consts = len(operands) - slices - carry
    known, kept = _known(operands[:consts])
    function = read(params["jaxpr"], known + [None] * (carry + slices), body.constants)
    settings = {
        "consts": len(kept),
        "carry": carry,
        "length": int(params["length"]),
        "reverse": bool(params["reverse"]),
    }
    return body.emit("scan", kept + operands[consts:], types, settings, [function])


def _while(body: Body, eqn, operands, types, read) -> list[int]:
    params = eqn.params
    first, second = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    carry = operands[second:]
    cond_known, cond_kept = _known(operands[:first])
    body_known, body_kept = _known(operands[first:second])
    functions = [
        read(params["cond_jaxpr"], cond_known + [None] * len(carry), body.constants),
        read(params["body_jaxpr"], body_known + [None] * len(carry), body.constants),
    ]
    settings = {"consts": [len(cond_kept), len(body_kept)]}
    return body.emit("while", cond_kept + body_kept + carry, types, settings, functions)


def _cond(body: Body, eqn, operands, types, read) -> list[int]:
    index, *rest = operands
    known, kept = _known(rest)
    functions = [read(branch, known, body.constants) for branch in eqn.params["branches"]]
    return body.emit("cond", [index, *kept], types, {}, functions)


def calls_remembered(eqn) -> bool:
    """Whether an equation is a call of what `remembered` made."""
    return eqn.params.get("name") == REMEMBERED


def _remembered(body: Body, eqn, operands, types, read) -> list[int]:
    known, kept = _known(operands)
    return body.emit(REMEMBERED, kept, types, {}, [read(eqn.params["jaxpr"], known, body.constants)])


CONTROL = {REMEMBERED: _remembered, "scan": _scan, "while": _while, "cond": _cond}
