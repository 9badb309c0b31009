"""A traced JAX function as a small JSON program, which `program.js` runs in a page: no kernel, no network, no `eval`.

JAX traces a function to a jaxpr: a list of primitive operations on arrays of known shape. `export` copies that list
into JSON. Calls (`jit`, `custom_jvp`, `checkpoint`, ...) are inlined, operations on constant scalars are done here,
equal operations are merged, and what no output needs is dropped, inside loops as well.

The format (version 1). A program holds
    types:      [dtype, shape] pairs; every other place refers to a type by its index here;
    constants:  [type, value], value being a number (all elements are equal to it) or base64 of little-endian bytes;
    functions:  {"inputs": types, "ops": [...], "outputs": operands}; an op is [name, operands, types, parameters];
                an operand k >= 0 is the function's k-th value (inputs first, then op outputs in order), k < 0 is
                constant -1 - k; control flow names its functions in `parameters["functions"]`;
    main:       the index of the function to run;
    inputs:     {"name", "dtype", "shape"} for each input of main, in order;
    outputs:    {"name"} for each output of main; nested results are named by their path, `phi.0.w`.
"""

import base64
import json
import linecache
import os
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

VERSION = 1

DTYPES = {"float32": "f32", "float64": "f64", "int32": "i32", "int64": "i64", "uint32": "u32", "bool": "bool"}


class Unsupported(NotImplementedError):
    """A function uses something that the page cannot compute; the message names it and the line that used it.

    Made of `what` and `advice`; the place goes between them, once the nearest equation that knows its line is found.
    """

    def __init__(self, what: str, advice: str, place: str = ""):
        super().__init__(f"{what}{place}{advice}")
        self.what, self.advice, self.place = what, advice, place


def export(fn: Callable, **inputs) -> dict:
    """Trace `fn(**inputs)` and return it as a JSON-able program for `program.js`.

    fn:     a pure JAX function of named scalars or arrays that returns a pytree of arrays (a dict of names, best).
            It may close over arrays; these become constants. Random numbers must be such constants too.
    inputs: example values, which fix each input's shape and dtype. Their numbers are not stored.

    The page computes in the function's own precision. Its int64 is a double: exact up to 2^53, and an error in the page
    where an output, an index or a comparison depends on one that went beyond.

    Raises `Unsupported` for a primitive, dtype or int64 constant that the page does not have, TypeError for an input
    that is not one array. The program's bytes depend on the version of jax; what it computes does not.
    """
    for name, value in inputs.items():
        if len(jax.tree.leaves(value)) != 1 or jax.tree.structure(value) != jax.tree.structure(0):
            raise TypeError(f"input {name!r} is a {type(value).__name__}; an exported input is one scalar or array.")
    closed, result = jax.make_jaxpr(lambda *values: fn(**dict(zip(inputs, values, strict=True))), return_shape=True)(
        *inputs.values()
    )
    constants = _Constants()
    main = _function(closed, [None] * len(inputs), constants)
    main, _ = _prune(main, [True] * len(main.outputs), keep_inputs=True)
    paths = jax.tree_util.tree_flatten_with_path(result)[0]
    return _Writer(constants).program(main, list(inputs), [_path(path) for path, _ in paths])


def _path(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".") or "result"


# --- A function under construction ------------------------------------------------------------------------------------


class Type(NamedTuple):
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))


class Op(NamedTuple):
    """One operation. Operands are values of the function (>= 0) or constants (< 0); outputs are consecutive values."""

    name: str
    operands: tuple[int, ...]
    types: tuple[Type, ...]
    first: int
    params: dict
    functions: tuple["Function", ...] = ()


class Function(NamedTuple):
    inputs: list[Type]
    ops: list[Op]
    outputs: list[int]


class _Constants:
    """Every constant of a program once, numbered from -1 downwards."""

    def __init__(self):
        self.arrays: list[np.ndarray] = []
        self._index: dict = {}

    def add(self, value, type_: Type) -> int:
        array = np.asarray(value).reshape(type_.shape)
        key = type_, array.tobytes()
        if key not in self._index:
            self._index[key] = len(self.arrays)
            self.arrays.append(array)
        return -1 - self._index[key]

    def __getitem__(self, operand: int) -> np.ndarray:
        return self.arrays[-1 - operand]


