"""Omniglot: 1623 handwritten characters of 50 alphabets, 20 drawings of each (Lake, Salakhutdinov & Tenenbaum 2015).

    data = load()                          # from a local archive, else downloaded through TensorFlow Datasets
    split = background_evaluation(data)    # which characters are for training, for choices, for the one last test
    train = rotated(data.images[split.train])

A character's index on axis 0 is the number in its official file name minus one; axis 1 is the drawer.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmlcore.data import archive as archives

ARCHIVE = "omniglot.npz"
CHARACTERS, DRAWERS, SIZE = 1623, 20, 28
# Of the images as the archive stores them: paper 255, ink towards 0.
IMAGES_SHA256 = "43a92e786cf8ded66b3834dc24ea417de034943bdd0d83a59f6e584de28f2d17"
SHAPES = {
    "images28": (CHARACTERS, DRAWERS, SIZE, SIZE),
    "alphabet": (CHARACTERS,),
    "alphabet_names": (50,),
    "character": (CHARACTERS,),
    "evaluation": (CHARACTERS,),
}
# The validation alphabets of the split of Vinyals et al. (2016); all five belong to the background set.
VALIDATION_ALPHABETS = ("Armenian", "Bengali", "Early_Aramaic", "Hebrew", "Mkhedruli_(Georgian)")
VINYALS_FIRST_TEST = 1200


class Omniglot(NamedTuple):
    """The whole data set, in memory (25 MB).

    images:         (1623, 20, 28, 28) uint8, ink 255 on paper 0; divide by 255 for ink = 1.
    alphabet:       (1623,) index into `alphabet_names`.
    alphabet_names: (50,) str, sorted.
    character:      (1623,) number within the alphabet, from 1.
    evaluation:     (1623,) bool, the evaluation set (20 alphabets); the others are the background set (30 alphabets).
    """

    images: np.ndarray
    alphabet: np.ndarray
    alphabet_names: np.ndarray
    character: np.ndarray
    evaluation: np.ndarray


class Split(NamedTuple):
    """Which characters serve what, three disjoint boolean masks of shape (1623,)."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def load(path=None) -> Omniglot:
    """Omniglot from the first of: `path`, the environment variable CML_DATA, `../shared/data` beside the repository.

    path: the archive `omniglot.npz` or a folder that holds it; so is CML_DATA. Without `path`, an archive that is
    nowhere is downloaded once (19 MB) into CML_DATA or the user's cache, through TensorFlow Datasets. Both ways give
    the same arrays.

    Raises FileNotFoundError or ConnectionError where there is nothing to read, ValueError for a damaged archive.
    """
    return archives.load(ARCHIVE, read, _download, _missing, path)


def read(archive: Path) -> Omniglot:
    """Read and check one archive. Raises ValueError naming what is damaged, missing or of a wrong shape."""
    advice = "Copy the archive again, or delete it and let cmlcore.data.omniglot.load() download it."
    arrays = archives.read(archive, SHAPES, "Omniglot", advice)
    stored = arrays.pop("images28")
    if stored.dtype != np.uint8 or archives.checksum(stored) != IMAGES_SHA256:
        raise ValueError(f"{archive}: the images differ from the published ones (wrong checksum). {advice}")
    return Omniglot(255 - stored, **arrays)


def background_evaluation(data: Omniglot) -> Split:
    """The official split: background 964 characters, here 792 to train and 172 to validate, and evaluation 659.

    The validation characters are whole alphabets held out of the background set, so that no choice ever looks at an
    evaluation character.
    """
    validation = _validation(data)
    return Split(~data.evaluation & ~validation, validation, data.evaluation.copy())


def vinyals(data: Omniglot) -> Split:
    """The split of Vinyals et al. (2016): 1028 characters to train, 172 to validate, 423 to test.

    Many published figures use it or a random split of the same size; its training set reaches into the evaluation
    set's alphabets, and the two protocols' scores are not comparable.
    """
    test = np.arange(CHARACTERS) >= VINYALS_FIRST_TEST
    validation = _validation(data)
    return Split(~test & ~validation, validation, test)


def rotated(images: np.ndarray) -> np.ndarray:
    """`(n, 20, 28, 28)` to `(4 n, 20, 28, 28)`: every character turned by 90, 180, 270 degrees is a new class.

    For training only: a test on turned characters would be another test.
    """
    return np.concatenate([np.rot90(images, turns, axes=(-2, -1)) for turns in range(4)])


def _validation(data: Omniglot) -> np.ndarray:
    return np.isin(data.alphabet_names[data.alphabet], VALIDATION_ALPHABETS)


def _download(archive: Path) -> Path:
    from cmlcore.data.omniglot_builder import download  # importing TensorFlow Datasets takes seconds

    return download(archive)


def _missing(places) -> str:
    return (
        f"no Omniglot archive at {' or '.join(map(str, places))}. Put {ARCHIVE} into a folder and set the environment "
        "variable CML_DATA to it, or pass load(path). Where there is a network, load() without a path downloads it."
    )
