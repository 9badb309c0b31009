"""The page's runtime against JAX: every primitive, whole estimators, and what it refuses.

All programs are run by one process of node (or one page of Chromium, where there is no node). Every case is run at two
settings of its inputs, one after the other, as a slider would: nothing may be left over from the first.
"""

import base64
import json
import os
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import cmlcore
from cmlcore.bilevel import Problem, Task
from cmlcore.contrastive import contrastive, matched, symmetric, three_point
from cmlcore.explore.program import DTYPES, PRIMITIVES, RENAMED, Unsupported, export
from cmlcore.implicit import cg, dense, identity, implicit, neumann
from cmlcore.models.mlp import init_mlp, mlp
from cmlcore.models.synapse import Synapses, fixed_pull, learned_pull
from cmlcore.solve import gradient_descent, optimizer, until
from cmlcore.unroll import unrolled

RUNTIME = Path(cmlcore.__path__[0]) / "explore" / "program.js"
DRIVER = Path(__file__).with_name("program_driver.js")
NODE, CHROMIUM = shutil.which("node"), shutil.which("chromium")


# --- Cases ------------------------------------------------------------------------------------------------------------


class Case(NamedTuple):
    fn: Any
    settings: list[dict]  # two sets of inputs
    close: Any  # (got, want) -> whether two arrays agree


def within_ulp(ulp, got, want):
    """Equal, or at most so many units in the last place apart; NaN agrees with NaN."""
    if want.dtype.kind != "f":
        return np.array_equal(got, want)
    with np.errstate(invalid="ignore"):
        near = np.abs(got.astype(np.float64) - want.astype(np.float64)) <= ulp * np.spacing(np.abs(want))
    return np.all((got == want) | near | (np.isnan(got) & np.isnan(want)))


def relative(bound, got, want):
    """The error's norm relative to the result's; integers and truth values exactly."""
    if want.dtype.kind != "f":
        return np.array_equal(got, want)
    got, want = got.astype(np.float64), want.astype(np.float64)
    assert np.all(np.isfinite(want))
    return np.linalg.norm(got - want) <= bound * np.linalg.norm(want)


def approximated(got, want):
    """For functions whose float32 code in JAX is rough: `want` comes from JAX in double precision."""
    return within_ulp(2, got, want)


exactly = partial(within_ulp, 0)
rounded = partial(within_ulp, 2)
summed = partial(relative, 1e-5)
estimated = partial(relative, 1e-4)

CASES: dict[str, Case] = {}
RNG = np.random.default_rng(20221)


def case(name, close, fn, *settings):
    """One case; a single setting is followed by itself, so that running twice is tested all the same."""
    assert name not in CASES
    CASES[name] = Case(lambda **inputs: _named(fn(**inputs)), [*settings, *settings][:2], close)


def _named(result):
    return result if isinstance(result, dict) else {"result": result}


def floats(*shape, low=-2.0, high=3.1):
    return RNG.uniform(low, high, shape).astype(np.float32)


def integers(*shape, low=-7, high=23, dtype=np.int32):
    return RNG.integers(low, high, shape).astype(dtype)


SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, np.inf, -np.inf, np.nan, 1e-30, -3e30, 88.0], np.float32)

# Where each function is real and not at the edge of float32.
DOMAIN = {
    "log": (0.01, 9), "log1p": (-0.9, 5), "sqrt": (0, 7), "rsqrt": (0.05, 7), "asin": (-0.95, 0.9), "acos": (-0.95, 0.9),
    "acosh": (1.1, 6), "atanh": (-0.9, 0.95), "erf_inv": (-0.98, 0.995), "lgamma": (2.5, 9), "digamma": (2.0, 9),
    "tanh": (-4, 5), "cbrt": (-3, 4), "tan": (-1.4, 1.3), "erfc": (-2, 1.5),
}  # fmt: skip
ROUGH = ("sinh", "erfc", "erf_inv", "lgamma", "digamma")  # JAX itself errs by more than 2 ulp in float32
UNARY = {
    name: getattr(lax, name)
    for name in [
        "neg", "sign", "floor", "ceil", "is_finite", "exp", "exp2", "log", "log1p", "expm1", "tanh", "logistic", "sin", "cos",
        "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "sqrt", "rsqrt", "cbrt", "erf", "erfc",
        "erf_inv", "lgamma", "digamma", "abs", "square",
    ]
}  # fmt: skip


def arguments(names):
    return {name: floats(5, 7, low=DOMAIN.get(name, (-2, 0))[0], high=DOMAIN.get(name, (0, 3.1))[1]) for name in names}


def unary(**x):
    return {name: UNARY[name](value) for name, value in x.items()}


SMOOTH = [name for name in UNARY if name not in ROUGH]
case("unary functions", rounded, unary, arguments(SMOOTH), arguments(SMOOTH))
case("rough unary functions", approximated, unary, arguments(ROUGH), arguments(ROUGH))
case("unary of one number", rounded, lambda x: {name: fn(x) for name, fn in UNARY.items() if name not in (*ROUGH, "acosh")},
     {"x": 0.37}, {"x": 0.81})  # fmt: skip
EVERYWHERE = ["neg", "sign", "floor", "ceil", "is_finite", "abs", "sqrt", "exp", "log", "tanh", "logistic", "square"]
case("unary of special numbers", rounded, lambda x: {name: UNARY[name](x) for name in EVERYWHERE}, {"x": SPECIAL})
case("unary of integers", exactly, lambda x, b: {**{name: UNARY[name](x) for name in ["neg", "sign", "abs", "square"]}, "not": ~x, "b": ~b},
     {"x": integers(4, 3), "b": integers(5) > 3})  # fmt: skip

