"""Omniglot: the archive, the official files through TensorFlow Datasets, splits, episodes, and every error."""

import contextlib
import functools
import http.server
import io
import os
import shutil
import socket
import threading
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cmlcore.data import archive as archives
from cmlcore.data import omniglot
from cmlcore.data.episodes import episode


def archive_path():
    return archives.find(omniglot.ARCHIVE)


needs_archive = pytest.mark.skipif(archive_path() is None, reason="no omniglot.npz here (set CML_DATA)")


@pytest.fixture(scope="module")
def data():
    if archive_path() is None:
        pytest.skip("no omniglot.npz here (set CML_DATA)")
    return omniglot.load()


# The archive


def test_the_whole_set_with_ink_bright(data):
    assert data.images.shape == (1623, 20, 28, 28) and data.images.dtype == np.uint8
    assert [len(a) for a in (data.alphabet, data.character, data.evaluation)] == [1623] * 3
    assert data.images[..., 0, 0].mean() < 5 < 15 < data.images.mean()  # paper is dark, ink is bright and rare
    assert len(set(data.alphabet[data.evaluation])) == 20 and len(set(data.alphabet[~data.evaluation])) == 30


@needs_archive
def test_small_images_are_the_originals_by_pillow_bilinear():
    from cmlcore.data.omniglot_builder import shrink

    with np.load(archive_path()) as file:
        if "ink105" not in file:
            pytest.skip("this archive has no originals")
        ink, small = np.unpackbits(file["ink105"][::7], axis=-1, count=105), file["images28"][::7]
    assert all((shrink(255 * (1 - big)) == want).all() for big, want in zip(ink.reshape(-1, 105, 105), small.reshape(-1, 28, 28)))


@needs_archive
def test_a_path_or_the_environment_names_the_place(monkeypatch, tmp_path):
    shutil.copy(archive_path(), tmp_path / "omniglot.npz")
    monkeypatch.setenv("CML_DATA", str(tmp_path))
    assert archives.places(omniglot.ARCHIVE) == [tmp_path / "omniglot.npz"]
    by_variable, by_folder = omniglot.load(), omniglot.load(tmp_path)
    by_file = omniglot.load(str(tmp_path / "omniglot.npz"))
    assert (by_variable.images == by_folder.images).all() and (by_variable.images == by_file.images).all()


# Splits


def test_background_and_evaluation(data):
    split = omniglot.background_evaluation(data)
    assert [mask.sum() for mask in split] == [792, 172, 659]
    assert (sum(mask.astype(int) for mask in split) == 1).all()
    assert (split.test == data.evaluation).all()
    alphabets = [set(data.alphabet[mask]) for mask in split]
    assert not any(a & b for a, b in zip(alphabets, alphabets[1:] + alphabets[:1]))


def test_vinyals_split_is_the_published_list(data):
    split = omniglot.vinyals(data)
    assert [mask.sum() for mask in split] == [1028, 172, 423]
    with np.load(archive_path()) as file:
        if "vinyals_split" not in file:
            pytest.skip("this archive has no list of the split")
        assert all((file["vinyals_split"] == i).tolist() == mask.tolist() for i, mask in enumerate(split))


def test_rotations_are_new_classes(data):
    some = data.images[:3]
    turned = omniglot.rotated(some)
    assert turned.shape == (12, 20, 28, 28)
    assert (turned[:3] == some).all()
    assert (turned[3:6] == np.rot90(some, 1, axes=(2, 3))).all() and (turned[6:9] == some[:, :, ::-1, ::-1]).all()
    assert len({t.tobytes() for t in turned[:, 0]}) == 12


# Episodes

STACK = jnp.asarray(np.random.default_rng(0).integers(0, 256, (7, 20, 4, 5), np.uint8))


def test_an_episode_holds_what_it_says():
    task = jax.jit(functools.partial(episode, ways=5, shots=2, queries=3))(jax.random.key(0), STACK)
    assert task.support.images.shape == (10, 4, 5) and task.query.images.shape == (15, 4, 5)
    assert task.support.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert task.query.labels.tolist() == np.repeat(range(5), 3).tolist()
    assert (task.query.support == task.support.images).all()
    assert task.query.images.dtype == jnp.float32 and 0 <= task.query.images.min() and task.query.images.max() <= 1
    # Each example is found in the stack: one class per label, all classes and all drawings different.
    drawn = np.concatenate([task.support.images, task.query.images])
    labels = np.concatenate([task.support.labels, task.query.labels])
    where = [np.argwhere((STACK == np.round(255 * image)).all(axis=(2, 3)))[0] for image in drawn]
    assert len({tuple(w) for w in where}) == 25
    assert len({(label, w[0]) for label, w in zip(labels, where)}) == 5 == len({w[0] for w in where})


