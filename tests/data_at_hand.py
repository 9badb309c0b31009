"""Which notebooks cannot run here for want of data."""

import ast
import importlib
import os
from functools import cache
from pathlib import Path

import nbformat

from cmlcore.press.notebooks import code_of, imported

DATA = "cmlcore.data."
# What the book's pages were made with, where a notebook takes what is at hand.
SHOWN = {"mnist": "MNIST", "cifar": "CIFAR-10, a subset of 10,000 + 2,000 images"}


def missing_data(path: Path, same: bool = False) -> str:
    """Why a data set that the notebook at `path` loads cannot be had here; empty where all can, and in CI: there, what lacks data fails.

    same: to compare numbers with those of the page, which need the same data and not only some.
    """
    if os.environ.get("CI"):
        return ""
    found = [(module, *tried(module, function)) for module, function in sorted(loads(path))]
    absent = [why for _, _, why in found if why]
    other = [f"The page was made with {SHOWN[module]}; here is {name}." for module, name, why in found if same and not why and name != SHOWN.get(module)]
    return " ".join(absent + other)


def loads(path: Path) -> set[tuple[str, str]]:
    """The loading functions of `cmlcore.data` that the notebook's code calls, as (module, function)."""
    code = "\n".join(code_of(nbformat.read(path, as_version=4)))
    modules = {name.removeprefix(DATA) for name in imported(code) if name.startswith(DATA)}
    functions = (node.func for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute))
    called = {(function.value.id, function.attr) for function in functions if isinstance(function.value, ast.Name)}
    return {(module, function) for module, function in called if module in modules and function.startswith("load")}


@cache
def tried(module: str, function: str) -> tuple[str | None, str]:
    """What `cmlcore.data.<module>.<function>()` finds: the set's name, if it has one, and if it finds nothing, its words on that."""
    try:
        data = getattr(importlib.import_module(DATA + module), function)()
    except OSError as error:
        return None, str(error)
    return getattr(data, "name", None), ""
