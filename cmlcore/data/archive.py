"""Data sets as local `.npz` archives: where they may be, how one is read, checked and written. Of this book.

An archive holds named arrays; what each data set must hold is a dictionary `{name: shape}`, where None in a shape is any length.
"""

import hashlib
import os
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

try:
    from lzma import LZMAError
except ImportError:  # some builds of Python are without it, and name that when they meet such an archive
    LZMAError = RuntimeError

# What `np.load` raises, now or when an array is read, for a file that is cut off, altered, or no archive; KeyError: without an array.
UNREADABLE = (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error, LZMAError)


def places(name: str, path=None) -> list[Path]:
    """Where the archive called `name` may be, a list in order; the last is also where a download goes.

    path: the archive itself or a folder that holds it; else the environment variable CML_DATA, which is the same; else
    `../shared/data` beside the repository, then the user's cache.
    """
    if path is not None:
        return [_inside(path, name)]
    if folder := os.environ.get("CML_DATA"):
        return [_inside(folder, name)]
    beside = Path(__file__).parents[2].parent / "shared" / "data"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cmlcore"
    return [beside / name, cache / name]


def _inside(path, name: str) -> Path:
    path = Path(path).expanduser()
    return path if path.suffix == ".npz" else path / name


def find(name: str, path=None) -> Path | None:
    """The first of `places(name, path)` that is there, a path, or None."""
    return next((place for place in places(name, path) if place.is_file()), None)


def checksum(*arrays: np.ndarray) -> str:
    """The SHA-256 of the arrays' bytes, of any shapes, one after the other, as hexadecimal digits."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def load(name: str, read: Callable, download: Callable, missing: Callable, path=None):
    """What `read(archive)` makes of the archive called `name`: the first of `places(name, path)` that is there, else a download.

    download(archive): fetches it, gives its path. Without `path` only: who names a place is told that nothing is there.
    missing(places): words on what is missing and what to do.

    Raises FileNotFoundError, ConnectionError where nothing can be fetched, and what `read` raises.
    """
    if found := find(name, path):
        return read(found)
    where = places(name, path)
    if path is not None:
        raise FileNotFoundError(missing(where))
    try:
        return read(download(where[-1]))
    except ImportError as error:
        raise FileNotFoundError(f"{missing(where)} To download it: {error}") from error
    except ConnectionError as error:
        raise ConnectionError(f"{missing(where)} The download failed: {error}") from error


def read(archive: Path, shapes: Mapping[str, tuple], title: str, advice: str = "Copy the archive again.") -> dict[str, np.ndarray]:
    """The arrays of `shapes` from one archive, by name; what else it holds is left alone.

    title: what the data set is called, advice: what to do about a bad archive, both for people. Raises ValueError naming
    what is damaged, missing or of a wrong shape.
    """
    try:
        with np.load(archive) as file:
            absent = [name for name in shapes if name not in file]
            arrays = {name: file[name] for name in shapes if name in file}
    except UNREADABLE as error:
        raise ValueError(f"{archive} is damaged or no .npz archive ({error}). {advice}") from error
    if absent:
        raise ValueError(f"{archive} lacks {', '.join(absent)}: it is not the {title} archive. {advice}")
    for name, shape in shapes.items():
        if not _fits(arrays[name].shape, shape):
            wanted = str(shape).replace("None", "any")
            raise ValueError(f"{archive}: {name} has shape {arrays[name].shape} instead of {wanted}. {advice}")
    return arrays


def _fits(found: tuple, wanted: tuple) -> bool:
    return len(found) == len(wanted) and all(w in (None, f) for f, w in zip(found, wanted))


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """An open file that takes the place of `path` at the end: a reader sees the old file or the whole new one; a failure leaves the old."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Remove what processes that were killed while `replacing(path)` have left beside `path`."""
    for partial in path.parent.glob(f"{path.name}.[0-9]*.partial"):
        if not _runs(int(partial.name.split(".")[-2])):
            partial.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True


def write(archive: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    """Write `{name: array}` to the path `archive`, all of it or nothing."""
    with replacing(archive) as file:
        np.savez_compressed(file, **arrays)
    return archive


def require_network(url: str) -> None:
    """Raise ConnectionError within ten seconds if `url`, a string, cannot be reached, where TensorFlow Datasets would retry for minutes."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=10).close()
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise ConnectionError(f"{url} cannot be reached ({getattr(error, 'reason', error)}).") from error