BINARY = {
    name: getattr(lax, name)
    for name in ["add", "sub", "mul", "div", "rem", "max", "min", "pow", "atan2", "eq", "ne", "lt", "le", "gt", "ge"]
}
COMMON = {name: fn for name, fn in BINARY.items() if name not in ("pow", "atan2")}
for a, b in [((3, 4), (3, 4)), ((3, 4), ()), ((), (2, 5)), ((), ())]:
    case(f"binary {a} {b}", rounded, lambda x, y: {name: fn(x, y) for name, fn in BINARY.items()},
         *({"x": floats(*a, low=0.2), "y": floats(*b)} for _ in range(2)))  # fmt: skip
X, Y = np.meshgrid(SPECIAL, SPECIAL)
case("binary of special numbers", rounded, lambda x, y: {name: fn(x, y) for name, fn in COMMON.items()}, {"x": X, "y": Y})
case("binary of int32", exactly, lambda x, y: {name: fn(x, y) for name, fn in COMMON.items()}, {"x": integers(9, 9), "y": integers(9, 9)})
case("binary of uint32", exactly, lambda x, y: {name: fn(x, y) for name, fn in COMMON.items()},
     {"x": integers(4, 3, low=0, high=2**31, dtype=np.uint32) * 2, "y": integers(4, 3, low=0, dtype=np.uint32)})  # fmt: skip
case("binary of bool", exactly, lambda x, y: {"eq": x == y, "ne": x != y}, {"x": integers(9) > 3, "y": integers(9) > 5})
for name in ["bitwise_and", "bitwise_or", "bitwise_xor"]:
    case(name, exactly, lambda x, y, b, c, fn=getattr(lax, name): {"i": fn(x, y), "b": fn(b, c)},
         {"x": integers(6), "y": integers(6), "b": integers(9) > 3, "c": integers(9) > 5})  # fmt: skip
for name in ["shift_left", "shift_right_logical", "shift_right_arithmetic"]:
    case(name, exactly, getattr(lax, name), {"x": integers(6), "y": np.array([0, 1, 5, 31, 32, 40], np.int32)})
case("int32 overflow", exactly, lambda x: {"add": x + x, "mul": x * x, "power": x**5},
     {"x": np.array([2**31 - 1, -(2**31), 123456789, -7], np.int32)})  # fmt: skip
case("broadcasting", rounded, lambda x, b, c: {"row": x + b, "column": x * c, "both": b / (c + 4), "front": x + b[0]},
     *({"x": floats(5, 7), "b": floats(1, 7), "c": floats(5, 1)} for _ in range(2)))  # fmt: skip
case("one number over many", rounded, lambda x, s: {"y": jnp.full((3, 2), s) * 2 + x, "all": jnp.full((2, 2), s) + 1},
     {"x": floats(3, 2), "s": 0.3}, {"x": floats(3, 2), "s": -1.7})  # fmt: skip
case("integer_pow", rounded, lambda x: {f"{y}": lax.integer_pow(x, y) for y in [0, 1, 2, 3, 5, 7, -1, -2, -3]}, {"x": floats(11, low=0.3)})
case("round", exactly, lambda x: {"even": lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN), "away": lax.round(x)},
     {"x": np.concatenate([SPECIAL, floats(9)])})  # fmt: skip
case("one_minus_square", summed, lambda x: jax.grad(lambda x: jnp.sum(jnp.tanh(x)))(x), {"x": floats(5, low=-1, high=1.2)})
case("logarithm and polynomial", summed, lambda x: {"log2": jnp.log2(x), "polynomial": jnp.polyval(jnp.array([0.5, -1.0, 2.0]), x)}, {"x": floats(7, low=0.1)})
case("pow with an integer", rounded, lambda x, n: x**n, {"x": floats(4, low=0.4), "n": np.int32(3)}, {"x": floats(4, low=0.4), "n": np.int32(7)})
case("select", exactly, lambda c, x, y: {"w": jnp.where(c, x, y), "s": jnp.where(c[0, 0], x, y), "n": jnp.where(x > 0, x, 2.0)},
     *({"c": integers(4, 3) > 4, "x": floats(4, 3), "y": floats(4, 3)} for _ in range(2)))  # fmt: skip
case("select among three", exactly, lambda k, x: lax.select_n(k, x, 2 * x, -x), {"k": integers(6, low=0, high=3), "x": floats(6)})
case("clamp", exactly, lambda x, low: {"f": lax.clamp(low, x, 1.5), "i": lax.clamp(2, (9 * x).astype(jnp.int32), 5)},
     {"x": floats(4, 5), "low": -0.5}, {"x": floats(4, 5), "low": 0.7})  # fmt: skip

CONVERT = [np.float32, np.int32, np.uint32, np.bool_]
case("convert", exactly, lambda f, i, u, b: {f"{n}{k}": v.astype(t) for n, v in (("f", f), ("i", i), ("u", u), ("b", b)) for k, t in enumerate(CONVERT)},
     {"f": floats(9) * 3, "i": integers(9), "u": integers(9, low=0, dtype=np.uint32), "b": integers(9) > 3})  # fmt: skip
case("convert out of range", exactly, lambda x: x.astype(jnp.int32), {"x": np.array([3e9, -3e9, np.nan, np.inf, -2.9, 2.9], np.float32)})

