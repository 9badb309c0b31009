"""The official CIFAR-10 files through TensorFlow Datasets, without TensorFlow (Krizhevsky 2009).

Size and checksum of the file are those that TensorFlow Datasets records for its own builder `cifar10` 3.0.2, which
needs TensorFlow.
"""

import tarfile
import tempfile
from pathlib import Path

import numpy as np

from cmlcore.data import archive as archives
from cmlcore.data.builder import prepared
from cmlcore.extras import need

tfds = need("tensorflow_datasets", "data")

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
FILES = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
SIZE, CHANNELS = 32, 3


class Cifar10(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """The images (32, 32, 3), labels, splits and order of the stock builder."""

    VERSION = tfds.core.Version("3.0.2")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description="60,000 color photographs of 32x32 pixels, of ten kinds of things.",
            features=tfds.features.FeaturesDict(
                {"image": tfds.features.Tensor(shape=(SIZE, SIZE, CHANNELS), dtype=np.uint8), "label": np.int64, "number": np.int64}
            ),
            disable_shuffling=True,
            homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
        )

    def _split_generators(self, dl_manager):
        archive = dl_manager.download(URL)
        return {split: self._generate_examples(archive, names) for split, names in FILES.items()}

    def _generate_examples(self, archive, names):
        """A record is one byte for the label, then 1,024 each of red, green and blue, row by row."""
        with tarfile.open(archive) as file:
            records = [np.frombuffer(file.extractfile(f"cifar-10-batches-bin/{name}").read(), np.uint8) for name in names]
        for number, record in enumerate(np.concatenate(records).reshape(-1, 1 + CHANNELS * SIZE**2)):
            image = record[1:].reshape(CHANNELS, SIZE, SIZE).transpose(1, 2, 0)
            yield number, {"image": image, "label": int(record[0]), "number": number}


def download(archive: Path) -> Path:
    """Fetch the official file (170 MB), check it, write it to `archive`, a path, as one `.npz`; takes a few minutes.

    Everything happens in a temporary folder, and `archive` appears in one step at the end or not at all. Raises
    ConnectionError at once where there is no network, and TensorFlow Datasets' NonMatchingChecksumError for a file
    that is not the official one.
    """
    archives.require_network(URL)
    with tempfile.TemporaryDirectory(prefix="cmlcore-cifar-") as folder:
        return archives.write(archive, from_builder(prepared(Cifar10, Path(folder))))


def from_builder(builder: Cifar10) -> dict[str, np.ndarray]:
    """The arrays of the archive `cifar10.npz`, of the shapes in `cmlcore.data.cifar.SHAPES`, from a prepared builder, in the official order."""
    arrays = {}
    for split in ("train", "test"):
        examples = sorted(builder.as_data_source(split), key=lambda example: example["number"])
        arrays[f"{split}_images"] = np.stack([example["image"] for example in examples])
        arrays[f"{split}_labels"] = np.array([example["label"] for example in examples], np.uint8)
    names = "airplane automobile bird cat deer dog frog horse ship truck"
    return arrays | {"class_names": np.array(names.split())}
