"""The primitives of JAX that the page has, and what of their parameters it needs."""

from collections.abc import Callable

import numpy as np

from cmlcore.explore.program.building import Body
from cmlcore.explore.program.refusing import held

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
    held(np.asarray(value))
    return float(value) if np.isfinite(value) else "Infinity" if value > 0 else "-Infinity"


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


def changes_nothing(body: Body, name, params, operands, types) -> bool:
    """Whether an operation only renames or reshapes its operand."""
    if len(types) != 1 or not operands or any(body.type(operands[0])[0] != t.dtype for t in types):
        return False
    before, after = body.type(operands[0]), types[0]
    if name == "broadcast_in_dim":
        return before.size == after.size
    if name == "transpose":
        return [d for d in params["permutation"] if before.shape[d] != 1] == [d for d in range(len(before.shape)) if before.shape[d] != 1]
    if name == "reduce_precision":
        return (params["exponent_bits"], params["mantissa_bits"]) == {"f32": (8, 23), "f64": (11, 52)}.get(before.dtype)
    if name == "integer_pow":
        return params["y"] == 1
    if name.startswith("reduce_"):
        return before.size == after.size
    return name == "convert_element_type"