def test_the_key_decides_inside_jit_and_outside():
    draw = functools.partial(episode, ways=3, shots=1, queries=2)
    same, compiled = draw(jax.random.key(3), STACK), jax.jit(draw)(jax.random.key(3), STACK)
    assert all((a == b).all() for a, b in zip(jax.tree.leaves(same), jax.tree.leaves(compiled)))
    other = draw(jax.random.key(4), STACK)
    assert (other.query.images != same.query.images).any()


def test_every_class_is_drawn_equally_often():
    draw = jax.jit(jax.vmap(functools.partial(episode, images=STACK, ways=2, shots=1, queries=1)))
    support = np.asarray(draw(jax.random.split(jax.random.key(0), 3500)).support.images)
    means = np.asarray(STACK, np.float32).reshape(7, 20, 20) / 255
    which = np.abs(support.reshape(-1, 1, 20) - means.reshape(1, 140, 20)).sum(-1).argmin(-1) // 20
    counts = np.bincount(which, minlength=7)
    assert counts.sum() == 7000 and np.abs(counts - 1000).max() < 4.5 * 1000**0.5


@pytest.mark.parametrize(
    "ways, shots, queries, message",
    [(8, 1, 1, "ways is 8.*at most 7"), (5, 6, 15, "21 drawings.*at most 14 queries"), (0, 1, 1, "at least one"), (2, 1, 0, "at least one")],
)
def test_an_impossible_episode_says_what_would_do(ways, shots, queries, message):
    with pytest.raises(ValueError, match=message):
        episode(jax.random.key(0), STACK, ways, shots, queries)


def test_images_of_another_form_are_refused():
    with pytest.raises(ValueError, match="shape .*uint8"):
        episode(jax.random.key(0), STACK[0], 2, 1, 1)
    with pytest.raises(ValueError, match="float32.*uint8"):
        episode(jax.random.key(0), STACK / 255, 2, 1, 1)


# A missing or damaged archive


def test_a_missing_archive_at_an_explicit_path_is_never_downloaded(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}.*CML_DATA.*downloads"):
        omniglot.load(tmp_path)


@needs_archive
@pytest.mark.parametrize("keep", [0, 100, 5_000_000, -10])
def test_a_truncated_archive(tmp_path, keep):
    broken = tmp_path / "omniglot.npz"
    broken.write_bytes(archive_path().read_bytes()[:keep])
    with pytest.raises(ValueError, match=f"{broken} is damaged.*Copy the archive again"):
        omniglot.load(broken)


