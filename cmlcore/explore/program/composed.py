"""Primitives that the page need not have: they are written with others."""

import numpy as np

from cmlcore.explore.program.building import Body, Type


def _stack(body: Body, eqn, operands, types) -> list[int]:
    axis = int(eqn.params["axis"])
    wide = Type(types[0].dtype, (*types[0].shape[:axis], 1, *types[0].shape[axis + 1 :]))
    return body.emit("concatenate", [body.reshape(x, wide) for x in operands], types, {"dimension": axis})


def _unstack(body: Body, eqn, operands, types) -> list[int]:
    axis, shape = int(eqn.params["axis"]), body.type(operands[0]).shape
    thin = Type(types[0].dtype, (*shape[:axis], 1, *shape[axis + 1 :]))
    start = lambda i: {"start": [i * (d == axis) for d in range(len(shape))], "strides": [1] * len(shape)}  # noqa: E731
    return [body.reshape(body.emit("slice", operands, [thin], start(i))[0], t) for i, t in enumerate(types)]


def _tile(body: Body, eqn, operands, types) -> list[int]:
    dtype, shape = body.type(operands[0])
    repeated = Type(dtype, tuple(n for pair in zip(eqn.params["reps"], shape, strict=True) for n in pair))
    dims = {"dims": list(range(1, 2 * len(shape), 2))}
    return [body.reshape(body.emit("broadcast_in_dim", operands, [repeated], dims)[0], types[0])]


def _polynomial(body: Body, eqn, operands, types) -> list[int]:
    x, *coefficients = operands
    *rest, value = coefficients
    for c in reversed(rest):
        value = body.emit("add", [body.emit("mul", [value, x], types)[0], c], types)[0]
    return [value]


def _empty(body: Body, eqn, operands, types) -> list[int]:
    return [body.constants.add(np.zeros(t.shape, v.aval.dtype), t) for t, v in zip(types, eqn.outvars, strict=True)]


def _platform_index(body: Body, eqn, operands, types) -> list[int]:
    """Where code differs by platform, the page takes what is meant for any, else what is meant for a CPU."""
    platforms = eqn.params["platforms"]
    chosen = platforms.index(None) if None in platforms else next(i for i, p in enumerate(platforms) if "cpu" in p)
    return [body.constants.add(np.int32(chosen), types[0])]


COMPOSED = {"stack": _stack, "unstack": _unstack, "tile": _tile, "polynomial": _polynomial, "empty": _empty, "empty2": _empty,
            "platform_index": _platform_index}  # fmt: skip