def _type(aval) -> Type:
    name = str(aval.dtype)
    if name.startswith("key<"):
        raise Unsupported("the page has no random keys", DRAW_BEFORE)
    if name not in DTYPES:
        raise Unsupported(f"the page has no dtype {name}", f". It has {', '.join(DTYPES)}.")
    return Type(DTYPES[name], tuple(int(d) for d in aval.shape))


def _function(closed, known: list[int | None], constants: _Constants) -> Function:
    """Translate a jaxpr. `known[i]` is the constant that the i-th argument always is, or None for a real input."""
    jaxpr, consts = _open(closed)
    body = _Body(constants)
    arguments = [body.input(_type(v.aval)) if k is None else k for v, k in zip(jaxpr.invars, known, strict=True)]
    outputs = body.inline(jaxpr, consts, arguments)
    return Function(body.types[: body.count_inputs], body.ops, outputs)


def _open(closed):
    """The jaxpr and its constants, whether it came closed or open."""
    return (closed.jaxpr, closed.consts) if hasattr(closed, "consts") else (closed, ())


class _Body:
    """The operations of one function, in order, equal ones merged."""

    def __init__(self, constants: _Constants):
        self.constants = constants
        self.types: list[Type] = []
        self.ops: list[Op] = []
        self.count_inputs = 0
        self._merged: dict = {}

    def input(self, type_: Type) -> int:
        self.count_inputs += 1
        self.types.append(type_)
        return len(self.types) - 1

    def type(self, operand: int) -> Type:
        if operand >= 0:
            return self.types[operand]
        array = self.constants[operand]
        return Type(DTYPES[str(array.dtype)], array.shape)

    def emit(self, name, operands, types, params=None, functions=()) -> list[int]:
        operands, types, params = tuple(operands), tuple(types), params or {}
        key = name, operands, types, json.dumps(params)
        if functions or key not in self._merged:
            first = len(self.types)
            self.ops.append(Op(name, operands, types, first, params, tuple(functions)))
            self.types.extend(types)
            self._merged[key] = list(range(first, first + len(types)))
        return self._merged[key]

    def reshape(self, operand: int, type_: Type) -> int:
        """The same numbers in the same order under another shape: costs nothing in the page."""
        if self.type(operand) == type_:
            return operand
        if operand < 0:
            return self.constants.add(self.constants[operand], type_)
        return self.emit("reshape", [operand], [type_])[0]

    def inline(self, jaxpr, consts, arguments) -> list[int]:
        """Append a jaxpr's equations; returns the operands of its outputs."""
        env = {}

        def read(atom):
            if isinstance(atom, Literal):
                return self.constants.add(np.asarray(atom.val, atom.aval.dtype), _type(atom.aval))
            return env[atom]

        for var, value in zip(jaxpr.constvars, consts, strict=True):
            type_ = _type(var.aval)
            env[var] = self.constants.add(np.asarray(value), type_)
        env.update(zip(jaxpr.invars, arguments, strict=True))
        for eqn in jaxpr.eqns:
            try:
                outputs = self.equation(eqn, [read(atom) for atom in eqn.invars])
            except Unsupported as error:
                raise error if error.place else Unsupported(error.what, error.advice, _place(eqn)) from None
            env.update(zip(eqn.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def equation(self, eqn, operands: list[int]) -> list[int]:
        name, params = eqn.primitive.name, eqn.params
        if name in CALLS:
            inner = next(params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in params)
            return self.inline(*_open(inner), operands)
        if name == "custom_linear_solve":
            return self.inline(*_open(params["jaxprs"].solve), _linear_solve_arguments(params, operands))
        if name in RANDOM:
            raise Unsupported(f"the page cannot draw random numbers: `{name}`", DRAW_BEFORE)
        types = [_type(v.aval) for v in eqn.outvars]
        if hasattr(eqn.primitive, "plain"):  # one of this package's own, written here with JAX's
            avals = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in eqn.invars]
            return self.inline(*_open(jax.make_jaxpr(eqn.primitive.plain)(*avals)), operands)
        if name in COMPOSED:
            return COMPOSED[name](self, eqn, operands, types)
        if name in SAME or _changes_nothing(self, name, params, operands, types):
            return [self.reshape(x, t) for x, t in zip(operands, types, strict=True)]
        if name not in PRIMITIVES:
            raise Unsupported(f"the page cannot compute `{name}`", ADD_IT)
        if all(x < 0 for x in operands) and operands and all(t.size == 1 for t in types):
            return self.fold(eqn, operands, types)
        if name == "integer_pow" and params["y"] == 2:
            return self.emit("square", operands, types)
        return self.emit(RENAMED.get(name, name), operands, types, PRIMITIVES[name](params))

    def fold(self, eqn, operands, types) -> list[int]:
        """Do an operation on constants now."""
        values = eqn.primitive.bind(*(jnp.asarray(self.constants[x]) for x in operands), **eqn.params)
        values = values if eqn.primitive.multiple_results else [values]
        return [self.constants.add(np.asarray(v), t) for v, t in zip(values, types, strict=True)]


# --- The primitives ---------------------------------------------------------------------------------------------------

CALLS = {
    "jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr",
    "checkpoint", "remat", "remat2", "composite",
}  # fmt: skip

RANDOM = {
    "random_bits", "random_seed", "random_wrap", "random_unwrap", "random_fold_in", "random_split", "random_clone",
    "random_gamma", "threefry2x32", "rng_bit_generator", "rng_uniform",
}  # fmt: skip

# Same numbers, perhaps under another shape.
SAME = {
    "stop_gradient", "copy", "copy_p", "optimization_barrier", "device_put", "pvary", "name", "real",
    "reshape", "squeeze", "expand_dims", "sharding_constraint", "reshard", "with_memory_space_constraint", "tie",
}  # fmt: skip

ELEMENTWISE = {
    "neg", "abs", "sign", "floor", "ceil", "is_finite", "not", "square", "one_minus_square", "logistic", "sqrt",
    "rsqrt", "cbrt", "exp", "exp2", "expm1", "log", "log2", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "sinh",
    "cosh", "tanh", "asinh", "acosh", "atanh", "erf", "erfc", "erf_inv", "lgamma", "digamma", "add", "add_any", "sub", "mul",
    "div", "rem", "max", "min", "pow", "atan2", "and", "or", "xor", "eq", "ne", "lt", "le", "gt", "ge", "shift_left",
    "shift_right_logical", "shift_right_arithmetic", "select_n", "clamp",
}  # fmt: skip

UPDATES = {"scatter": "set", "scatter-add": "add", "scatter-sub": "sub", "scatter-mul": "mul", "scatter-min": "min",
           "scatter-max": "max"}  # fmt: skip
RENAMED = {"add_any": "add", **{name: "scatter" for name in UPDATES}}


def _nothing(params):
    return {}


def _keep(*names):
    """Keep these parameters under their own names, tuples as lists."""
    return lambda params: {name: _plain(params[name]) for name in names}


def _plain(value):
    return [_plain(v) for v in value] if isinstance(value, (tuple, list)) else int(value) if _is_int(value) else value


def _is_int(value):
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _slice(params):
    strides = params["strides"] or [1] * len(params["start_indices"])
    return {"start": _plain(params["start_indices"]), "strides": _plain(strides)}


def _dot(params):
    (contract_a, contract_b), (batch_a, batch_b) = params["dimension_numbers"]
    return {"contract": [_plain(contract_a), _plain(contract_b)], "batch": [_plain(batch_a), _plain(batch_b)]}


def _gather(params):
    d = params["dimension_numbers"]
    fill = params["fill_value"]
    return {
        "offset": _plain(d.offset_dims),
        "collapsed": _plain(d.collapsed_slice_dims + d.operand_batching_dims),
        "map": _plain(d.start_index_map),
        "batch": [_plain(d.operand_batching_dims), _plain(d.start_indices_batching_dims)],
        "sizes": _plain(params["slice_sizes"]),
        "mode": _mode(params),
        "fill": None if fill is None or fill != fill else _fill(fill),
    }


def _fill(value):
    """JSON has no infinities; what JavaScript reads as one, goes by its name."""
    _held(np.asarray(value))
    return float(value) if np.isfinite(value) else "Infinity" if value > 0 else "-Infinity"


def _held(array: np.ndarray) -> None:
    """Refuse whole numbers that a double cannot hold: the page has no other int64."""
    if array.dtype == np.int64:
        for value in array[np.abs(array) > 2**53].tolist():
            if int(float(value)) != value:
                raise Unsupported(
                    f"the page holds an int64 exactly up to 2^53, and a constant is {value}",
                    ". Use a smaller number, or float64, or compute that part in Python before exporting.",
                )


def _scatter(update):
    def params_of(params):
        d = params["dimension_numbers"]
        return {
            "offset": _plain(d.update_window_dims),
            "collapsed": _plain(d.inserted_window_dims + d.operand_batching_dims),
            "map": _plain(d.scatter_dims_to_operand_dims),
            "batch": [_plain(d.operand_batching_dims), _plain(d.scatter_indices_batching_dims)],
            "mode": _mode(params),
            "update": update,
        }

    return params_of


def _mode(params) -> str:
    """What an index out of bounds does: `clip`, or drop (scatter) and fill (gather)."""
    return "clip" if params["mode"] is None or params["mode"].name == "CLIP" else "fill"


PRIMITIVES: dict[str, Callable] = {
    **{name: _nothing for name in ELEMENTWISE},
    "integer_pow": _keep("y"),
    "round": lambda p: {"even": int(p["rounding_method"]) == 1},
    "convert_element_type": _nothing,
    "broadcast_in_dim": lambda p: {"dims": _plain(p["broadcast_dimensions"])},
    "transpose": _keep("permutation"),
    "concatenate": _keep("dimension"),
    "split": lambda p: {"sizes": _plain(p["sizes"]), "axis": p["axis"]},
    "pad": lambda p: {"padding": _plain(p["padding_config"])},
    "rev": _keep("dimensions"),
    "slice": _slice,
    "iota": _keep("dimension"),
    "dynamic_slice": _nothing,
    "dynamic_update_slice": _nothing,
    "gather": _gather,
    **{name: _scatter(update) for name, update in UPDATES.items()},
    **{f"reduce_{name}": _keep("axes") for name in ("sum", "prod", "max", "min", "and", "or", "xor")},
    **{name: _keep("axes") for name in ("argmax", "argmin")},
    **{name: _keep("axis", "reverse") for name in ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")},
    "sort": lambda p: {"axis": int(p["dimension"]), "keys": int(p["num_keys"])},
    "dot_general": _dot,
    "lu": _nothing,
    "cholesky": _nothing,
    "triangular_solve": lambda p: {
        "left": p["left_side"],
        "lower": p["lower"],
        "transpose": p["transpose_a"],
        "unit": p["unit_diagonal"],
    },  # fmt: skip
}


def _changes_nothing(body: _Body, name, params, operands, types) -> bool:
    """Whether an operation only renames or reshapes its operand."""
    if len(types) != 1 or not operands or any(body.type(operands[0])[0] != t.dtype for t in types):
        return False
    before, after = body.type(operands[0]), types[0]
    if name == "broadcast_in_dim":
        return before.size == after.size
    if name == "transpose":
        return [d for d in params["permutation"] if before.shape[d] != 1] == [
            d for d in range(len(before.shape)) if before.shape[d] != 1
        ]
    if name == "reduce_precision":
        return (params["exponent_bits"], params["mantissa_bits"]) == {"f32": (8, 23), "f64": (11, 52)}.get(before.dtype)
    if name == "integer_pow":
        return params["y"] == 1
    if name.startswith("reduce_"):
        return before.size == after.size
    return name == "convert_element_type"


def _linear_solve_arguments(params, operands):
    """The operands of `solve` among those of `custom_linear_solve`: its own constants, then the right-hand sides."""
    lengths = params["const_lengths"]
    start = lengths.matvec + lengths.vecmat
    return operands[start : start + lengths.solve] + operands[start + lengths.solve + lengths.transpose_solve :]


# --- Control flow, and primitives that are written with others --------------------------------------------------------


def _known(operands):
    """Operands that are constants are built into the function; the others stay its inputs."""
    return [x if x < 0 else None for x in operands], [x for x in operands if x >= 0]


def _scan(body: _Body, eqn, operands, types) -> list[int]:
    params = eqn.params
    jaxpr, _ = _open(params["jaxpr"])
    # Ranks tell constants, carry and slices apart whatever this version of jax calls its parameters.
    slices = sum(len(a.aval.shape) > len(v.aval.shape) for a, v in zip(eqn.invars, jaxpr.invars, strict=True))
    stacked = sum(len(a.aval.shape) > len(v.aval.shape) for a, v in zip(eqn.outvars, jaxpr.outvars, strict=True))
    carry = len(types) - stacked
    consts = len(operands) - slices - carry
    known, kept = _known(operands[:consts])
    function = _function(params["jaxpr"], known + [None] * (carry + slices), body.constants)
    settings = {
        "consts": len(kept),
        "carry": carry,
        "length": int(params["length"]),
        "reverse": bool(params["reverse"]),
    }
    return body.emit("scan", kept + operands[consts:], types, settings, [function])


def _while(body: _Body, eqn, operands, types) -> list[int]:
    params = eqn.params
    first, second = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    carry = operands[second:]
    cond_known, cond_kept = _known(operands[:first])
    body_known, body_kept = _known(operands[first:second])
    functions = [
        _function(params["cond_jaxpr"], cond_known + [None] * len(carry), body.constants),
        _function(params["body_jaxpr"], body_known + [None] * len(carry), body.constants),
    ]
    settings = {"consts": [len(cond_kept), len(body_kept)]}
    return body.emit("while", cond_kept + body_kept + carry, types, settings, functions)


def _cond(body: _Body, eqn, operands, types) -> list[int]:
    index, *rest = operands
    branches = eqn.params["branches"]
    if index < 0:
        chosen = min(max(int(body.constants[index]), 0), len(branches) - 1)
        return body.inline(*_open(branches[chosen]), rest)
    known, kept = _known(rest)
    functions = [_function(branch, known, body.constants) for branch in branches]
    return body.emit("cond", [index, *kept], types, {}, functions)


def _stack(body: _Body, eqn, operands, types) -> list[int]:
    axis = int(eqn.params["axis"])
    wide = Type(types[0].dtype, (*types[0].shape[:axis], 1, *types[0].shape[axis + 1 :]))
    return body.emit("concatenate", [body.reshape(x, wide) for x in operands], types, {"dimension": axis})


def _unstack(body: _Body, eqn, operands, types) -> list[int]:
    axis, shape = int(eqn.params["axis"]), body.type(operands[0]).shape
    thin = Type(types[0].dtype, (*shape[:axis], 1, *shape[axis + 1 :]))
    start = lambda i: {"start": [i * (d == axis) for d in range(len(shape))], "strides": [1] * len(shape)}  # noqa: E731
    return [body.reshape(body.emit("slice", operands, [thin], start(i))[0], t) for i, t in enumerate(types)]


def _tile(body: _Body, eqn, operands, types) -> list[int]:
    dtype, shape = body.type(operands[0])
    repeated = Type(dtype, tuple(n for pair in zip(eqn.params["reps"], shape, strict=True) for n in pair))
    dims = {"dims": list(range(1, 2 * len(shape), 2))}
    return [body.reshape(body.emit("broadcast_in_dim", operands, [repeated], dims)[0], types[0])]


def _polynomial(body: _Body, eqn, operands, types) -> list[int]:
    x, *coefficients = operands
    *rest, value = coefficients
    for c in reversed(rest):
        value = body.emit("add", [body.emit("mul", [value, x], types)[0], c], types)[0]
    return [value]


def _empty(body: _Body, eqn, operands, types) -> list[int]:
    return [body.constants.add(np.zeros(t.shape, v.aval.dtype), t) for t, v in zip(types, eqn.outvars, strict=True)]


def _platform_index(body: _Body, eqn, operands, types) -> list[int]:
    """Where code differs by platform, the page takes what is meant for any, else what is meant for a CPU."""
    platforms = eqn.params["platforms"]
    chosen = platforms.index(None) if None in platforms else next(i for i, p in enumerate(platforms) if "cpu" in p)
    return [body.constants.add(np.int32(chosen), types[0])]


COMPOSED = {"scan": _scan, "while": _while, "cond": _cond, "stack": _stack, "unstack": _unstack, "tile": _tile,
            "polynomial": _polynomial, "empty": _empty, "empty2": _empty,
            "platform_index": _platform_index}  # fmt: skip


# --- Dropping what no output needs ------------------------------------------------------------------------------------


def _prune(function: Function, live: list[bool], keep_inputs: bool = False) -> tuple[Function, list[bool]]:
    """`function` without the outputs that are not `live` and whatever only they need; which of its inputs remain."""
    outputs = [x for x, wanted in zip(function.outputs, live, strict=True) if wanted]
    needed, ops = {x for x in outputs if x >= 0}, []
    for op in reversed(function.ops):
        wanted = [op.first + i in needed for i in range(len(op.types))]
        if any(wanted):
            op, kept = PRUNE.get(op.name, _prune_nothing)(op, wanted)
            ops.append((op, kept))
            needed.update(x for x in op.operands if x >= 0)
    live_inputs = [keep_inputs or i in needed for i in range(len(function.inputs))]
    number = {x: i for i, x in enumerate(x for x, alive in enumerate(live_inputs) if alive)}
    renumbered = []
    for op, kept in reversed(ops):
        first = len(number)
        number.update({op.first + old: first + new for new, old in enumerate(kept)})
        operands = tuple(number.get(x, x) for x in op.operands)
        renumbered.append(op._replace(operands=operands, first=first))
    inputs = [t for t, alive in zip(function.inputs, live_inputs, strict=True) if alive]
    return Function(inputs, renumbered, [number.get(x, x) for x in outputs]), live_inputs


def _only(values, mask):
    return [v for v, keep in zip(values, mask, strict=True) if keep]


def _prune_nothing(op: Op, wanted):
    return op, range(len(op.types))


def _prune_scan(op: Op, wanted):
    consts, carry = op.params["consts"], op.params["carry"]
    alive = list(wanted)
    while True:  # a carry lives if an output needs it, or a carry that lives does
        body, inputs = _prune(op.functions[0], alive)
        grown = [a or i for a, i in zip(alive[:carry], inputs[consts : consts + carry], strict=True)]
        if grown == alive[:carry]:
            break
        alive[:carry] = grown
    # A carry that is kept for its final value alone still needs its place among the inputs.
    inputs[consts : consts + carry] = alive[:carry]
    body = _with_inputs(op.functions[0], alive, inputs)
    params = {**op.params, "consts": sum(inputs[:consts]), "carry": sum(alive[:carry])}
    kept = [i for i, a in enumerate(alive) if a]
    return op._replace(
        operands=tuple(_only(op.operands, inputs)),
        types=tuple(_only(op.types, alive)),
        params=params,
        functions=(body,),
    ), kept


def _prune_while(op: Op, wanted):
    first, second = op.params["consts"]
    carry = len(op.types)
    _, cond_inputs = _prune(op.functions[0], [True])
    alive = [w or c for w, c in zip(wanted, cond_inputs[first:], strict=True)]
    while True:
        _, inputs = _prune(op.functions[1], alive)
        grown = [a or i for a, i in zip(alive, inputs[second:], strict=True)]
        if grown == alive:
            break
        alive = grown
    cond_inputs[first:], inputs[second:] = alive, alive
    functions = (_with_inputs(op.functions[0], [True], cond_inputs), _with_inputs(op.functions[1], alive, inputs))
    mask = cond_inputs[:first] + inputs[:second] + alive
    params = {"consts": [sum(cond_inputs[:first]), sum(inputs[:second])]}
    kept = [i for i in range(carry) if alive[i]]
    return op._replace(
        operands=tuple(_only(op.operands, mask)),
        types=tuple(_only(op.types, alive)),
        params=params,
        functions=functions,
    ), kept


def _prune_cond(op: Op, wanted):
    masks = [_prune(branch, wanted)[1] for branch in op.functions]
    inputs = [any(column) for column in zip(*masks, strict=True)]
    functions = tuple(_with_inputs(branch, wanted, inputs) for branch in op.functions)
    kept = [i for i, w in enumerate(wanted) if w]
    operands = (op.operands[0], *_only(op.operands[1:], inputs))
    return op._replace(operands=operands, types=tuple(_only(op.types, wanted)), functions=functions), kept


PRUNE = {"scan": _prune_scan, "while": _prune_while, "cond": _prune_cond}


def _with_inputs(function: Function, live: list[bool], inputs: list[bool]) -> Function:
    """`function` pruned to the `live` outputs, keeping exactly the inputs of the mask (a superset of those needed)."""
    pruned, _ = _prune(function, live, keep_inputs=True)
    number = {old: new for new, old in enumerate(i for i, keep in enumerate(inputs) if keep)}
    shift = len(inputs) - len(number)
    rename = lambda x: x if x < 0 else number[x] if x < len(inputs) else x - shift  # noqa: E731
    ops = [op._replace(operands=tuple(map(rename, op.operands)), first=rename(op.first)) for op in pruned.ops]
    return Function(_only(pruned.inputs, inputs), ops, [rename(x) for x in pruned.outputs])


# --- Writing ----------------------------------------------------------------------------------------------------------


class _Writer:
    """Numbers types, constants and functions as they are used, each once."""

    def __init__(self, constants: _Constants):
        self.constants = constants
        self.types: dict[Type, int] = {}
        self.used: dict[int, int] = {}
        self.functions: dict[str, int] = {}

    def program(self, main: Function, inputs: list[str], outputs: list[str]) -> dict:
        index = self.function(main)
        stored = [self.constant(operand) for operand in self.used]
        return {
            "format": "cml-program",
            "version": VERSION,
            "types": [[t.dtype, list(t.shape)] for t in self.types],
            "constants": stored,
            "functions": [json.loads(text) for text in self.functions],
            "main": index,
            "inputs": [
                {"name": n, "dtype": t.dtype, "shape": list(t.shape)} for n, t in zip(inputs, main.inputs, strict=True)
            ],
            "outputs": [{"name": n} for n in outputs],
        }

    def type(self, type_: Type) -> int:
        return self.types.setdefault(type_, len(self.types))

    def operand(self, operand: int) -> int:
        return operand if operand >= 0 else -1 - self.used.setdefault(operand, len(self.used))

    def function(self, function: Function) -> int:
        text = json.dumps(
            {
                "inputs": [self.type(t) for t in function.inputs],
                "ops": [self.op(op) for op in function.ops],
                "outputs": [self.operand(x) for x in function.outputs],
            },
            allow_nan=False,
        )
        return self.functions.setdefault(text, len(self.functions))

    def op(self, op: Op) -> list:
        params = dict(op.params)
        if op.functions:
            params["functions"] = [self.function(f) for f in op.functions]
        row = [op.name, [self.operand(x) for x in op.operands], [self.type(t) for t in op.types]]
        return [*row, params] if params else row

    def constant(self, operand: int) -> list[Any]:
        array = self.constants[operand]
        _held(array)
        type_ = self.type(Type(DTYPES[str(array.dtype)], array.shape))
        first = array.reshape(-1)[0] if array.size else 0
        if array.size and np.isfinite(first) and not np.signbit(first) and (array == first).all():
            # The shortest decimal that rounds to this number in its own precision.
            return [type_, int(first) if array.dtype.kind in "iub" else float(str(first))]
        little = array.astype(float) if array.dtype == np.int64 else array
        return [
            type_,
            base64.b64encode(np.ascontiguousarray(little).astype(little.dtype.newbyteorder("<")).tobytes()).decode(),
        ]


# --- Saying where -----------------------------------------------------------------------------------------------------


DRAW_BEFORE = (
    ". Draw them in Python before exporting and let the function close over them as constants, so that page and "
    "package see the same numbers."
)
ADD_IT = (
    ". Compute that part in Python before exporting, or add the primitive to cmlcore/explore/program.py and program.js."
)


def _place(eqn) -> str:
    """` (at file.py:12: code)`, the innermost line outside jax that made this equation; nothing if jax kept none."""
    trace = eqn.source_info.traceback
    if trace is None:
        return ""
    home = os.path.dirname(jax.__file__) + os.sep
    frames = [f for f in traceback.extract_tb(trace.as_python_traceback()) if not f.filename.startswith(home)]
    if not frames:
        return ""
    last = frames[-1]
    line = linecache.getline(last.filename, last.lineno).strip()
    return (
        f" (at {os.path.basename(last.filename)}:{last.lineno}: {line})"
        if line
        else f" (at {last.filename}:{last.lineno})"
    )
