"""CIFAR-10: small color photographs of ten kinds of things (Krizhevsky 2009).

data = load()          # whatever is at hand: the whole set or a subset of it; else downloaded through TensorFlow Datasets
data = load_whole()    # all 50,000 + 10,000 images
x = standardized(data.images[:50])
"""

from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from cmlcore.data import archive as archives

WHOLE, SUBSET = "cifar10.npz", "cifar10_subset.npz"
SHAPES = {
    "train_images": (None, 32, 32, 3),
    "train_labels": (None,),
    "test_images": (None, 32, 32, 3),
    "test_labels": (None,),
    "class_names": (10,),
}
# Of the subset's images and labels, one after the other.
SUBSET_SHA256 = "9c935492ee1b440250dfd78d31bfda32df2af489abdcf18417a275228fa6aadc"
# Of red, green and blue over the 50,000 training images, at 255 = 1.
MEAN, DEVIATION = np.float32([0.4914, 0.4822, 0.4465]), np.float32([0.2470, 0.2435, 0.2616])


class Cifar(NamedTuple):
    """Photographs and what they show, in memory; (n, 32, 32, 3) uint8 and (n,) int32.

    images, labels: training images; 50,000 in the whole set, 10,000 in the subset, as many of each class.
    test_images, test_labels: 10,000, or 2,000.
    class_names: (10,) str, by label.
    name: what the set is called, for people.
    """

    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: np.ndarray
    name: str


def load(path=None) -> Cifar:
    """CIFAR-10 from the first of: `path`, the environment variable CML_DATA, `../shared/data` beside the repository, the cache.

    path: `cifar10.npz`, `cifar10_subset.npz`, or a folder that holds one of them (the whole set goes first); so is
    CML_DATA. Where there is neither, and no `path`, the whole set is downloaded once (170 MB) as `load_whole` does. A
    figure from the subset is no figure for CIFAR-10: `name` says which it is.

    Raises FileNotFoundError or ConnectionError where there is nothing to read, ValueError for a damaged archive.
    """
    for name in (WHOLE, SUBSET):
        if found := archives.find(name, path):
            return read(found)
    return load_whole(path)


def load_whole(path=None) -> Cifar:
    """The whole set, from the same places, else downloaded through TensorFlow Datasets; shapes and errors as for `load`."""
    return archives.load(WHOLE, _read_whole, _download, _missing, path)


def read(archive: Path) -> Cifar:
    """Read and check one archive, of any number of images. Raises ValueError naming what is damaged, missing or of a wrong shape."""
    arrays = archives.read(archive, SHAPES, "CIFAR-10")
    images, labels, test_images, test_labels, names = arrays.values()
    for part, x, y in (("train", images, labels), ("test", test_images, test_labels)):
        if len(x) != len(y) or x.dtype != np.uint8:
            raise ValueError(f"{archive}: {len(x)} {part} images in {x.dtype} and {len(y)} labels. Copy the archive again.")
    if archive.name == SUBSET and archives.checksum(images, labels, test_images, test_labels) != SUBSET_SHA256:
        raise ValueError(f"{archive}: its contents are not those of the subset (wrong checksum). Copy the archive again.")
    whole = len(images) == 50_000 and len(test_images) == 10_000
    name = "CIFAR-10" if whole else f"CIFAR-10, a subset of {len(images):,} + {len(test_images):,} images"
    return Cifar(images, np.int32(labels), test_images, np.int32(test_labels), names, name)


def standardized(images):
    """`(n, 32, 32, 3)` uint8 to float32 with mean 0 and standard deviation 1 in each color, over CIFAR-10's training images."""
    return (jnp.float32(images) / 255 - MEAN) / DEVIATION


def _read_whole(archive: Path) -> Cifar:
    data = read(archive)
    if len(data.images) != 50_000:
        raise ValueError(f"{archive} holds {data.name}, and the whole set is asked for. Rename it {SUBSET}, or delete it.")
    return data


def _download(archive: Path) -> Path:
    from cmlcore.data.cifar_builder import download  # importing TensorFlow Datasets takes seconds

    return download(archive)


def _missing(places) -> str:
    return (
        f"no CIFAR-10 archive at {' or '.join(map(str, places))}. Put {WHOLE} or {SUBSET}, with the arrays {', '.join(SHAPES)}, "
        "into a folder and set the environment variable CML_DATA to it, or pass load(path). Where there is a network, "
        "load() without a path downloads the whole set."
    )