case("reshape", exactly, lambda x: {"a": x.reshape(6, 4), "b": x[None, :, None], "c": x.reshape(-1), "d": x.T.reshape(8, 3)}, {"x": floats(2, 3, 4)})
case("transpose", exactly, lambda x: {"a": x.transpose(2, 0, 1), "b": x.transpose(1, 0, 2), "c": x[:1].T}, {"x": floats(2, 3, 4)})
case("broadcast_in_dim", exactly, lambda x: {"a": jnp.broadcast_to(x[:, None], (3, 4, 2)), "b": jnp.broadcast_to(x, (5, 3, 2))}, {"x": floats(3, 2)})
case("concatenate", exactly, lambda x, y: {"a": jnp.concatenate([x, y, x]), "b": jnp.concatenate([x, y], 1), "c": jnp.stack([x, jnp.full_like(x, 2)], 1)},
     {"x": floats(3, 4), "y": floats(3, 4)})  # fmt: skip
case("split", exactly, lambda x: dict(zip("abc", jnp.split(x, [1, 4], axis=1), strict=True)), {"x": floats(3, 7)})
case("pad", exactly, lambda x, v: {"a": lax.pad(x, v, [(1, 2, 0), (0, 3, 1)]), "b": lax.pad(x, v, [(-1, 0, 0), (2, -2, 2)])},
     {"x": floats(3, 4), "v": np.float32(7.5)})  # fmt: skip
case("rev", exactly, lambda x: {"a": x[::-1], "b": x[:, ::-1], "c": lax.rev(x, (0, 2))}, {"x": floats(3, 4, 2)})
case("slice", exactly, lambda x: {"a": x[1:3], "b": x[:, 1:6:2], "c": x[-1, 2:4]}, {"x": floats(4, 7)})
case("iota", exactly, lambda x: {"a": x + jnp.arange(4), "b": x + lax.broadcasted_iota(jnp.int32, (3, 4), 0), "c": jnp.eye(3) * x, "d": jnp.linspace(0, x, 5)},
     {"x": np.float32(2)})  # fmt: skip

REDUCE = {"sum": summed, "prod": summed, "max": exactly, "min": exactly}
for name, close in REDUCE.items():
    reduce = getattr(jnp, name)
    case(f"reduce_{name}", close, lambda x, r=reduce: {"all": r(x), "0": r(x, 0), "1": r(x, 1), "02": r(x, (0, 2)), "12": r(x, (1, 2))},
         *({"x": floats(3, 4, 5)} for _ in range(2)))  # fmt: skip
    case(f"reduce_{name} of integers", exactly, lambda x, r=reduce: {"all": r(x), "0": r(x, 0)}, {"x": integers(3, 4)})
case("reduce_max of NaN", exactly, lambda x: {"max": jnp.max(x), "min": jnp.min(x)}, {"x": SPECIAL})
case("reduce_and", exactly, lambda b: {"all": jnp.all(b, 0), "any": jnp.any(b, 1), "either": jnp.any(b), "odd": lax.reduce_xor(b, (0,))},
     {"b": integers(3, 5) > 0}, {"b": integers(3, 5) > 20})  # fmt: skip
case("argmax", exactly, lambda x: {"a": jnp.argmax(x), "b": jnp.argmax(x, 1), "c": jnp.argmin(x, 0), "tie": jnp.argmax(jnp.round(x))}, {"x": floats(5, 6)})
case("argmax of NaN", exactly, lambda x: {"a": jnp.argmax(x), "b": jnp.argmin(x)}, {"x": SPECIAL})
for name in ["cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"]:
    case(name, summed, lambda x, f=getattr(lax, name): {"0": f(x, axis=0), "1": f(x, axis=1, reverse=True)}, {"x": floats(4, 5)})
case("sort", exactly, lambda x: {"a": jnp.sort(x), "b": jnp.sort(x, axis=0), "c": jnp.argsort(x), "d": jnp.median(x)}, {"x": floats(4, 5)}, {"x": floats(4, 5)})
case("sort of special numbers", exactly, lambda x: jnp.sort(x), {"x": SPECIAL})
case("sort with two keys", exactly, lambda x, y: dict(zip("abc", lax.sort((x, y, y * 2), num_keys=2), strict=True)),
     {"x": integers(12, low=0, high=3), "y": floats(12)})  # fmt: skip

SIZES = [(1, 1, 1), (10, 40, 40), (10, 1, 40), (10, 40, 1), (1, 5, 7), (5, 3, 2), (3, 6, 5), (7, 9, 6)]
for m, k, n in SIZES:
    case(f"product {m} {k} {n}", summed, lambda a, b: {"ab": a @ b, "turned": lax.dot_general(b, a, (((0,), (1,)), ((), ())))},
         *({"a": floats(m, k), "b": floats(k, n)} for _ in range(2)))  # fmt: skip
case("product, left turned", summed, lambda a, b: lax.dot_general(a, b, (((0,), (0,)), ((), ()))), {"a": floats(7, 3), "b": floats(7, 6)})
case("product, right turned", summed, lambda a, b: lax.dot_general(a, b, (((1,), (1,)), ((), ()))), {"a": floats(7, 3), "b": floats(6, 3)})
case("batched product", summed, lambda a, b: {"a": a @ b, "b": jnp.einsum("bij,bkj->bik", a, b.transpose(0, 2, 1)), "c": jnp.einsum("bij,bjk->kib", a, b)},
     {"a": floats(3, 5, 4), "b": floats(3, 4, 6)})  # fmt: skip
case("product over two axes", summed, lambda a, b: {"a": jnp.tensordot(a, b, 2), "b": jnp.einsum("ijk,jli->kl", a, b[:, :, :3])},
     {"a": floats(3, 5, 4), "b": floats(5, 4, 6)})  # fmt: skip
