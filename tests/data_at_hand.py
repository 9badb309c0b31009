"""Which notebooks cannot run here for want of data."""

import ast
import importlib
import os
from functools import cache
from pathlib import Path

import nbformat

from cmlcore.notebooks import code_of, imported

DATA = "cmlcore.data."


def missing_data(path: Path, same: bool = False) -> str:
    """Why a data set that the notebook at `path` loads cannot be had here; empty where all can. In CI too: there, what lacks data fails.

    same: the data that the notebook was executed with, no smaller set in their place.
    """
    if os.environ.get("CI"):
        return ""
    calls = {(module, "load" if same else function) for module, function in loads(path)}
    return " ".join(filter(None, (obstacle(*call) for call in sorted(calls))))


def loads(path: Path) -> set[tuple[str, str]]:
    """The loading functions of `cmlcore.data` that the notebook's code calls, as (module, function)."""
    code = "\n".join(code_of(nbformat.read(path, as_version=4)))
    modules = {name.removeprefix(DATA) for name in imported(code) if name.startswith(DATA)}
    functions = (node.func for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute))
    called = {(function.value.id, function.attr) for function in functions if isinstance(function.value, ast.Name)}
    return {(module, function) for module, function in called if module in modules and function.startswith("load")}


@cache
def obstacle(module: str, function: str) -> str:
    """What `cmlcore.data.<module>.<function>()` says where it finds nothing to read; it is tried once."""
    try:
        getattr(importlib.import_module(DATA + module), function)()
    except OSError as error:
        return str(error)
    return ""
