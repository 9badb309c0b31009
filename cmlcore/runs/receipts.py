"""Receipts: what a full run was, on what it ran, and what came out. Of this book; its tables are read from them."""

import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cmlcore.runs.experiment import Experiment, Outcome, fingerprint, write_atomically

FOLDER = Path(__file__).parent / "receipts"
# Two-sided 95 % points of Student's t for 1, 2, ... degrees of freedom.
STUDENT = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


class StaleReceipt(RuntimeError):
    """A receipt that is not of the experiment as it stands now."""


class WaitingReceipt(FileNotFoundError):
    """An experiment that has not been run in full yet."""


def device_in_words() -> str:
    """The machine that JAX computes on, in words: the accelerator's name, or the processor's and its cores."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return f"{device.device_kind} ({device.platform})"
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name} (cpu, {os.cpu_count()} cores)"


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
    has the first two for every score of the test.
    """
    name, unit = experiment.score
    scores = [outcome.scores[name] for outcome in outcomes]
    means = [float(np.mean(s)) for s in scores]
    return _digits(
        {
            "name": experiment.name,
            "about": experiment.about,
            "settings": experiment.settings._asdict(),
            "revision": experiment.revision,
            "fingerprint": fingerprint(experiment),
            "seeds": [outcome.seed for outcome in outcomes],
            "device": device_in_words(),
            "versions": {p: metadata.version(p) for p in ("jax", "jaxlib", "optax", "numpy")}
            | {"python": platform.python_version()},
            "seconds": [outcome.seconds for outcome in outcomes],
            "result": {
                "score": name,
                "unit": unit,
                "mean": float(np.mean(means)),
                "over_seeds": half_width(means),
                "over_tasks": float(np.mean([half_width(s) for s in scores])),
                "spread_over_tasks": float(np.mean([np.std(s) for s in scores])),
                "median": float(np.mean([np.median(s) for s in scores])),
                "tasks": len(scores[0]),
                "each_seed": means,
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
    """Write a receipt and, beside it, the first seed's trained meta-parameters (float16 leaves, in tree order)."""
    arrays = {f"leaf_{i}": np.asarray(x, np.float16) for i, x in enumerate(jax.tree.leaves(kept))}

    def parameters(to: Path):
        with open(to, "wb") as file:
            np.savez_compressed(file, **arrays)

    write_atomically(folder / f"{receipt['name']}.npz", parameters)
    path = folder / f"{receipt['name']}.json"
    write_atomically(path, lambda to: to.write_text(json.dumps(receipt, indent=1) + "\n"))
    return path


def read(name: str, folder: Path = FOLDER) -> dict:
    """The receipt of experiment `name`.

    Raises KeyError for an experiment that does not exist, WaitingReceipt if it has not been run, StaleReceipt if the
    experiment has changed since, ValueError if the file is damaged.
    """
    from cmlcore.runs.catalog import find

    experiment = find(name)
    path = folder / f"{name}.json"
    again = f"Run it with: python -m cmlcore.runs {name}"
    if not path.exists():
        raise WaitingReceipt(f"the experiment {name} waits for its full run ({experiment.cost}). {again}")
    try:
        receipt = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"the receipt {path.name} is damaged ({error}). {again}") from error
    if receipt.get("fingerprint") != fingerprint(experiment):
        raise StaleReceipt(f"the receipt {path.name} is of another configuration than the experiment has now. {again}")
    return receipt


def read_parameters(name: str, like, folder: Path = FOLDER):
    """The trained meta-parameters kept with a receipt, in the tree structure and dtypes of `like`."""
    read(name, folder)
    leaves, shape = jax.tree.flatten(like)
    with np.load(folder / f"{name}.npz") as saved:
        arrays = [saved[f"leaf_{i}"] for i in range(len(saved.files))]
    shapes = [(a.shape, jax.numpy.shape(x)) for a, x in zip(arrays, leaves)]
    if len(arrays) != len(leaves) or any(found != wanted for found, wanted in shapes):
        raise ValueError(f"the parameters of {name} do not fit: (found, wanted) shapes of the leaves are {shapes}.")
    return jax.tree.unflatten(shape, [jax.numpy.asarray(a, x.dtype) for a, x in zip(arrays, leaves)])