case("inner and outer product", summed, lambda a, b: {"inner": a @ b, "outer": jnp.outer(a, b), "matrix": jnp.outer(a, b) @ b}, {"a": floats(6), "b": floats(6)})
case("product of integers", exactly, lambda a, b: a @ b, {"a": integers(3, 4), "b": integers(4, 2)})
case("product with one number over many", summed, lambda a, s: a @ jnp.full((4, 3), s), {"a": floats(2, 4), "s": 0.7}, {"a": floats(2, 4), "s": 0.2})

case("dynamic_slice", exactly, lambda x, i: {"a": x[i], "b": lax.dynamic_slice(x, (i, 1), (2, 3)), "c": lax.dynamic_index_in_dim(x, i, 1)},
     *({"x": floats(5, 6), "i": np.int32(i)} for i in (2, 9)))  # fmt: skip
case("dynamic_update_slice", exactly, lambda x, u, i: {"a": lax.dynamic_update_slice(x, u, (i, 1)), "b": x.at[i].set(3)},
     *({"x": floats(5, 6), "u": floats(2, 3), "i": np.int32(i)} for i in (1, 7)))  # fmt: skip
case("gather", exactly, lambda x, i: {"rows": x[i], "columns": x[:, i[0]], "pairs": x[i[0], i[1]], "taken": jnp.take(x, i, axis=1)},
     *({"x": floats(5, 6), "i": integers(2, 3, low=0, high=5)} for _ in range(2)))  # fmt: skip
case("gather out of bounds", exactly, lambda x, i: {"fill": x.at[i].get(mode="fill"), "clip": x.at[i].get(mode="clip"), "other": jnp.take(x, i, fill_value=9.0)},
     {"x": floats(5), "i": np.array([0, 4, 5, 17, -1, -2], np.int32)})  # fmt: skip
case("gather of integers out of bounds", exactly, lambda x, b, i: {"i": x.at[i].get(mode="fill"), "b": b.at[i].get(mode="fill")},
     {"x": integers(5), "b": integers(5) > 3, "i": np.array([0, 4, 5, 17], np.int32)})  # fmt: skip
case("gather along an axis", exactly, lambda x, i: {"a": jnp.take_along_axis(x, i, 1), "v": jax.vmap(lambda r, k: r[k])(x, i[:, 0])},
     {"x": floats(4, 6), "i": integers(4, 3, low=0, high=6)})  # fmt: skip
case("scatter", exactly, lambda x, i, u: {"set": x.at[i].set(u), "max": x.at[i].max(u), "min": x.at[:, i].min(u.T[:, :]), "drop": x.at[i + 3].set(u, mode="drop")},
     {"x": floats(5, 5), "i": np.array([3, 0, 4], np.int32), "u": floats(3, 5)})  # fmt: skip
case("scatter-add", summed, lambda x, i, u: {"add": x.at[i].add(u), "mul": x.at[i].multiply(u), "v": jax.vmap(lambda r, k, v: r.at[k].add(v))(x, jnp.tile(i[:1], 5), u[0])},
     {"x": floats(5, 5), "i": np.array([3, 0, 3], np.int32), "u": floats(3, 5)})  # fmt: skip
case("gradient of indexing", summed, lambda x, i: jax.grad(lambda x: jnp.sum(jnp.sin(x[i]) * x[0]))(x),
     {"x": floats(5, 6), "i": np.array([1, 3, 1], np.int32)})  # fmt: skip
case("gradient of max and sort", summed, lambda x: jax.grad(lambda x: jnp.max(x) + jnp.sort(x)[2] * 2 + jnp.prod(jnp.abs(x[:3])))(x), {"x": floats(7)}, {"x": floats(7)})

case("solve", summed, lambda a, b: {"x": jnp.linalg.solve(a, b), "many": jnp.linalg.solve(a, jnp.stack([b, 2 * b, b * b], 1)), "det": jnp.linalg.det(a)},
     *({"a": floats(5, 5) + 4 * np.eye(5, dtype=np.float32)[::-1], "b": floats(5)} for _ in range(2)))  # fmt: skip
case("gradient through solve", summed, lambda a, b: jax.grad(lambda a: jnp.sum(jnp.linalg.solve(a, b) ** 2))(a),
     {"a": floats(4, 4) + 5 * np.eye(4, dtype=np.float32), "b": floats(4)})  # fmt: skip
case("batched solve", summed, lambda a, b: jax.vmap(jnp.linalg.solve)(a, b), {"a": floats(3, 4, 4) + 5 * np.eye(4, dtype=np.float32), "b": floats(3, 4)})
case("cholesky", summed, lambda a, b: {"c": jnp.linalg.cholesky(a @ a.T + jnp.eye(4)), "x": jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(a @ a.T + jnp.eye(4)), True), b)},
     {"a": floats(4, 4), "b": floats(4)})  # fmt: skip
WAYS = [dict(left_side=left, lower=lower, transpose_a=turned, unit_diagonal=unit)
        for left in (True, False) for lower in (True, False) for turned in (True, False) for unit in (True, False)]  # fmt: skip
case("triangular_solve", summed, lambda a, b: {f"{i}": lax.linalg.triangular_solve(a, b, **way) for i, way in enumerate(WAYS)},
     *({"a": floats(4, 4) / 2 + 3 * np.eye(4, dtype=np.float32), "b": floats(4, 4)} for _ in range(2)))  # fmt: skip


# Control flow.


def fibonacci(a, b):
    """A scan whose carries change places, with stacked results and nothing scanned."""
    (last, _), path = lax.scan(lambda c, _: ((c[1], c[0] + c[1]), {"sum": c[0] + c[1], "old": c[0], "one": 1.0}), (a, b), length=6)
    return {"last": last, "path": path}


