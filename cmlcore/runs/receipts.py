"""Receipts: what a full run was, on what it ran, and what came out. Of this book; its tables are read from them."""

import json
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cmlcore.data import archive
from cmlcore.runs import parameters
from cmlcore.runs.experiment import Experiment, Outcome, fingerprint
from cmlcore.runs.parameters import FOLDER, again

# Two-sided 95 % points of Student's t for 1, 2, ... degrees of freedom.
STUDENT = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


class StaleReceipt(RuntimeError):
    """A receipt that is not of the experiment as it stands now."""


class WaitingReceipt(FileNotFoundError):
    """An experiment that has not been run in full yet."""


def half_width(values) -> float | None:
    """Half the width of the 95 % interval of the mean of `values`, (n,), by Student's t; None for fewer than two."""
    n = len(values)
    if n < 2:
        return None
    t = STUDENT[n - 2] if n - 2 < len(STUDENT) else 1.96 + 2.4 / (n - 1)
    return float(t * np.std(values, ddof=1) / np.sqrt(n))


def _digits(value: Any) -> Any:
    """`value` with numbers at 6 significant digits, lists and dicts through."""
    if isinstance(value, dict):
        return {k: _digits(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_digits(v) for v in value]
    return float(f"{value:.6g}") if isinstance(value, (float, np.floating)) else value


def compose(experiment: Experiment, outcomes: list[Outcome]) -> dict:
    """The receipt of a finished experiment.

    `mean` is over seeds of the mean over test tasks; `over_seeds` is the 95 % interval of that mean over seeds,
    `over_tasks` the mean over seeds of each seed's 95 % interval over test tasks; `median` is over tasks. `scores`
    has the first two for every score of the test; `device` names them all where there were several; `date` is the day on which it was composed.
    """
    name, unit = experiment.score
    scores = [outcome.scores[name] for outcome in outcomes]
    devices = dict.fromkeys(device for outcome in outcomes for device in outcome.devices)
    return _digits(
        {
            "name": experiment.name,
            "about": experiment.about,
            "settings": experiment.settings._asdict(),
            "revision": experiment.revision,
            "fingerprint": fingerprint(experiment),
            "seeds": [outcome.seed for outcome in outcomes],
            "date": datetime.now(UTC).date().isoformat(),
            "device": "; ".join(devices),
            "versions": {p: metadata.version(p) for p in ("jax", "jaxlib", "optax", "numpy")} | {"python": platform.python_version()},
            "seconds": [outcome.seconds for outcome in outcomes],
            "result": {
                "score": name,
                "unit": unit,
            }
            | _over_seeds(scores)
            | {
                "over_tasks": float(np.mean([half_width(s) for s in scores])),
                "spread_over_tasks": float(np.mean([np.std(s) for s in scores])),
                "median": float(np.mean([np.median(s) for s in scores])),
                "tasks": len(scores[0]),
            },
            "scores": {key: _over_seeds([o.scores[key] for o in outcomes]) for key in outcomes[0].scores},
            "curve": {key: [outcome.curve[key] for outcome in outcomes] for key in outcomes[0].curve},
            "figure": experiment.figure,
        }
    )


def _over_seeds(scores: list[np.ndarray]) -> dict:
    means = [float(np.mean(s)) for s in scores]
    return {"mean": float(np.mean(means)), "over_seeds": half_width(means), "each_seed": means}


def write(receipt: dict, kept, folder: Path = FOLDER) -> Path:
    """Write a receipt and, beside it, the first seed's trained meta-parameters (float16 leaves, in tree order) if there are any.

    The receipt holds the SHA-256 of that file as `parameters`, so that the two cannot be of different runs unnoticed.
    """
    arrays = {f"leaf_{i}": np.asarray(x, np.float16) for i, x in enumerate(jax.tree.leaves(kept))}
    path, beside = folder / f"{receipt['name']}.json", folder / f"{receipt['name']}.npz"
    if arrays:
        archive.write(beside, arrays)
    else:
        beside.unlink(missing_ok=True)
    kept_as = parameters.sha256(beside.read_bytes()) if arrays else None
    with archive.replacing(path) as file:
        file.write((json.dumps(receipt | {"parameters": kept_as}, indent=1) + "\n").encode())
    return path


def read(name: str, folder: Path = FOLDER) -> dict:
    """The receipt of experiment `name`.

    Raises KeyError for an experiment that does not exist, WaitingReceipt if it has not been run, StaleReceipt if its
    configuration has changed since (see `fingerprint`), ValueError if the file is damaged.
    """
    from cmlcore.runs.catalog import find

    experiment = find(name)
    path = folder / f"{name}.json"
    if not path.exists():
        apart = "" if folder.is_dir() else "The package is installed without its receipts; the first cell of every notebook has the command that adds them. "
        raise WaitingReceipt(f"the experiment {name} waits for its full run ({experiment.cost}). {apart}{again(name)}")
    try:
        receipt = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"the receipt {path.name} is damaged ({error}). {again(name)}") from error
    if receipt.get("fingerprint") != fingerprint(experiment):
        raise StaleReceipt(f"the receipt {path.name} is of another configuration than the experiment has now. {again(name)}")
    return receipt


def read_parameters(name: str, like, folder: Path = FOLDER):
    """The trained meta-parameters kept with a receipt, in the tree structure and dtypes of `like`.

    Raises what `read` raises, and ValueError where none are kept, the file is not the receipt's, or `like` does not fit.
    """
    if read(name, folder).get("parameters") is None:
        raise ValueError(f"no parameters are kept with the receipt of {name}. {again(name)}")
    return parameters.read(name, like, folder)
