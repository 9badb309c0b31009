"""Checkpoints: where one seed of a full run stands, in one file that is replaced at once. Of this book."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cmlcore.data import archive


class Progress(NamedTuple):
    """Where a seed stands.

    state:   all that the training carries, a pytree.
    curve:   {name: one number a chunk, or one a seed in each}.
    chunk:   how many chunks are done.
    seconds: of computing so far.
    longest: seconds of the longest chunk.
    devices: what computed, in words, in the order of their first use.
    chunks:  how many there are to do; 0 where an older checkpoint does not say.
    """

    state: Any
    curve: dict[str, list[float]]
    chunk: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    devices: tuple[str, ...] = ()
    chunks: int = 0


def _is_key(leaf) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def place(folder: Path, name: str, seed: int) -> Path:
    """Where the checkpoint of an experiment's seed is, or of all seeds, under the first, where they run together."""
    return folder / f"{name}-{seed}.npz"


def save(path: Path, stamp: str, at: Progress) -> None:
    """Write the checkpoint of the configuration `stamp`."""
    leaves = [np.asarray(jax.random.key_data(x) if _is_key(x) else x) for x in jax.tree.leaves(at.state)]
    arrays = {f"state_{i}": x for i, x in enumerate(leaves)} | {f"curve_{k}": np.array(v) for k, v in at.curve.items()}
    # What `load` insists on comes last: where a damaged table of contents hides the end of the file, that is missed.
    optional = {"longest": at.longest, "devices": np.array(at.devices, str), "chunks": at.chunks}
    archive.write(path, optional | arrays | {"stamp": stamp, "chunk": at.chunk, "seconds": at.seconds})


def load(path: Path, stamp: str, template) -> Progress | None:
    """The checkpoint at `path`, or None if there is none or it belongs to another configuration.

    template: a state of the same structure. Raises OSError for a file that cannot be read.
    """
    like, shape = jax.tree.flatten(template)
    found = _read(path, stamp, [f"state_{i}" for i in range(len(like))])
    if found is None:
        return None
    at, leaves = found
    with jax.enable_x64(True):  # a state may hold doubles; every leaf has the template's dtype
        state = [jax.random.wrap_key_data(a) if _is_key(x) else jnp.asarray(a, x.dtype) for a, x in zip(leaves, like)]
    return at._replace(state=jax.tree.unflatten(shape, state))


def glance(path: Path, stamp: str) -> Progress | None:
    """The same without the state, None in its place: how far a seed is, while it runs or after."""
    found = _read(path, stamp, [])
    return found and found[0]


def _read(path: Path, stamp: str, leaves: list[str]) -> tuple[Progress, list[np.ndarray]] | None:
    if not path.exists():
        return None
    try:
        with np.load(path) as saved:
            arrays = {name: saved[name] for name in saved.files if not name.startswith("state_") or name in leaves}
        if str(arrays["stamp"]) != stamp:
            return None
        state = [arrays[name] for name in leaves]
        chunk, seconds = int(arrays["chunk"]), float(arrays["seconds"])
    except archive.UNREADABLE as error:
        raise OSError(f"the checkpoint {path} cannot be read ({error}). Delete it to start this seed again.") from error
    curve = {name.removeprefix("curve_"): v.astype(float).tolist() for name, v in arrays.items() if name.startswith("curve_")}
    # These came later: a checkpoint without them goes on all the same.
    longest, devices, chunks = float(arrays.get("longest", 0.0)), tuple(map(str, arrays.get("devices", ()))), int(arrays.get("chunks", 0))
    return Progress(None, curve, chunk, seconds, longest, devices, chunks), state