case("scan that swaps", summed, fibonacci, {"a": np.float32(1.5), "b": np.float32(0.25)}, {"a": np.float32(-1.0), "b": np.float32(2.0)})
case("scan over rows", summed, lambda x, w: lax.scan(lambda c, r: (jnp.tanh(w @ c + r), c[0] * r), x[0], x, reverse=True)[1], {"x": floats(6, 3), "w": floats(3, 3)}, {"x": floats(6, 3), "w": floats(3, 3)})
case("scan of nothing", exactly, lambda x: {"c": lax.scan(lambda c, _: (c + 1, None), x, length=0)[0]}, {"x": floats(3)})
case("scan in a scan", summed, lambda x, w: {"y": lax.scan(lambda c, r: (lax.scan(lambda d, s: (jnp.sin(d * w + s), None), c, r)[0], c), x[0, 0], x)[1]}, {"x": floats(4, 3, 2), "w": np.float32(1.3)})
case("gradient through a scan", summed, lambda x, w: jax.grad(lambda w: jnp.sum(lax.scan(lambda c, r: (jnp.tanh(w @ c + r), c), x[0], x)[1]))(w), {"x": floats(6, 3), "w": floats(3, 3)})
case("gradient through checkpoints", summed, lambda x, w: jax.grad(lambda w: jnp.sum(lax.scan(jax.checkpoint(lambda c, r: (jnp.tanh(w @ c + r), None)), x[0], x)[0]))(w), {"x": floats(6, 3), "w": floats(3, 3)})
case("a carry that nothing needs", summed, lambda x: lax.scan(lambda c, _: ((c[0] * 1.1, c[1] + c[0], c[2] * 2), c[0]), (x, x, x), length=5)[0][1], {"x": floats(3)})
case("while", summed, lambda x, limit: dict(zip("axn", lax.while_loop(lambda c: (jnp.sum(c[0]) < limit) & (c[2] < 50), lambda c: (c[0] * 1.3 + 0.1, c[0], c[2] + 1), (x, 0 * x, 0)), strict=True)),
     {"x": floats(3, low=0.1), "limit": 20.0}, {"x": floats(3, low=0.1), "limit": 900.0})  # fmt: skip
case("batched while", summed, lambda x, limit: jax.vmap(lambda v: lax.while_loop(lambda c: c[0] < limit, lambda c: (c[0] * 1.5, c[1] + 1), (v, 0))[0])(x),
     {"x": floats(5, low=0.1), "limit": 7.0}, {"x": floats(5, low=0.1), "limit": 90.0})  # fmt: skip
case("fori_loop to a traced bound", summed, lambda x, n: {"y": lax.fori_loop(0, n, lambda i, v: v * 0.9 + i, x)}, {"x": floats(3), "n": np.int32(4)}, {"x": floats(3), "n": np.int32(11)})
case("cond", summed, lambda x, c: {"y": lax.cond(x[0] > c, lambda v: v * c, lambda v: v + jnp.sum(v), x)}, {"x": floats(3), "c": -9.0}, {"x": floats(3), "c": 9.0})
case("switch", summed, lambda x, k: {"y": lax.switch(k, [jnp.sin, lambda v: v * 2, lambda v: x[::-1]], x)}, {"x": floats(3), "k": np.int32(2)}, {"x": floats(3), "k": np.int32(0)})
case("gradient of cond", summed, lambda x, c: jax.grad(lambda x: jnp.sum(lax.cond(c > 0, lambda v: jnp.exp(v), lambda v: v**3, x)))(x), {"x": floats(3), "c": -1.0}, {"x": floats(3), "c": 1.0})


@jax.custom_jvp
def doubled(x):
    return 2 * x


doubled.defjvp(lambda primals, tangents: (2 * primals[0], 3 * tangents[0]))


@jax.custom_vjp
def tripled(x):
    return 3 * x


tripled.defvjp(lambda x: (3 * x, x), lambda x, g: (g * x,))
case("custom derivatives", rounded, lambda x: {"a": doubled(x), "b": jax.grad(lambda x: jnp.sum(doubled(x)))(x), "c": tripled(x), "d": jax.grad(lambda x: jnp.sum(tripled(x)))(x)}, {"x": floats(4)})
case("softmax and friends", summed, lambda x: {"s": jax.nn.softmax(x), "l": jax.nn.logsumexp(x), "p": jax.nn.softplus(x), "e": jax.nn.elu(x), "g": jax.nn.gelu(x), "v": jnp.var(x, 0), "n": jnp.linalg.norm(x)}, {"x": floats(4, 5)}, {"x": floats(4, 5)})
case("outputs that are inputs or constants", exactly, lambda x, y: {"x": x, "again": x, "c": jnp.arange(3.0), "turned": y.T, "n": None, "nested": [x, (y, {"k": jnp.int32(4)})]}, {"x": floats(3), "y": floats(2, 3)}, {"x": floats(3), "y": floats(2, 3)})
case("empty arrays", exactly, lambda x: {"e": x[:0] * 2, "s": jnp.sum(x[:0]), "c": jnp.concatenate([x[:0], x])}, {"x": floats(4)})


# --- Whole estimators -------------------------------------------------------------------------------------------------


def quadratic():
    """A small bilevel problem with no symmetry: a coupled quadratic inner loss, an outer loss that sees theta too."""
    a, b = floats(4, 4), floats(4, 3)
    hessian, target = jnp.asarray(a @ a.T / 6 + np.eye(4, dtype=np.float32)), jnp.asarray(floats(4))
    return Problem(
        inner=lambda phi, theta, _: 0.5 * phi @ hessian @ phi - phi @ jnp.tanh(b @ theta),
        outer=lambda phi, theta, _: 0.5 * jnp.sum((phi - target) ** 2) + 0.05 * jnp.sum(theta**2),
        init=lambda theta: jnp.zeros(4),
    )


