"""CIFAR-10: the archives, what is refused, and the official file through TensorFlow Datasets, on a small file of the same form."""

import functools
import http.server
import io
import tarfile
import threading

import numpy as np
import pytest

from cmlcore.data import archive as archives
from cmlcore.data import cifar

subset = archives.find(cifar.SUBSET)
NAMES = np.array("airplane automobile bird cat deer dog frog horse ship truck".split())


def arrays(train=20, test=10, **changes):
    rng = np.random.default_rng(0)
    made = {"class_names": NAMES}
    for part, count in (("train", train), ("test", test)):
        made[f"{part}_images"] = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
        made[f"{part}_labels"] = np.uint8(np.arange(count) % 10)
    return made | changes


@pytest.mark.skipif(subset is None, reason="no cifar10_subset.npz here (set CML_DATA)")
def test_the_subset():
    data = cifar.read(subset)
    assert data.images.shape == (10_000, 32, 32, 3) and data.test_images.shape == (2_000, 32, 32, 3)
    assert np.bincount(data.labels).tolist() == [1000] * 10 and data.class_names[data.labels[0]] == "cat"
    assert data.name == "CIFAR-10, a subset of 10,000 + 2,000 images"
    x = np.asarray(cifar.standardized(data.images))
    np.testing.assert_allclose(x.mean((0, 1, 2)), 0, atol=0.02)
    np.testing.assert_allclose(x.std((0, 1, 2)), 1, atol=0.02)


def test_standardized_colors_are_in_single_precision(x64):
    assert cifar.standardized(arrays()["train_images"]).dtype == np.float32


def test_the_whole_set_goes_first_and_is_not_mistaken(tmp_path, monkeypatch):
    monkeypatch.setenv("CML_DATA", str(tmp_path))
    np.savez(tmp_path / cifar.SUBSET, **arrays(30))  # of a wrong checksum: it must not be read where the whole set is
    np.savez(tmp_path / cifar.WHOLE, **arrays())
    assert len(cifar.load().images) == 20
    with pytest.raises(ValueError, match="a subset of 20 \\+ 10 images, and the whole set is asked for"):
        cifar.load_whole()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"class_names": NAMES[:9]}, r"class_names has shape \(9,\) instead of \(10,\)"),
        ({"train_images": np.zeros((20, 28, 28), np.uint8)}, r"instead of \(any, 32, 32, 3\)"),
        ({"train_labels": np.zeros(3, np.uint8)}, "20 train images in uint8 and 3 labels"),
        ({}, "wrong checksum"),
    ],
)
def test_a_wrong_archive_is_named(tmp_path, changes, message):
    np.savez(tmp_path / cifar.SUBSET, **arrays(**changes))
    with pytest.raises(ValueError, match=message):
        cifar.load(tmp_path / cifar.SUBSET)


def test_a_missing_archive_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no CIFAR-10 archive at .*cifar10.npz.*CML_DATA"):
        cifar.load(tmp_path)


def test_the_official_file_gives_the_archive(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow_datasets")
    from tensorflow_datasets.core.download import checksums

    from cmlcore.data import cifar_builder

    official = arrays(50, 10)
    served = tmp_path / "served"
    served.mkdir()
    with tarfile.open(served / "small.tar.gz", "w:gz") as out:
        for split, names in cifar_builder.FILES.items():
            images, labels = official[f"{split}_images"], official[f"{split}_labels"]
            records = np.concatenate([labels[:, None], images.transpose(0, 3, 1, 2).reshape(len(images), -1)], axis=1)
            for name, part in zip(names, np.split(records, len(names))):
                info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
                info.size = part.nbytes
                out.addfile(info, io.BytesIO(part.tobytes()))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=served))
    url = f"http://127.0.0.1:{server.server_address[1]}/small.tar.gz"
    monkeypatch.setattr(cifar_builder, "URL", url)
    monkeypatch.setattr(cifar_builder.Cifar10, "url_infos", {url: checksums.compute_url_info(served / "small.tar.gz")})
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with np.load(cifar_builder.download(tmp_path / "new" / cifar.WHOLE)) as file:
            found = dict(file)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert sorted(found) == sorted(official)
    for name, array in official.items():
        np.testing.assert_array_equal(found[name], array)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass
