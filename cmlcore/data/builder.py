"""Official files through TensorFlow Datasets, without TensorFlow; of this book.

Imported only where there is something to download: importing `tensorflow_datasets` takes seconds.
"""

from pathlib import Path
from typing import Any

from cmlcore.extras import need

tfds = need("tensorflow_datasets", "data")


def prepared(kind: type, folder: Path, zips: Path | None = None) -> Any:
    """A `tfds.core.GeneratorBasedBuilder` of that `kind`, its data under `folder`, a path, as array_record, the format that is read without TensorFlow.

    zips: a folder that holds the official files already; then nothing is fetched. Raises TensorFlow Datasets'
    NonMatchingChecksumError for a file that is not the official one.
    """
    builder = kind(data_dir=folder, file_format="array_record")
    config = tfds.download.DownloadConfig(manual_dir=zips, force_checksums_validation=True, compute_stats=tfds.download.ComputeStatsMode.SKIP)
    builder.download_and_prepare(download_dir=folder / "downloads", download_config=config)
    return builder
