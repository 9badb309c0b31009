"""Finished seeds of a run whose other seeds are still to come: beside the receipts, so that a run may be done over several days and machines. Of this book."""

from pathlib import Path

import jax
import numpy as np

from cmlcore.data import archive
from cmlcore.runs.experiment import Experiment, Outcome, fingerprint
from cmlcore.runs.parameters import FOLDER

UNFINISHED = FOLDER / "unfinished"


def place(folder: Path, name: str, seed: int) -> Path:
    """Where the outcome of an experiment's seed is, or of all seeds, under the first, where they run together."""
    return folder / f"{name}-{seed}.npz"


def save(experiment: Experiment, outcome: Outcome, folder: Path = UNFINISHED) -> Path:
    """Write what a finished seed leaves behind; trained parameters as float16 leaves in tree order, as beside a receipt."""
    leaves = {f"leaf_{i}": np.asarray(x, np.float16) for i, x in enumerate(jax.tree.leaves(outcome.kept))}
    curve = {f"curve_{name}": np.array(values) for name, values in outcome.curve.items()}
    scores = {f"score_{name}": np.asarray(values) for name, values in outcome.scores.items()}
    told = {"fingerprint": fingerprint(experiment), "seed": outcome.seed, "seconds": outcome.seconds, "devices": np.array(outcome.devices, str)}
    return archive.write(place(folder, experiment.name, outcome.seed), leaves | curve | scores | told)


def load(experiment: Experiment, seed: int, folder: Path = UNFINISHED) -> Outcome | None:
    """What `save` wrote, `kept` as a list of leaves; None where there is none, or of another configuration.

    Raises OSError for a file that cannot be read.
    """
    path = place(folder, experiment.name, seed)
    if not path.exists():
        return None
    try:
        with np.load(path) as saved:
            arrays = {name: saved[name] for name in saved.files}
        if str(arrays["fingerprint"]) != fingerprint(experiment):
            return None
        part = lambda kind: {name.removeprefix(kind): value for name, value in arrays.items() if name.startswith(kind)}
        leaves = part("leaf_")
        kept = [leaves[str(i)] for i in range(len(leaves))]
        curve = {name: values.tolist() for name, values in part("curve_").items()}
        return Outcome(int(arrays["seed"]), float(arrays["seconds"]), curve, part("score_"), kept, tuple(map(str, arrays["devices"])))
    except archive.UNREADABLE as error:
        raise OSError(f"the finished seed in {path} cannot be read ({error}). Delete it to run this seed again.") from error


def remove(experiment: Experiment, folder: Path = UNFINISHED) -> None:
    """Remove the finished seeds of an experiment, once its receipt holds them all."""
    for seed in experiment.seeds:
        place(folder, experiment.name, seed).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
