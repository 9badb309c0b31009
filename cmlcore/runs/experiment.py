"""A full experiment: many seeds of one training, each resumable, then one test and one receipt; of this book.

A unit of work is one seed. It advances in chunks of outer steps; after each chunk its whole state goes to disk under
a new name that replaces the old one at once, so a run that is killed at any moment resumes from the last chunk and
gives bit for bit what an uninterrupted run gives on the same device.
"""

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cmlcore.bilevel import Diverged
from cmlcore.data.archive import remove_leftovers
from cmlcore.runs import checkpoint
from cmlcore.runs.checkpoint import Progress
from cmlcore.runs.cost import Cost


class Training(NamedTuple):
    """What one seed does, built from an experiment's settings.

    start:   `seed -> state`, a pytree that holds everything the training carries.
    advance: `state -> (state, {name: scalar})`, one chunk, compiled; the scalars become the learning curve.
    chunks:  how many chunks a full run takes (0: nothing is meta-learned).
    test:    `seed, state -> {name: (tasks,) array}`, scores on test tasks; called once, at the end.
    keep:    `state -> pytree`, the trained meta-parameters worth keeping.
    """

    start: Callable[[int], Any]
    advance: Callable[[Any], tuple[Any, dict[str, jax.Array]]]
    chunks: int
    test: Callable[[int, Any], dict[str, jax.Array]]
    keep: Callable[[Any], Any]


class Experiment(NamedTuple):
    """One row of a table of the book, or a published run that waits for who has a GPU.

    name:     also the receipt's file name.
    about:    one sentence, for people.
    settings: a NamedTuple of numbers; with `revision` it is what a receipt is valid for.
    build:    `settings -> Training`.
    seeds:    the seeds that make the interval.
    score:    the name in `Training.test` that the table shows, and its unit.
    figure:   the published figure, or None: {"value": ..., "plus_minus": ..., "source": ...}.
    cost:     what a seed is expected to cost, or all seeds where they run together.
    revision: raise it when code changes make old results invalid.
    together: all seeds are one unit of work, in one compiled program. `Training.start` and `test` then get the array of all seeds, and the
              state, the curve's numbers, the scores and what is kept have one leading axis, of the seeds.
    published: published settings, for who has a GPU: no table of the book waits for this.
    """

    name: str
    about: str
    settings: Any
    build: Callable[[Any], Training]
    seeds: tuple[int, ...]
    score: tuple[str, str]
    figure: dict | None
    cost: Cost
    revision: int = 1
    together: bool = False
    published: bool = False


def fingerprint(experiment: Experiment) -> str:
    """A hash of the configuration: name, settings, seeds, revision."""
    text = json.dumps([experiment.name, experiment.settings._asdict(), list(experiment.seeds), experiment.revision], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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


class Outcome(NamedTuple):
    """What one finished seed leaves behind; devices: what computed it, in words."""

    seed: int
    seconds: float
    curve: dict[str, list[float]]
    scores: dict[str, np.ndarray]
    kept: Any
    devices: tuple[str, ...]


def _require_finite(values: dict, where: str, path: Path) -> None:
    if lost := [name for name, value in values.items() if not np.all(np.isfinite(value))]:
        raise Diverged(
            f"{where}: {', '.join(lost)} not finite: learning ran away. Lower the outer or inner rate in the experiment's settings. "
            f"The last good state, if there was one, is kept in {path}."
        )


def _begin(path: Path, stamp: str, state, who: str, of: str, report: Callable[[str], None]) -> Progress:
    """Where a seed starts: at its checkpoint if it has one, on this device."""
    remove_leftovers(path)
    here = device_in_words()
    found = checkpoint.load(path, stamp, state)
    if found is None:
        return Progress(state, {}, devices=(here,))
    report(f"{who}: resumed at chunk {found.chunk} {of}")
    if here in found.devices:
        return found
    if found.devices:
        report(f"{who}: until here on {', '.join(found.devices)}; from here on {here}, whose last digits may differ")
    return found._replace(devices=(*found.devices, here))


def run_seed(experiment: Experiment, seed: int, folder: Path, deadline: float = float("inf"), report: Callable[[str], None] = print) -> Outcome | None:
    """Run one seed to its end, from its checkpoint if it has one; None if the deadline came first.

    deadline: a `time.monotonic()` moment; the run stops before a chunk that would not end by then, and before a test after it.
    Raises Diverged where the learning curve or a score of the test is not finite.
    """
    training = experiment.build(experiment.settings)
    stamp, path = fingerprint(experiment), checkpoint.place(folder, experiment.name, seed)
    who, of = f"{experiment.name} seed {seed}", f"of {training.chunks}"
    unit = jnp.asarray(experiment.seeds) if experiment.together else seed
    at = _begin(path, stamp, training.start(unit), who, of, report)._replace(chunks=training.chunks)

    def too_late(needed: float) -> bool:
        if time.monotonic() + needed <= deadline:
            return False
        report(f"{who}: time is up; saved at chunk {at.chunk} {of}")
        return True

    report(f"{who}: compiling, then " + (f"chunk {at.chunk + 1} {of}" if at.chunk < training.chunks else "the test"))
    while at.chunk < training.chunks:
        if too_late(at.longest):
            return None
        at = _advance(training, at, f"{who}, chunk {at.chunk + 1}", path)
        checkpoint.save(path, stamp, at)
        numbers = "  ".join(f"{name} {np.mean(values[-1]):.4g}" for name, values in at.curve.items())
        left = (training.chunks - at.chunk) * at.seconds / at.chunk
        report(f"{who}: {at.chunk}/{training.chunks}  {numbers}  about {left:.0f} s left")
    if too_late(0):
        return None
    began = time.monotonic()
    scores = {name: np.asarray(v) for name, v in training.test(unit, at.state).items()}
    _require_finite(scores, f"{who}, test", path)
    seconds = at.seconds + time.monotonic() - began
    return Outcome(seed, seconds, at.curve, scores, jax.device_get(training.keep(at.state)), at.devices)


def _advance(training: Training, at: Progress, where: str, path: Path) -> Progress:
    began = time.monotonic()
    state, info = jax.block_until_ready(training.advance(at.state))
    _require_finite(info, where, path)
    curve = at.curve | {name: [*at.curve.get(name, ()), np.asarray(value, float).tolist()] for name, value in info.items()}
    took = time.monotonic() - began
    return Progress(state, curve, at.chunk + 1, at.seconds + took, max(at.longest, took), at.devices, at.chunks)


def apart(outcome: Outcome, seeds: tuple[int, ...]) -> list[Outcome]:
    """What seeds that ran together leave behind, one `Outcome` a seed; each counts its share of the seconds."""

    def one(i: int, seed: int) -> Outcome:
        curve = {name: [values[i] for values in chunks] for name, chunks in outcome.curve.items()}
        kept = jax.tree.map(lambda leaf: leaf[i], outcome.kept)
        return Outcome(seed, outcome.seconds / len(seeds), curve, {k: v[i] for k, v in outcome.scores.items()}, kept, outcome.devices)

    return [one(i, seed) for i, seed in enumerate(seeds)]
