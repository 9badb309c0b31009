"""Handwritten digits: MNIST (LeCun, Bottou, Bengio & Haffner 1998), and a small set that comes with scikit-learn.

digits = load()              # MNIST, from a local archive
digits = load_or_small()     # MNIST if it is at hand, else scikit-learn's 8x8 digits
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmlcore.data import archive as archives
from cmlcore.extras import need

ARCHIVE = "mnist.npz"
SHAPES = {
    "train_images": (60000, 28, 28),
    "train_labels": (60000,),
    "test_images": (10000, 28, 28),
    "test_labels": (10000,),
}
# Of the four arrays' bytes, one after the other, as published: paper 0, ink towards 255.
SHA256 = "06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16"


class Digits(NamedTuple):
    """Images of the ten digits and what they are, in three disjoint parts.

    images, validation_images, test_images: (n, pixels) float32, paper 0, ink 1.
    labels, validation_labels, test_labels: (n,) int32.
    name: what the set is called, for people.
    """

    images: np.ndarray
    labels: np.ndarray
    validation_images: np.ndarray
    validation_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    name: str


def load(path=None) -> Digits:
    """MNIST from the first of: `path`, the environment variable CML_DATA, `../shared/data` beside the repository, the cache.

    path: the archive `mnist.npz` or a folder that holds it; so is CML_DATA. The last 10,000 of the 60,000 training
    images are the validation part, (50000, 784) remain to train; the test set is the official one, (10000, 784).

    Raises FileNotFoundError where there is no archive, ValueError for one that is damaged.
    """
    if found := archives.find(ARCHIVE, path):
        return read(found)
    places = " or ".join(map(str, archives.places(ARCHIVE, path)))
    raise FileNotFoundError(
        f"no MNIST archive at {places}. Put {ARCHIVE}, with the arrays {', '.join(SHAPES)}, into a "
        "folder and set the environment variable CML_DATA to it, or pass load(path). small() needs no archive."
    )


def small() -> Digits:
    """The 1,797 digits of 8x8 pixels that scikit-learn brings along: 1,197 to train, 300 to validate, 300 to test.

    Images of shape (n, 64), scaled to 0..1 here, and put into a fixed random order, because neighbors in the file share a writer.
    Raises ImportError without scikit-learn.
    """
    data = need("sklearn.datasets", "data").load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    images, labels = np.float32(data.data / 16)[order], np.int32(data.target)[order]
    return _parts(images[:-300], labels[:-300], images[-300:], labels[-300:], 300, "scikit-learn's digits (8x8)")


def load_or_small() -> Digits:
    """`load()` where there is an archive, else `small()`: the shapes tell which. A damaged archive still raises."""
    try:
        return load()
    except FileNotFoundError:
        return small()


def one_hot(labels) -> np.ndarray:
    """(n,) labels to (n, 10) targets, float32."""
    return np.eye(10, dtype=np.float32)[labels]


def read(archive: Path) -> Digits:
    """Read and check one archive. Raises ValueError naming what is damaged, missing or of a wrong shape."""
    arrays = archives.read(archive, SHAPES, "MNIST")
    if archives.checksum(*arrays.values()) != SHA256:
        raise ValueError(f"{archive}: its contents differ from the published MNIST (wrong checksum). Copy the archive again.")
    images, labels, test_images, test_labels = arrays.values()
    flat = lambda x: np.float32(x).reshape(len(x), -1) / 255
    return _parts(flat(images), np.int32(labels), flat(test_images), np.int32(test_labels), 10_000, "MNIST")


def _parts(images, labels, test_images, test_labels, validation: int, name: str) -> Digits:
    last = slice(-validation, None)
    return Digits(images[:-validation], labels[:-validation], images[last], labels[last], test_images, test_labels, name)
