"""Natural images in few-shot splits: CIFAR-FS (Bertinetto et al. 2019) and miniImageNet (Vinyals et al. 2016; classes of Ravi & Larochelle 2017).

    pictures = cifar_fs()                       # the subset in a local archive
    pictures = mini_imagenet()                  # the same, for private research only: its pictures are ImageNet's
    pictures = cifar_fs_tfds()                  # the full set, from TensorFlow Datasets' CIFAR-100
    pictures = mini_imagenet_files(folder)      # the full set, as published: three .csv lists and a folder of images
    pictures = mini_imagenet_pickles(folder)    # the full set, as three pickles

64 classes to train, 16 to validate, 20 to test; 600 images of each in the full sets.
"""

import csv
import io
import pickle
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmlcore.data import archive as archives
from cmlcore.extras import need

CIFAR_ARCHIVE, MINI_ARCHIVE = "cifar_fs_subset.npz", "mini_imagenet_subset.npz"
SPLITS = ("train", "val", "test")
CLASSES = (64, 16, 20)
FULL = 60_000  # images of either set
MINI_SIZE = 84
# CIFAR-100's names of the classes that CIFAR-FS validates and tests on; it trains on the 64 others.
CIFAR_VALIDATION = ("beaver beetle butterfly camel cattle crab crocodile flatfish lamp maple_tree motorcycle otter sea shark television tractor").split()
CIFAR_TEST = (
    "baby bed bicycle chimpanzee fox leopard man pickup_truck plain poppy rocket rose snail sweet_pepper table telephone wardrobe whale woman worm"
).split()
# Mean and standard deviation of ImageNet's colors, of values in [0, 1].
MEAN, SPREAD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


class Pictures(NamedTuple):
    """Color images of three disjoint sets of classes.

    train, validation, test: (classes, images of each, height, width, 3) uint8, ready for `cmlcore.data.episodes.episode`.
    classes: the names of the classes, a tuple of three tuples.
    name: what the set is called, for people; it says where it is a subset.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    classes: tuple
    name: str


def standardized(images):
    """Colors in [0, 1] less ImageNet's mean, over its spread, what networks for these images are given; shape (images, height, width, 3)."""
    return (images - MEAN) / SPREAD


# ---- subsets, from local archives ------------------------------------------------------------------------------------


def cifar_fs(path=None) -> Pictures:
    """The subset of CIFAR-FS, 32 x 32 pixels, from the first of: `path`, the environment variable CML_DATA, `../shared/data`.

    path: the archive `cifar_fs_subset.npz` or a folder that holds it. Of each class 140, 50 and 60 of 600 images.
    Raises FileNotFoundError where there is no archive, ValueError for one that is damaged.
    """
    place = _find(CIFAR_ARCHIVE, path, "CIFAR-FS subset", "cifar_fs_tfds() reads the full set")
    shapes = {f"{s}_images": (n, None, 32, 32, 3) for s, n in zip(SPLITS, CLASSES)}
    shapes |= {f"{s}_class_names": (n,) for s, n in zip(SPLITS, CLASSES)}
    arrays = archives.read(place, shapes, "CIFAR-FS subset")
    return _pictures([arrays[f"{s}_images"] for s in SPLITS], [arrays[f"{s}_class_names"] for s in SPLITS], "CIFAR-FS")


