"""Trained meta-parameters as they lie beside receipts: float16 leaves in tree order, held to their receipt by a hash. Knows no catalogue."""

import hashlib
import importlib.util
import io
import json
from pathlib import Path

import jax
import numpy as np


def _folder() -> Path:
    """Where receipts lie: beside this module in a checkout, in a distribution of their own beside an installed package."""
    here = Path(__file__).parent / "receipts"
    apart = None if here.is_dir() else importlib.util.find_spec("cmlcore_receipts")
    return Path(list(apart.submodule_search_locations)[0]) if apart else here


FOLDER = _folder()


def sha256(content: bytes) -> str:
    """The hash that a receipt holds of its parameters' file."""
    return hashlib.sha256(content).hexdigest()


def again(name: str) -> str:
    """How an experiment is run, for messages."""
    return f"Run it with: python -m cmlcore.runs {name}"


def read(name: str, like, folder: Path = FOLDER):
    """The parameters of experiment `name` in the tree structure and dtypes of `like`; whether the receipt is of today's settings is not asked here.

    Raises FileNotFoundError where there is no receipt, ValueError where none are kept, the file is not the receipt's, or `like` does not fit.
    """
    receipt, path = folder / f"{name}.json", folder / f"{name}.npz"
    if not receipt.exists():
        raise FileNotFoundError(f"the experiment {name} waits for its full run. {again(name)}")
    content = path.read_bytes() if path.exists() else b""
    if sha256(content) != json.loads(receipt.read_text()).get("parameters"):
        raise ValueError(f"{path.name} is missing, damaged, or of another run than its receipt. {again(name)}")
    leaves, shape = jax.tree.flatten(like)
    with np.load(io.BytesIO(content)) as saved:
        arrays = [saved[f"leaf_{i}"] for i in range(len(saved.files))]
    shapes = [(a.shape, jax.numpy.shape(x)) for a, x in zip(arrays, leaves)]
    if len(arrays) != len(leaves) or any(found != wanted for found, wanted in shapes):
        raise ValueError(f"the parameters of {name} do not fit: (found, wanted) shapes of the leaves are {shapes}.")
    return jax.tree.unflatten(shape, [jax.numpy.asarray(a, x.dtype) for a, x in zip(arrays, leaves)])
