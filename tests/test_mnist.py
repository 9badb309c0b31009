"""The digits: the archive as published, where it is looked for, what is refused, and scikit-learn's small set."""

import numpy as np
import pytest

from cmlcore.data import archive as archives
from cmlcore.data import mnist

archive = archives.find(mnist.ARCHIVE)
needs_archive = pytest.mark.skipif(archive is None, reason="no mnist.npz here (set CML_DATA)")


@needs_archive
def test_the_whole_set_in_three_disjoint_parts():
    digits = mnist.load()
    assert [x.shape for x in digits[:6:2]] == [(50_000, 784), (10_000, 784), (10_000, 784)]
    assert digits.images.dtype == np.float32 and digits.images.min() == 0 and digits.images.max() == 1
    assert digits.images.mean() < 0.2  # paper is 0, ink is rare
    assert set(digits.labels) == set(range(10)) and digits.labels[:3].tolist() == [5, 0, 4]
    assert digits.test_labels[:3].tolist() == [7, 2, 1]


@needs_archive
def test_the_environment_names_the_place_and_a_wrong_archive_is_refused(monkeypatch, tmp_path):
    with np.load(archive) as file:
        arrays = {name: file[name] for name in mnist.SHAPES}
    monkeypatch.setenv("CML_DATA", str(tmp_path))
    arrays["train_labels"] = arrays["train_labels"][::-1]
    np.savez(tmp_path / "mnist.npz", **arrays)
    with pytest.raises(ValueError, match="wrong checksum"):
        mnist.load()


def test_missing_and_damaged_archives_are_named(monkeypatch, tmp_path):
    with pytest.raises(FileNotFoundError, match="CML_DATA.*small"):
        mnist.load(tmp_path)
    (tmp_path / "mnist.npz").write_bytes(b"not an archive")
    with pytest.raises(ValueError, match="damaged"):
        mnist.load(tmp_path)
    np.savez(tmp_path / "mnist.npz", train_images=np.zeros(3))
    with pytest.raises(ValueError, match="lacks train_labels"):
        mnist.load(tmp_path)
    np.savez(tmp_path / "mnist.npz", **{name: np.zeros(3) for name in mnist.SHAPES})
    with pytest.raises(ValueError, match=r"train_images has shape \(3,\)"):
        mnist.load(tmp_path)
    monkeypatch.setenv("CML_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="has shape"):
        mnist.load_or_small()


def test_without_an_archive_scikit_learns_digits_serve(monkeypatch, tmp_path):
    pytest.importorskip("sklearn")
    monkeypatch.setenv("CML_DATA", str(tmp_path / "nothing"))
    digits = mnist.load_or_small()
    assert [x.shape for x in digits[:6:2]] == [(1197, 64), (300, 64), (300, 64)]
    assert digits.images.max() == 1 and set(digits.test_labels) == set(range(10))
    whole = np.concatenate(digits[:6:2])
    assert len(np.unique(whole, axis=0)) == len(whole)  # nothing is in two parts


def test_targets_are_one_at_the_label():
    np.testing.assert_array_equal(mnist.one_hot(np.array([2, 0])), np.eye(10)[[2, 0]])