def sine(activation=jax.nn.relu, learned=False):
    net = init_mlp(jax.random.key(3), [1, 9, 7, 1])
    net = [{"w": layer["w"], "b": layer["b"] + floats(*layer["b"].shape) / 5} for layer in net]
    x, q = floats(10, 1, low=-5, high=5), floats(10, 1, low=-5, high=5)
    task = Task((x, 1.7 * np.sin(x + 0.4)), (q, 1.7 * np.sin(q + 0.4)))
    loss = lambda phi, data: jnp.mean((mlp(phi, data[0], activation) - data[1]) ** 2)  # noqa: E731
    if not learned:
        return fixed_pull(loss, 0.01), net, task
    return learned_pull(loss), Synapses(net, jax.tree.map(lambda w: jnp.full(w.shape, -3.0) + 0.1 * w, net)), task


def shown(estimate):
    return {"grad": estimate.grad, "value": estimate.value, "phi": estimate.phi, "info": estimate.info}


QUADRATIC = quadratic()
THETA = floats(3)


def on_quadratic(name, make, *settings):
    case(f"quadratic, {name}", estimated, lambda theta, **knobs: shown(make(**knobs)(QUADRATIC, theta, Task())),
         *({"theta": THETA, **s} for s in settings))  # fmt: skip


# Few steps: where a phase has converged its residual is float32's roundoff, which no two programs share.
NUDGES = {"beta": 0.3, "rate": 0.1}, {"beta": -0.2, "rate": 0.15}
for rule in (contrastive, symmetric, three_point, matched):
    on_quadratic(rule.__name__, lambda beta, rate, rule=rule: rule(gradient_descent(rate, 9), gradient_descent(rate, 7), beta), *NUDGES)
on_quadratic("run until", lambda beta, tolerance: contrastive(until(optax.sgd(0.1), tolerance, 99), until(optax.sgd(0.05), tolerance, 99), beta),
             {"beta": 0.3, "tolerance": 0.2}, {"beta": 0.2, "tolerance": 0.06})  # fmt: skip
for name, linear in {"cg": cg(2), "identity": identity()}.items():
    on_quadratic(f"implicit {name}", lambda rate, linear=linear: implicit(gradient_descent(rate, 9), linear), {"rate": 0.1}, {"rate": 0.15})
case("quadratic, implicit dense", estimated,  # without the linear solve's own residual, which is roundoff
     lambda rate: {"grad": implicit(gradient_descent(rate, 9), dense())(QUADRATIC, THETA, Task()).grad}, {"rate": 0.1}, {"rate": 0.15})  # fmt: skip
on_quadratic("implicit neumann", lambda rate, step: implicit(gradient_descent(rate, 9), neumann(9, step)), {"rate": 0.1, "step": 0.2}, {"rate": 0.15, "step": 0.3})
on_quadratic("unrolled", lambda rate: unrolled(gradient_descent(rate, 12)), {"rate": 0.2}, {"rate": 0.05})
OPTIMIZERS = {"adam": optax.adam, "momentum": partial(optax.sgd, momentum=0.8), "nesterov": partial(optax.sgd, momentum=0.8, nesterov=True), "rmsprop": optax.rmsprop}
for name, make in OPTIMIZERS.items():
    on_quadratic(name, lambda beta, rate, make=make: matched(optimizer(make(rate), 9), optimizer(make(rate), 7), beta), {"beta": 0.5, "rate": 0.02}, {"beta": 0.3, "rate": 0.05})


def along_a_path(theta, beta, step):
    """The free path kept, then read at a traced step, over a grid of nudges."""
    path = gradient_descent(0.2, 20, keep_path=True)(lambda phi, _: QUADRATIC.inner(phi, theta, None), jnp.zeros(4), Task()).path
    nudges = beta * jnp.array([0.5, 1.0, 2.0])
    rule = lambda b: contrastive(gradient_descent(0.2, 30), gradient_descent(0.2, 20), b)(QUADRATIC, theta, Task()).grad  # noqa: E731
    return {"phi": path[step], "best": jnp.argmin(jnp.sum((path - 0.3) ** 2, 1)), "grads": jax.vmap(rule)(nudges)}


case("quadratic, a path and a grid of nudges", estimated, along_a_path,
     {"theta": THETA, "beta": 0.2, "step": np.int32(3)}, {"theta": -THETA, "beta": 0.4, "step": np.int32(18)})  # fmt: skip

RULES = {
    "contrastive": lambda beta, rate: contrastive(gradient_descent(rate, 12), gradient_descent(rate, 8), beta),
    "symmetric": lambda beta, rate: symmetric(gradient_descent(rate, 12), gradient_descent(rate, 8), beta),
    "matched": lambda beta, rate: matched(gradient_descent(rate, 12), gradient_descent(rate, 8), beta),
    "adam": lambda beta, rate: contrastive(optimizer(optax.adam(rate), 12), optimizer(optax.adam(rate), 8), beta),
    "unrolled": lambda beta, rate: unrolled(gradient_descent(rate, 12)),
    "implicit": lambda beta, rate: implicit(gradient_descent(rate, 12), neumann(4, rate)),
}
NETWORKS = {"relu": sine(), "tanh": sine(jnp.tanh), "learned": sine(learned=True)}
for rule, network in [("contrastive", "relu"), ("adam", "relu"), ("unrolled", "relu"), ("implicit", "tanh"), ("symmetric", "tanh"),
                      ("matched", "learned"), ("adam", "learned")]:  # fmt: skip
    case(f"sine, {rule}, {network}", estimated,
         lambda beta, rate, rule=RULES[rule], n=NETWORKS[network]: shown(rule(beta, rate)(*n)),
         {"beta": 0.8, "rate": 0.01}, {"beta": 0.5, "rate": 0.004})  # fmt: skip


