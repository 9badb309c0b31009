"""What only a part of the package needs. The extras of the installation, of this book: `book` (figures in notebooks, the book's tools), `data` (data sets), `runs` (bars of the full runs' progress)."""

import importlib
from types import ModuleType


def need(module: str, extra: str) -> ModuleType:
    """The module of that name, a string, imported; where it is absent, ModuleNotFoundError says which extra to install."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # something else that it imports is missing
        raise ModuleNotFoundError(f'this needs {error.name}, which is not installed: pip install "cmlcore[{extra}]"', name=error.name) from error