@needs_archive
def test_a_flipped_byte(tmp_path):
    content = bytearray(archive_path().read_bytes())
    content[len(content) // 3] ^= 0xFF
    (tmp_path / "omniglot.npz").write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        omniglot.load(tmp_path)


def small_archive(path, **changes):
    arrays = {name: np.zeros(shape, np.uint8) for name, shape in omniglot.SHAPES.items()} | changes
    np.savez_compressed(path, **{name: a for name, a in arrays.items() if a is not None})
    return path


def test_missing_arrays_wrong_shapes_other_images(tmp_path):
    with pytest.raises(ValueError, match="lacks evaluation.*not the Omniglot archive"):
        omniglot.load(small_archive(tmp_path / "a.npz", evaluation=None))
    with pytest.raises(ValueError, match=r"images28 has shape \(3, 20, 28, 28\) instead of \(1623, 20, 28, 28\)"):
        omniglot.load(small_archive(tmp_path / "b.npz", images28=np.zeros((3, 20, 28, 28), np.uint8)))
    with pytest.raises(ValueError, match="wrong checksum"):
        omniglot.load(small_archive(tmp_path / "c.npz"))


# The official files through TensorFlow Datasets, on small zips of the same form

CHOSEN = {"images_background": [708, 709, 295, 0], "images_evaluation": [964, 1010]}


@pytest.fixture(scope="module")
def builder_module():
    pytest.importorskip("tensorflow_datasets")
    from cmlcore.data import omniglot_builder

    return omniglot_builder


@pytest.fixture(scope="module")
def zips(tmp_path_factory):
    """Four zips as the author's repository has them, of six real characters."""
    if archive_path() is None:
        pytest.skip("no omniglot.npz here (set CML_DATA)")
    folder = tmp_path_factory.mktemp("zips")
    with np.load(archive_path()) as file:
        if "ink105" not in file:
            pytest.skip("this archive has no originals")
        ink, alphabet, names, character = (file[n] for n in ("ink105", "alphabet", "alphabet_names", "character"))
    stems = CHOSEN | {"images_background_small1": [0], "images_background_small2": [295]}
    for stem, labels in stems.items():
        with zipfile.ZipFile(folder / f"{stem}.zip", "w") as out:
            for label in labels:
                for drawer in range(20):
                    picture = io.BytesIO()
                    paper = np.unpackbits(ink[label, drawer], axis=-1, count=105) == 0
                    Image.fromarray(paper).save(picture, "png")
                    place = f"{stem}/{names[alphabet[label]]}/character{character[label]:02d}"
                    out.writestr(f"{place}/{label + 1:04d}_{drawer + 1:02d}.png", picture.getvalue())
    return folder


@pytest.fixture
def recorded(monkeypatch, builder_module, zips):
    """Checksums of the small zips in the place of the official ones; returns them by address."""
    from tensorflow_datasets.core.download import checksums

    # At an address of their own: TensorFlow Datasets keeps what it was told about an address for the whole process.
    monkeypatch.setattr(builder_module, "BASE_URL", "http://small.invalid/")
    infos = {}
    for name in builder_module.FILES.values():
        info = checksums.compute_url_info(zips / name)
        infos[builder_module.BASE_URL + name] = checksums.UrlInfo(info.size, info.checksum, name)
    monkeypatch.setattr(builder_module.Omniglot, "url_infos", infos)
    return infos


@contextlib.contextmanager
def serving(folder, monkeypatch, builder_module, recorded, send=None):
    """An HTTP server of `folder` on this machine in the place of the author's repository."""
    handler = functools.partial(QuietHandler, send, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    base = f"http://127.0.0.1:{server.server_address[1]}/"
    here = {base + address.rsplit("/", 1)[1]: info for address, info in recorded.items()}
    monkeypatch.setattr(builder_module, "BASE_URL", base)
    monkeypatch.setattr(builder_module.Omniglot, "url_infos", here)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, send, *args, **kwargs):
        self.send = send
        super().__init__(*args, **kwargs)

    def copyfile(self, source, outputfile):
        outputfile.write(self.send(source.read()) if self.send else source.read())

    def log_message(self, *args):
        pass


def same_as_archive(arrays, data):
    labels = sorted(sum(CHOSEN.values(), []))
    assert (255 - arrays["images28"] == data.images[labels]).all()
    assert (arrays["alphabet_names"][arrays["alphabet"]] == data.alphabet_names[data.alphabet[labels]]).all()
    assert (arrays["character"] == data.character[labels]).all()
    assert (arrays["evaluation"] == data.evaluation[labels]).all()
    for name in ("images28", "alphabet", "character", "evaluation"):
        assert arrays[name].dtype == (np.uint8 if name == "images28" else getattr(data, name).dtype)


def test_official_files_give_the_archive_s_arrays(builder_module, recorded, zips, data, tmp_path):
    builder = builder_module.prepared(builder_module.Omniglot, tmp_path, zips)
    same_as_archive(builder_module.from_builder(builder), data)
    counts = {name: split.num_examples for name, split in builder.info.splits.items()}
    assert counts == {"train": 80, "test": 40, "small1": 20, "small2": 20}


def test_a_download_writes_one_whole_archive(monkeypatch, builder_module, recorded, zips, data, tmp_path):
    with serving(zips, monkeypatch, builder_module, recorded):
        written = builder_module.download(tmp_path / "new" / "omniglot.npz")
    with np.load(written) as arrays:
        same_as_archive(dict(arrays), data)
    assert os.listdir(tmp_path / "new") == ["omniglot.npz"]


def test_load_downloads_where_nothing_is_local(monkeypatch, builder_module, data, tmp_path):
    """With the download replaced by a copy: the file lands where CML_DATA says, and is read from there next time."""
    source, calls = archive_path(), []

    def fake(archive):
        calls.append(archive)
        return shutil.copy(source, archive)

    monkeypatch.setattr(builder_module, "download", fake)
    monkeypatch.setenv("CML_DATA", str(tmp_path))
    first, second = omniglot.load(), omniglot.load()
    assert calls == [tmp_path / "omniglot.npz"]
    assert all((a == b).all() and a.dtype == b.dtype for a, b in zip(first, data)) and (second.images == first.images).all()


@pytest.fixture
def scratch(monkeypatch, tmp_path):
    """A folder of its own for temporary files, to see what stays behind."""
    import tempfile

    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def nothing_stays(target, scratch):
    """No archive, no part of one, no data; only an empty folder of TensorFlow Datasets' own, which it never removes."""
    assert os.listdir(target) == ["temporary"]
    assert [p for p in scratch.iterdir() if not p.name.endswith("tfds") or os.listdir(p)] == []


OFFICIAL = ("ad41ab679c8b5d90", "1f61a8f3366785b0", "f38eb80f801274ac", "3ccaa407515a8778")


def test_official_checksums_are_those_of_tensorflow_datasets(builder_module, zips, scratch, tmp_path):
    """The small zips are not the official ones, and without `recorded` that is found out."""
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    with pytest.raises(NonMatchingChecksumError, match=f"Expected.*({'|'.join(OFFICIAL)})"):
        builder_module.download(tmp_path / "omniglot.npz", zips)
    nothing_stays(tmp_path, scratch)


def test_a_download_with_a_wrong_checksum_leaves_nothing(monkeypatch, builder_module, recorded, zips, scratch, tmp_path):
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    spoil = lambda content: content[:100] + bytes([content[100] ^ 1]) + content[101:]
    with serving(zips, monkeypatch, builder_module, recorded, spoil), pytest.raises(NonMatchingChecksumError):
        builder_module.download(tmp_path / "omniglot.npz")
    nothing_stays(tmp_path, scratch)


def test_a_broken_connection_leaves_nothing(monkeypatch, builder_module, recorded, zips, scratch, tmp_path):
    half = lambda content: content[: len(content) // 2]
    with serving(zips, monkeypatch, builder_module, recorded, half), pytest.raises(Exception, match="(?i)checksum|incomplete|broken"):
        builder_module.download(tmp_path / "omniglot.npz")
    nothing_stays(tmp_path, scratch)


@pytest.mark.parametrize("stage", ["prepared", "from_builder"])
def test_an_interrupt_leaves_nothing(monkeypatch, builder_module, recorded, zips, scratch, tmp_path, stage):
    def stopped(*args):
        if stage == "from_builder":
            assert os.listdir(scratch) != []
        raise KeyboardInterrupt

    monkeypatch.setattr(builder_module, stage, stopped)
    with pytest.raises(KeyboardInterrupt):
        builder_module.download(tmp_path / "omniglot.npz", zips)
    nothing_stays(tmp_path, scratch)


def test_a_full_disk_keeps_the_old_archive(monkeypatch, tmp_path):
    old = tmp_path / "omniglot.npz"
    old.write_bytes(b"old")

    def full(file, **arrays):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="no space"):
        archives.write(old, {})
    assert old.read_bytes() == b"old" and os.listdir(tmp_path) == ["omniglot.npz"]


def test_no_network_fails_at_once_and_says_what_to_do(monkeypatch, builder_module, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setattr(builder_module, "BASE_URL", f"http://127.0.0.1:{port}/")
    monkeypatch.setenv("CML_DATA", str(tmp_path / "empty"))
    with pytest.raises(ConnectionError, match="no Omniglot archive at .*CML_DATA.*cannot be reached"):
        omniglot.load()
    assert not (tmp_path / "empty").exists()


def test_without_tensorflow_datasets_it_says_what_to_install(monkeypatch, tmp_path):
    import sys

    for name in ("cmlcore.data.omniglot_builder", "cmlcore.data.builder"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    monkeypatch.setenv("CML_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"To download it: .*pip install .cmlcore\[data\]"):
        omniglot.load()


def test_reading_the_archive_imports_no_tensorflow_datasets():
    import subprocess
    import sys

    code = "import sys; from cmlcore.data import omniglot, episodes; sys.exit('tensorflow_datasets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
