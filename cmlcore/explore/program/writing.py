"""The finished functions as JSON-able data, every type, constant and function once."""

import base64
import json
from typing import Any

import numpy as np

from cmlcore.explore.program.building import DTYPES, Constants, Function, Op, Type
from cmlcore.explore.program.refusing import held

VERSION = 1


class Writer:
    """Numbers types, constants and functions as they are used, each once."""

    def __init__(self, constants: Constants):
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
            "inputs": [{"name": n, "dtype": t.dtype, "shape": list(t.shape)} for n, t in zip(inputs, main.inputs, strict=True)],
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
        held(array)
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
