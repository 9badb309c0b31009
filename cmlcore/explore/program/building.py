"""A function under construction: types, operations, constants; equal operations are merged as they come."""

import json
from typing import NamedTuple

import numpy as np

from cmlcore.explore.program.refusing import DRAW_BEFORE, Unsupported

DTYPES = {"float32": "f32", "float64": "f64", "int32": "i32", "int64": "i64", "uint32": "u32", "bool": "bool"}


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


class Constants:
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


def type_of(aval) -> Type:
    name = str(aval.dtype)
    if name.startswith("key<"):
        raise Unsupported("the page has no random keys", DRAW_BEFORE)
    if name not in DTYPES:
        raise Unsupported(f"the page has no dtype {name}", f". It has {', '.join(DTYPES)}.")
    return Type(DTYPES[name], tuple(int(d) for d in aval.shape))


def opened(closed):
    """The jaxpr and its constants, whether it came closed or open."""
    return (closed.jaxpr, closed.consts) if hasattr(closed, "consts") else (closed, ())


class Body:
    """The operations of one function, in order, equal ones merged."""

    def __init__(self, constants: Constants):
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
