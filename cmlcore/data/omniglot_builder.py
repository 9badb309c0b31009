"""The official Omniglot files through TensorFlow Datasets, without TensorFlow (Lake et al. 2015).

Sizes and checksums of the four files are those that TensorFlow Datasets records for its own Omniglot builder, which
needs TensorFlow.
"""

import io
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np

from cmlcore.data import archive as archives
from cmlcore.data.builder import prepared
from cmlcore.extras import need

tfds, Image = need("tensorflow_datasets", "data"), need("PIL.Image", "data")

BASE_URL = "https://github.com/brendenlake/omniglot/raw/master/python/"
FILES = {
    "train": "images_background.zip",
    "test": "images_evaluation.zip",
    "small1": "images_background_small1.zip",
    "small2": "images_background_small2.zip",
}
ORIGINAL = 105
DRAWERS, SIZE = 20, 28  # of the archive; whoever reads it checks its shapes


class Omniglot(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """The 105x105 originals, with the splits, labels and names of the stock builder `omniglot` 3.0.0."""

    VERSION = tfds.core.Version("3.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"The four zip files {', '.join(FILES.values())} of {BASE_URL}."

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description="1623 handwritten characters of 50 alphabets, 20 drawings of each.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(ORIGINAL, ORIGINAL, 1), encoding_format="png"),
                    "alphabet": tfds.features.Text(),
                    "alphabet_char_id": np.int64,
                    "drawer": np.int64,
                    "label": np.int64,
                }
            ),
            disable_shuffling=True,
            homepage="https://github.com/brendenlake/omniglot/",
        )

    def _split_generators(self, dl_manager):
        archives = dl_manager.download({split: BASE_URL + name for split, name in FILES.items()})
        return {split: self._generate_examples(archive) for split, archive in archives.items()}

    def _generate_examples(self, archive):
        """Examples of one zip, whose drawings are named `images_background/Greek/character01/0394_01.png`."""
        with zipfile.ZipFile(archive) as file:
            for name in sorted(n for n in file.namelist() if n.endswith(".png") and "__MACOSX" not in n):
                *_, alphabet, character, drawing = PurePosixPath(name).parts
                label, drawer = drawing.removesuffix(".png").split("_")
                yield (
                    int(label) * 100 + int(drawer),
                    {
                        "image": io.BytesIO(file.read(name)),
                        "alphabet": alphabet,
                        "alphabet_char_id": int(character.removeprefix("character")) - 1,
                        "drawer": int(drawer) - 1,
                        "label": int(label) - 1,
                    },
                )


def download(archive: Path, zips: Path | None = None) -> Path:
    """Fetch the official files, check them, write them to `archive` as one `.npz`; takes about a minute.

    zips: a folder that holds the four official files already; then nothing is fetched.

    Everything happens in a temporary folder, and `archive` appears in one step at the end or not at all. Raises
    ConnectionError at once where there is no network, and TensorFlow Datasets' NonMatchingChecksumError for a file
    that is not the official one.
    """
    if zips is None:
        archives.require_network(BASE_URL + FILES["train"])
    with tempfile.TemporaryDirectory(prefix="cmlcore-omniglot-") as folder:
        return archives.write(archive, from_builder(prepared(Omniglot, Path(folder), zips)))


def from_builder(builder: Omniglot) -> dict[str, np.ndarray]:
    """The arrays of the `.npz` archive from a prepared builder: characters by label, drawings by drawer."""
    examples = [e | {"evaluation": split == "test"} for split in ("train", "test") for e in builder.as_data_source(split)]
    examples.sort(key=lambda e: (e["label"], e["drawer"]))
    # The files are 1-bit: some decoders give 1 for paper, some 255.
    images = np.stack([shrink(np.where(e["image"][..., 0], np.uint8(255), np.uint8(0))) for e in examples])
    first = examples[::DRAWERS]
    names, alphabet = np.unique([e["alphabet"].decode() for e in first], return_inverse=True)
    return {
        "images28": images.reshape(-1, DRAWERS, SIZE, SIZE),
        "alphabet": alphabet.astype(np.uint8),
        "alphabet_names": names,
        "character": np.array([e["alphabet_char_id"] + 1 for e in first], np.uint8),
        "evaluation": np.array([e["evaluation"] for e in first]),
    }


def shrink(original: np.ndarray) -> np.ndarray:
    """A 105x105 drawing (uint8, paper 255) at 28x28, by Pillow's bilinear filter as the published benchmarks do."""
    return np.asarray(Image.fromarray(original).resize((SIZE, SIZE), Image.Resampling.BILINEAR))
