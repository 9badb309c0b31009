"""CIFAR-FS and miniImageNet: the local subsets, the published forms of the full sets in small, splits, and every error."""

import collections
import io
import pickle
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cmlcore.data import archive as archives
from cmlcore.data import natural
from cmlcore.data.episodes import episode

RNG = np.random.default_rng(0)
SIZES = {"train": 4, "val": 2, "test": 3}


def needs(name):
    return pytest.mark.skipif(archives.find(name) is None, reason=f"no {name} here (set CML_DATA)")


def jpeg(color, size=84):
    file = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), color, np.uint8)).save(file, "jpeg", quality=95)
    return file.getvalue()


def disjoint(pictures):
    return len({name for part in pictures.classes for name in part}) == sum(map(len, pictures.classes)) == 100


# The subsets


@needs(natural.CIFAR_ARCHIVE)
def test_the_subset_of_cifar_fs():
    pictures = natural.cifar_fs()
    assert [p.shape for p in pictures[:3]] == [(64, 140, 32, 32, 3), (16, 50, 32, 32, 3), (20, 60, 32, 32, 3)]
    assert pictures.name == "CIFAR-FS, subset of 10,960 of 60,000 images" and disjoint(pictures)
    assert sorted(pictures.classes[1]) == sorted(natural.CIFAR_VALIDATION) and sorted(pictures.classes[2]) == sorted(natural.CIFAR_TEST)
    assert 100 < pictures.train.mean() < 140 and pictures.train.dtype == np.uint8


@needs(natural.MINI_ARCHIVE)
def test_the_subset_of_mini_imagenet():
    pictures = natural.mini_imagenet()
    assert [p.shape for p in pictures[:3]] == [(64, 130, 84, 84, 3), (16, 40, 84, 84, 3), (20, 50, 84, 84, 3)]
    assert pictures.name == "miniImageNet, subset of 9,960 of 60,000 images" and disjoint(pictures)
    # The published statistics of the training classes, about 120.4, 115.6 and 104.5.
    np.testing.assert_allclose(pictures.train.mean((0, 1, 2, 3)), [120.4, 115.6, 104.5], atol=2)
    assert all(name[0] == "n" and name[1:].isdigit() for name in pictures.classes[0])


@pytest.mark.parametrize("load, name", [(natural.cifar_fs, natural.CIFAR_ARCHIVE), (natural.mini_imagenet, natural.MINI_ARCHIVE)])
def test_archives_that_are_not_there_or_damaged(load, name, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{name}.*CML_DATA.*full set"):
        load(tmp_path)
    (tmp_path / name).write_bytes(b"no archive")
    with pytest.raises(ValueError, match="damaged"):
        load(tmp_path)
    np.savez(tmp_path / name, train_images=np.zeros(3))
    with pytest.raises(ValueError, match="lacks"):
        load(tmp_path)


def test_a_broken_jpeg_in_the_archive_is_named(tmp_path):
    arrays = {}
    for split, classes in zip(natural.SPLITS, natural.CLASSES):
        files = [jpeg(i) for i in range(classes)]
        if split == "val":
            files[3] = b"broken"
        arrays |= {
            f"{split}_jpeg": np.frombuffer(b"".join(files), np.uint8),
            f"{split}_offsets": np.cumsum([0, *map(len, files)]),
            f"{split}_wnids": np.array([f"n{i:08d}" for i in range(classes)]),
        }
    np.savez(tmp_path / natural.MINI_ARCHIVE, **arrays)
    with pytest.raises(ValueError, match="val image 3 is no image"):
        natural.mini_imagenet(tmp_path)


# The full sets, in small


def test_cifar_fs_over_the_builder_of_tensorflow_datasets(monkeypatch, tmp_path):
    """The stock builder of CIFAR-100, given three images of each class, prepared as array_record and read back."""
    tfds = pytest.importorskip("tensorflow_datasets")
    names = sorted([*natural.CIFAR_VALIDATION, *natural.CIFAR_TEST, *(f"other_{i:02d}" for i in range(64))])

    def picture(i):
        file = io.BytesIO()
        Image.fromarray(np.full((32, 32, 3), i, np.uint8)).save(file, "png")
        return io.BytesIO(file.getvalue())

    def generate(count, first):
        for i in range(100 * count):
            yield str(i), {"id": f"{first + i}", "image": picture(i % 100 + first), "label": i % 100, "coarse_label": 0}

    def splits(self, manager):
        self.info.features["label"].names = names
        return {"train": generate(2, 0), "test": generate(1, 100)}

    monkeypatch.setattr(tfds.builder_cls("cifar100"), "_split_generators", splits)
    builder = tfds.builder("cifar100", data_dir=tmp_path, try_gcs=False, file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(compute_stats=tfds.download.ComputeStatsMode.SKIP))

    pictures = natural.cifar_fs_tfds(tmp_path)
    assert [p.shape[:2] for p in pictures[:3]] == [(64, 3), (16, 3), (20, 3)] and disjoint(pictures)
    assert pictures.name == "CIFAR-FS, subset of 300 of 60,000 images"
    for images, classes in zip(pictures[:3], pictures.classes):
        for of_class, name in zip(images, classes):  # both parts of CIFAR-100 are pooled
            label = names.index(name)
            assert sorted(of_class[:, 0, 0, 0]) == [label, label, label + 100]


def test_cifar_100_that_is_not_prepared_or_cannot_be_read(monkeypatch, tmp_path):
    pytest.importorskip("tensorflow_datasets")
    with pytest.raises(FileNotFoundError, match="not prepared as array_record.*download_and_prepare"):
        natural.cifar_fs_tfds(tmp_path)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match=r"pip install .cmlcore\[data\]"):
        natural.cifar_fs_tfds(tmp_path)