def mini_imagenet(path=None) -> Pictures:
    """The subset of miniImageNet, 84 x 84 pixels, from the first of: `path`, the environment variable CML_DATA, `../shared/data`.

    path: the archive `mini_imagenet_subset.npz`, of JPEG files, or a folder that holds it. Of each class 130, 40 and 50 of 600
    images. Needs Pillow. ImageNet's terms allow research and education, and no passing on: publish none of its pictures.
    Raises FileNotFoundError where there is no archive, ValueError for one that is damaged.
    """
    place = _find(MINI_ARCHIVE, path, "miniImageNet subset", "mini_imagenet_files() and mini_imagenet_pickles() read the full set")
    shapes = {f"{s}_{part}": (None,) for s in SPLITS for part in ("jpeg", "offsets")}
    shapes |= {f"{s}_wnids": (n,) for s, n in zip(SPLITS, CLASSES)}
    arrays = archives.read(place, shapes, "miniImageNet subset")
    images = []
    for split, classes in zip(SPLITS, CLASSES):
        data, offsets = arrays[f"{split}_jpeg"].tobytes(), arrays[f"{split}_offsets"]
        files = [data[start:end] for start, end in zip(offsets[:-1], offsets[1:])]
        images.append(np.stack([_decoded(io.BytesIO(file), f"{place}: {split} image {i}") for i, file in enumerate(files)]))
        images[-1] = images[-1].reshape(classes, -1, MINI_SIZE, MINI_SIZE, 3)
    return _pictures(images, [arrays[f"{s}_wnids"] for s in SPLITS], "miniImageNet")


def _find(name: str, path, title: str, otherwise: str) -> Path:
    if found := archives.find(name, path):
        return found
    places = " or ".join(map(str, archives.places(name, path)))
    raise FileNotFoundError(f"no {title} at {places}. Put {name} into a folder and set the environment variable CML_DATA to it, or pass its path. {otherwise}.")


def _pictures(images: Sequence[np.ndarray], classes: Sequence[Iterable], title: str) -> Pictures:
    """`Pictures` whose name says how much of the full set they are."""
    count = sum(i.shape[0] * i.shape[1] for i in images)
    name = title if count == FULL else f"{title}, subset of {count:,} of {FULL:,} images"
    return Pictures(*images, tuple(tuple(map(str, c)) for c in classes), name)


def _decoded(file, what: str) -> np.ndarray:
    """An image file as (84, 84, 3) uint8; shrunk with Pillow's Lanczos filter where it is larger, as the published lists' authors do."""
    Image = need("PIL.Image", "data")  # JPEG files
    try:
        image = Image.open(file).convert("RGB")
    except OSError as error:
        raise ValueError(f"{what} is no image that Pillow can read ({error}). Copy it again.") from error
    if image.size != (MINI_SIZE, MINI_SIZE):
        image = image.resize((MINI_SIZE, MINI_SIZE), Image.Resampling.LANCZOS)
    return np.asarray(image)


# ---- the full sets ---------------------------------------------------------------------------------------------------


def cifar_fs_tfds(data_dir=None) -> Pictures:
    """CIFAR-FS in full, 600 images of a class, from the CIFAR-100 that TensorFlow Datasets has prepared under `data_dir` as array_record.

    The training and test parts of CIFAR-100 are pooled, (64, 600, 32, 32, 3) to train on. Raises ImportError without
    TensorFlow Datasets, FileNotFoundError where nothing is prepared.
    """
    tfds = need("tensorflow_datasets", "data")
    prepare = "tfds.builder('cifar100', file_format='array_record').download_and_prepare(), which takes TensorFlow once"
    try:
        builder = tfds.builder("cifar100", data_dir=data_dir, try_gcs=False)
        sources = [builder.as_data_source(part) for part in ("train", "test")]
    except (AssertionError, NotImplementedError, tfds.core.registered.DatasetNotFoundError) as error:
        raise FileNotFoundError(f"CIFAR-100 is not prepared as array_record under {data_dir or 'the usual folder'}. Run {prepare}.") from error
    return cifar_fs_of((example for source in sources for example in source), builder.info.features["label"].names)


def cifar_fs_of(examples: Iterable[dict], names: Sequence[str]) -> Pictures:
    """CIFAR-FS from CIFAR-100's examples: `{"image": (32, 32, 3) uint8, "label": number}`, where a label is an index into `names`.

    Raises ValueError for classes that CIFAR-FS has and `names` has not, and for classes of different size.
    """
    if lacking := [name for name in (*CIFAR_VALIDATION, *CIFAR_TEST) if name not in names]:
        raise ValueError(f"these examples lack the classes {', '.join(lacking)}: they are not CIFAR-100 with fine labels.")
    by_class = {}
    for example in examples:
        by_class.setdefault(names[int(example["label"])], []).append(np.asarray(example["image"]))
    train = [name for name in names if name not in (*CIFAR_VALIDATION, *CIFAR_TEST)]
    splits = [train, CIFAR_VALIDATION, CIFAR_TEST]
    return _pictures([_stacked(by_class, split) for split in splits], splits, "CIFAR-FS")


