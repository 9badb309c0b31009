"""A traced JAX function as a small JSON program, which the scripts beside it run in a page: no kernel, no network, no `eval`.

JAX traces a function to a jaxpr: a list of primitive operations on arrays of known shape. `export` copies that list
into JSON. Calls (`jit`, `custom_jvp`, `checkpoint`, ...) are inlined, operations on constant scalars are done here,
equal operations are merged, and what no output needs is dropped, inside loops as well.

refusing    what the page cannot compute: an error that names it and its line
building    a function under construction: types, operations, constants
primitives  the primitives of JAX that the page has
composed    those that are written with others
control     loops, branches, functions that remember
reading     a jaxpr becomes a function
pruning     what no output needs is dropped
writing     the functions become JSON-able data

The scripts run it: arrays, numbers, the operations in families, and `program.js`, which has the two calls.

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

from collections.abc import Callable
from pathlib import Path

import jax

from cmlcore.explore.program.building import Constants
from cmlcore.explore.program.control import remembered
from cmlcore.explore.program.pruning import prune
from cmlcore.explore.program.reading import read
from cmlcore.explore.program.refusing import Unsupported
from cmlcore.explore.program.writing import Writer

__all__ = ["RUNTIME", "Unsupported", "export", "remembered"]

# The page's scripts that run a program, in the order in which they are loaded.
RUNTIME = [Path(__file__).with_name(f"{part}.js") for part in ("arrays", "numbers", "elementwise", "reducing", "moving", "matrices", "control", "program")]


def export(fn: Callable, **inputs) -> dict:
    """Trace `fn(**inputs)` and return it as a JSON-able program for the page.

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
    closed, result = jax.make_jaxpr(lambda *values: fn(**dict(zip(inputs, values, strict=True))), return_shape=True)(*inputs.values())
    constants = Constants()
    main = read(closed, [None] * len(inputs), constants)
    main, _ = prune(main, [True] * len(main.outputs), keep_inputs=True)
    paths = jax.tree_util.tree_flatten_with_path(result)[0]
    return Writer(constants).program(main, list(inputs), [_path(path) for path, _ in paths])


def _path(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".") or "result"