def test_examples_that_are_not_cifar_100():
    with pytest.raises(ValueError, match="lack the classes beaver, beetle"):
        natural.cifar_fs_of([], [str(i) for i in range(100)])


@pytest.fixture
def published(tmp_path):
    """Three lists and a folder of images, as published, with images of two sizes."""
    (tmp_path / "images").mkdir()
    for split, classes in SIZES.items():
        rows = ["filename,label"]
        for c in range(classes):
            for i in range(2):
                name = f"n{split}{c:04d}{i:08d}.jpg"
                (tmp_path / "images" / name).write_bytes(jpeg(10 * c + 5 * i, size=84 if i else 120))
                rows.append(f"{name},n{split}{c:04d}")
        (tmp_path / f"{split}.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_mini_imagenet_as_published(published):
    pictures = natural.mini_imagenet_files(published)
    assert [p.shape for p in pictures[:3]] == [(n, 2, 84, 84, 3) for n in SIZES.values()]
    assert pictures.classes[2] == ("ntest0000", "ntest0001", "ntest0002")
    np.testing.assert_allclose(pictures.train[:, :, 40, 40, 0], [[10 * c, 10 * c + 5] for c in range(4)], atol=2)


def test_published_files_with_something_missing(published):
    (published / "images" / "nval000000000001.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="nval000000000001.jpg is in val.csv and not there. Unpack"):
        natural.mini_imagenet_files(published)
    rows = (published / "val.csv").read_text().splitlines()
    (published / "val.csv").write_text("\n".join(row for row in rows if "00000001.jpg" not in row or "nval0001" in row))
    with pytest.raises(ValueError, match="classes differ in size: nval0000 has 1 images, nval0001 has 2"):
        natural.mini_imagenet_files(published)
    (published / "val.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="val.csv has no columns filename and label"):
        natural.mini_imagenet_files(published)
    (published / "train.csv").unlink()
    with pytest.raises(FileNotFoundError, match="train.csv.*beside the folder images"):
        natural.mini_imagenet_files(published)


def caches(folder, protocol=2, **changes):
    for split, classes in SIZES.items():
        order = RNG.permutation(2 * classes)
        found = {
            "image_data": np.stack([np.full((84, 84, 3), i // 2, np.uint8) for i in order]),
            "class_dict": {f"n{split}{c}": np.flatnonzero(order // 2 == c).tolist() for c in range(classes)},
        }
        with (folder / f"mini-imagenet-cache-{split}.pkl").open("wb") as file:
            pickle.dump(found | changes, file, protocol)


@pytest.mark.parametrize("protocol", [2, 4])
def test_mini_imagenet_as_pickles(tmp_path, protocol):
    caches(tmp_path, protocol)
    pictures = natural.mini_imagenet_pickles(tmp_path)
    assert [p.shape for p in pictures[:3]] == [(n, 2, 84, 84, 3) for n in SIZES.values()]
    assert pictures.classes[1] == ("nval0", "nval1")
    assert (pictures.test == np.arange(3)[:, None, None, None, None]).all()


def test_pickles_of_another_kind(tmp_path):
    with pytest.raises(FileNotFoundError, match="mini-imagenet-cache-train.pkl.*one folder"):
        natural.mini_imagenet_pickles(tmp_path)
    caches(tmp_path, more=collections.OrderedDict())  # asks for a class: a pickle may ask for any program
    with pytest.raises(ValueError, match="it asks for collections.OrderedDict"):
        natural.mini_imagenet_pickles(tmp_path)
    (tmp_path / "mini-imagenet-cache-train.pkl").write_bytes(pickle.dumps({"data": 1}))
    with pytest.raises(ValueError, match="holds no image_data"):
        natural.mini_imagenet_pickles(tmp_path)
    (tmp_path / "mini-imagenet-cache-train.pkl").write_bytes(b"")
    with pytest.raises(ValueError, match="is not a cache"):
        natural.mini_imagenet_pickles(tmp_path)


# What becomes of them


def test_episodes_in_color_and_standardized():
    stack = jnp.asarray(RNG.integers(0, 256, (6, 4, 8, 8, 3), np.uint8))
    task = jax.jit(lambda key: episode(key, stack, 5, 1, 2))(jax.random.key(0))
    assert task.support.images.shape == (5, 8, 8, 3) and task.query.images.shape == (10, 8, 8, 3)
    where = [np.argwhere((stack == np.round(255 * image)).all(axis=(2, 3, 4)))[0] for image in task.query.images]
    assert [w[0] for w in where[::2]] == [w[0] for w in where[1::2]] and len({w[0] for w in where}) == 5
    np.testing.assert_allclose(natural.standardized(natural.MEAN + natural.SPREAD), np.ones(3), rtol=1e-6)