def mini_imagenet_files(folder) -> Pictures:
    """miniImageNet as published: `train.csv`, `val.csv`, `test.csv` with columns `filename,label`, and the files under `images/`.

    folder: holds all four. Larger images are shrunk to 84 x 84. Raises FileNotFoundError naming what is missing, ValueError for a
    list without these columns, for an unreadable image, and for classes of different size.
    """
    folder = Path(folder).expanduser()
    splits = []
    for split in SPLITS:
        by_class = {}
        for row in _rows(folder / f"{split}.csv"):
            image = folder / "images" / row["filename"]
            if not image.is_file():
                raise FileNotFoundError(f"{image} is in {split}.csv and not there. Unpack all images into {folder / 'images'}.")
            by_class.setdefault(row["label"], []).append(_decoded(image, str(image)))
        splits.append(by_class)
    return _pictures([_stacked(s, list(s)) for s in splits], splits, "miniImageNet")


def _rows(path: Path) -> list[dict]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}. The lists train.csv, val.csv and test.csv belong beside the folder images.")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"filename", "label"} <= rows[0].keys():
        raise ValueError(f"{path} has no columns filename and label: it is not a list of miniImageNet.")
    return rows


def mini_imagenet_pickles(folder) -> Pictures:
    """miniImageNet as the usual three pickles, `mini-imagenet-cache-train.pkl` and so on: image_data (n, 84, 84, 3), class_dict.

    Only arrays, strings, numbers and their containers are loaded; a pickle that asks for anything else is refused. Raises
    FileNotFoundError naming what is missing, ValueError for a pickle of another kind and for classes of different size.
    """
    folder = Path(folder).expanduser()
    splits = []
    for split in SPLITS:
        path = folder / f"mini-imagenet-cache-{split}.pkl"
        if not path.is_file():
            raise FileNotFoundError(f"there is no {path}. Put mini-imagenet-cache-train.pkl, -val.pkl and -test.pkl into one folder.")
        with path.open("rb") as file:
            try:
                found = _Arrays(file, encoding="latin1").load()
            except (pickle.UnpicklingError, EOFError) as error:
                raise ValueError(f"{path} is not a cache of miniImageNet ({error}). Copy it again.") from error
        if not isinstance(found, dict) or not {"image_data", "class_dict"} <= found.keys():
            raise ValueError(f"{path} holds no image_data and class_dict: it is not a cache of miniImageNet.")
        splits.append({name: [found["image_data"][i] for i in rows] for name, rows in sorted(found["class_dict"].items())})
    return _pictures([_stacked(s, list(s)) for s in splits], splits, "miniImageNet")


class _Arrays(pickle.Unpickler):
    """An unpickler that builds numpy arrays and nothing else: a pickle can ask for any program to be run."""

    def find_class(self, module, name):
        wanted = module.replace("numpy.core", "numpy._core")  # the module's name before numpy 2
        if (wanted, name) in {("numpy._core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}:
            return super().find_class(wanted, name)
        if (module, name) == ("_codecs", "encode"):  # how protocol 2 writes bytes
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _stacked(by_class: dict, names: Sequence[str]) -> np.ndarray:
    """The images of the classes `names`, (classes, images, height, width, 3)."""
    counts = {name: len(by_class.get(name, ())) for name in names}
    if len(set(counts.values())) != 1:
        few, many = min(counts, key=counts.get), max(counts, key=counts.get)
        raise ValueError(f"classes differ in size: {few} has {counts[few]} images, {many} has {counts[many]}. Files are missing: copy the set again.")
    return np.stack([np.stack(by_class[name]) for name in names]).astype(np.uint8)