# --- Running them -----------------------------------------------------------------------------------------------------


def javascript(folder: Path, cases: list) -> list:
    """What `program_driver.js` answers, from node or from a page; skips where there is neither, but never in CI."""
    if NODE:
        (folder / "cases.json").write_text(json.dumps(cases))
        return json.loads(subprocess.run([NODE, DRIVER, RUNTIME, folder / "cases.json"], check=True, capture_output=True, text=True).stdout)
    if CHROMIUM:
        return in_a_page(folder, f"answer(CMLProgram, {json.dumps(cases)})")
    if os.environ.get("CI"):
        pytest.fail("neither node nor chromium is here, and in CI the page's runtime must be tested: apt-get install nodejs")
    pytest.skip("needs node or chromium to run program.js")


def in_a_page(folder: Path, script: str):
    """What `script` (an expression, perhaps a promise) gives in a page opened from a file that loads both scripts."""
    from playwright.sync_api import sync_playwright

    page_file = folder / "page.html"
    page_file.write_text("<!doctype html><meta charset=utf-8>" + "".join(f"<script src='{p.as_uri()}'></script>" for p in (RUNTIME, DRIVER)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"])
        page = browser.new_page()
        page.goto(page_file.as_uri())
        result = page.evaluate(script)
        browser.close()
    return result


@pytest.fixture(scope="module")
def programs():
    """Each case's program, or the error that its export ended in (which then fails its own test, not all others)."""
    exported = {}
    for name, (fn, settings, _) in CASES.items():
        try:
            exported[name] = export(fn, **settings[0])
        except Exception as error:
            exported[name] = error
    return exported


@pytest.fixture(scope="module")
def answers(programs, tmp_path_factory):
    """For each case what the page computed at both settings, or the error that it ended in."""
    sent = {
        name: {"program": program, "inputs": [{k: spelled(v) for k, v in s.items()} for s in CASES[name].settings]}
        for name, program in programs.items()
        if not isinstance(program, Exception)
    }
    results = javascript(tmp_path_factory.mktemp("program"), list(sent.values()))
    return {**programs, **dict(zip(sent, results, strict=True))}


def spelled(value):
    """A flat list; JSON has no infinities and no NaN, so these go by their names, which JavaScript reads as numbers."""
    names = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}
    return [names.get(str(x), x) for x in np.asarray(value).ravel().tolist()]


NUMPY = {"f32": np.float32, "f64": np.float64, "i32": np.int32, "u32": np.uint32, "bool": np.bool_, "i64": np.float64}


def package(fn, setting, double=False) -> dict[str, np.ndarray]:
    """What the package computes, by the outputs' names; from double precision rounded to single if asked for."""
    before = jax.config.jax_enable_x64
    try:
        if double:
            jax.config.update("jax_enable_x64", True)
            setting = {name: np.float64(value) for name, value in setting.items()}
        paths, _ = jax.tree_util.tree_flatten_with_path(jax.jit(fn)(**setting))
        arrays = {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(v) for path, v in paths}
    finally:
        jax.config.update("jax_enable_x64", before)
    return {name: a.astype(np.float32) for name, a in arrays.items()} if double else arrays


def weights_joined(arrays: dict) -> dict:
    """The weights and biases of a network, `grad.0.w`, `grad.0.b`, ..., joined to the one vector that they are."""
    groups: dict[str, list] = {}
    for key, value in arrays.items():
        groups.setdefault(re.sub(r"\.\d+\.[wb]$", "", key), []).append(value)
    return {key: vs[0] if len(vs) == 1 else np.concatenate([v.ravel() for v in vs]) for key, vs in groups.items()}


@pytest.mark.parametrize("name", CASES)
def test_the_page_computes_what_jax_computes(name, answers):
    fn, settings, close = CASES[name]
    answer = answers[name]
    if isinstance(answer, Exception):
        raise answer
    assert "error" not in answer, answer["error"]
    for setting, got in zip(settings, answer, strict=True):
        want = package(fn, setting, double=close is approximated)
        assert set(got) == set(want)
        page = {}
        for key, value in want.items():
            assert tuple(got[key]["shape"]) == value.shape and got[key]["dtype"] == DTYPES[str(value.dtype)]
            page[key] = np.frombuffer(base64.b64decode(got[key]["data"]), NUMPY[got[key]["dtype"]]).reshape(value.shape)
        page, want = weights_joined(page), weights_joined(want)
        for key, value in want.items():
            assert close(page[key], value), f"{key}: page {page[key]}, package {value}"


def test_every_primitive_is_tested(programs):
    """No name in the exporter's table that no case above reaches (some exist only in newer versions of jax)."""
    reached = {name for program in programs.values() for name in ops(program)}
    known = {RENAMED.get(name, name) for name in PRIMITIVES if name not in NEWER or hasattr(lax, f"{name}_p")}
    assert known - reached == set()


NEWER = {"log2", "one_minus_square"}


# --- What it refuses --------------------------------------------------------------------------------------------------


def test_an_unknown_primitive_is_named_with_the_line_that_used_it():
    def spectrum(x):
        return {"values": jnp.linalg.eigvalsh(x)}

    with pytest.raises(Unsupported, match=r"cannot compute `eigh` \(at test_program.py:\d+: return .*jnp.linalg.eigvalsh\(x\)"):
        export(spectrum, x=np.ones((4, 4), np.float32))


def test_the_line_is_found_inside_loops_too():
    def looped(x):
        return {"y": lax.scan(lambda c, _: (lax.reduce_precision(c, 5, 10), None), x, length=3)[0]}

    with pytest.raises(Unsupported, match=r"`reduce_precision` \(at test_program.py:\d+: return .*lax.scan"):
        export(looped, x=np.ones(4, np.float32))


@pytest.mark.parametrize("draw", [lambda k, x: jax.random.normal(k, x.shape), lambda k, x: jax.random.permutation(k, x)])
def test_random_numbers_are_to_be_drawn_in_python(draw):
    with pytest.raises(Unsupported, match=r"(?s)random.*\(at test_program.py:\d+: .*Draw them in Python before exporting"):
        export(lambda x: {"y": draw(jax.random.key(0), x)}, x=np.ones(4, np.float32))


@pytest.mark.parametrize("value", [{"a": 1.0}, [1.0, 2.0], None])
def test_an_input_that_is_not_one_array_is_refused(value):
    with pytest.raises(TypeError, match="input 'x' is a .*one scalar or array"):
        export(lambda x: {"y": 1.0}, x=value)


def test_an_unknown_dtype_is_refused():
    with pytest.raises(Unsupported, match="no dtype float16"):
        export(lambda x: {"y": x.astype(jnp.float16) * 2}, x=1.0)


def test_the_runtime_names_what_is_wrong(tmp_path):
    program = export(lambda beta, x: {"y": beta * x}, beta=0.1, x=np.ones(3, np.float32))
    unknown = json.loads(json.dumps(program).replace('"mul"', '"mull"'))
    cases = [
        ({**program, "version": 99}, {}, "format version 99"),
        (unknown, {"beta": 1, "x": [1, 2, 3]}, 'does not know the operation "mull"'),
        (program, {"beta": 1}, 'input "x" is missing'),
        (program, {"beta": 1, "x": [1, 2]}, 'input "x" has 2 numbers; its shape [3] takes 3'),
        (program, {"beta": 1, "x": [1, 2, 3], "gamma": 1}, 'no input "gamma"; it has beta, x'),
    ]
    results = javascript(tmp_path, [{"program": p, "inputs": [inputs]} for p, inputs, _ in cases])
    for (_, _, message), result in zip(cases, results, strict=True):
        assert message in result["error"]


# --- What a program is ------------------------------------------------------------------------------------------------


def ops(program) -> list[str]:
    return [op[0] for function in program["functions"] for op in function["ops"]]


def test_what_no_output_needs_is_dropped_and_equal_work_is_done_once():
    def wasteful(x, n):
        unused = jnp.linalg.solve(x, x[0])  # noqa: F841
        path = lax.scan(lambda c, _: ((jnp.sin(c[0]), jnp.exp(c[1])), jnp.cos(c[1])), (x, x), length=5)
        return {"a": path[0][0] + jnp.tanh(x), "b": jnp.tanh(x) * jax.jit(lambda v: v * (2.0 * 3.0))(x)}

    program = export(wasteful, x=np.ones((3, 3), np.float32), n=1.0)
    assert sorted(ops(program)) == ["add", "mul", "mul", "scan", "sin", "tanh"]
    assert [i["name"] for i in program["inputs"]] == ["x", "n"]


def test_the_same_function_gives_the_same_bytes():
    make = lambda: json.dumps(export(CASES["sine, adam, relu"].fn, beta=0.8, rate=0.01))  # noqa: E731
    assert make() == make()


def test_in_double_precision_the_page_has_the_digits_of_double_precision(x64, tmp_path):
    theta = np.array([0.3, -1.1, 0.7])
    hessian = np.diag([1.0, 2.0, 5.0]) + 0.2

    def fn(theta, beta):
        problem = Problem(lambda p, t, _: 0.5 * p @ hessian @ p - p @ jnp.sin(t), lambda p, t, _: jnp.sum((p - 1) ** 2), jnp.zeros_like)
        return shown(contrastive(gradient_descent(0.2, 60), gradient_descent(0.1, 40), beta)(problem, theta, Task()))

    setting = {"theta": theta, "beta": np.float64(1e-4)}
    (answer,) = javascript(tmp_path, [{"program": export(fn, **setting), "inputs": [{k: spelled(v) for k, v in setting.items()}]}])
    grad = np.frombuffer(base64.b64decode(answer[0]["grad"]["data"]))
    np.testing.assert_allclose(grad, package(fn, setting)["grad"], rtol=1e-9)


@pytest.mark.browser
def test_it_runs_in_a_page_and_in_its_worker_from_a_file(tmp_path):
    """One program by a plain script and by a Worker made from `CMLProgram.source`: the same bytes as from node."""
    if not CHROMIUM:
        if os.environ.get("CI"):
            pytest.fail("chromium is not here: apt-get install chromium")
        pytest.skip("needs chromium")
    setting = {"beta": 0.8, "rate": 0.01}
    cases = [{"program": export(CASES["sine, adam, relu"].fn, **setting), "inputs": [setting]}]
    script = f"""new Promise((resolve) => {{
      const cases = {json.dumps(cases)};
      const source = CMLProgram.source + answer + "onmessage = (e) => postMessage(answer(CMLProgram, e.data))";
      const worker = new Worker(URL.createObjectURL(new Blob([source])));
      worker.onmessage = (e) => resolve([answer(CMLProgram, cases), e.data]);
      worker.postMessage(cases);
    }})"""
    page, worker = in_a_page(tmp_path, script)
    assert page == worker
    assert "error" not in page[0]
    if NODE:
        assert page == javascript(tmp_path, cases)
