"""A full experiment: many seeds of one training, each resumable, then one test and one receipt; of this book.

A unit of work is one seed. It advances in chunks of outer steps; after each chunk its whole state goes to disk under
a new name that replaces the old one at once, so a run that is killed at any moment resumes from the last chunk and
gives bit for bit what an uninterrupted run gives on the same device.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cmlcore.bilevel import Diverged


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
    """One row of a table of the book.

    name:     also the receipt's file name.
    about:    one sentence, for people.
    settings: a NamedTuple of numbers; with `revision` it is what a receipt is valid for.
    build:    `settings -> Training`.
    seeds:    the seeds that make the interval.
    score:    the name in `Training.test` that the table shows, and its unit.
    figure:   the published figure, or None: {"value": ..., "plus_minus": ..., "source": ...}.
    cost:     what to expect, for people ("3 minutes a seed on one CPU core").
    revision: raise it when code changes make old results invalid.
    """

    name: str
    about: str
    settings: Any
    build: Callable[[Any], Training]
    seeds: tuple[int, ...]
    score: tuple[str, str]
    figure: dict | None
    cost: str
    revision: int = 1


def fingerprint(experiment: Experiment) -> str:
    """A hash of the configuration: name, settings, seeds, revision."""
    text = json.dumps(
        [experiment.name, experiment.settings._asdict(), list(experiment.seeds), experiment.revision], sort_keys=True
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file, then move it to `path` at once; a failure leaves nothing behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _is_key(leaf) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _save(path: Path, stamp: str, chunk: int, seconds: float, state, curve: dict[str, list[float]]) -> None:
    leaves = [np.asarray(jax.random.key_data(x) if _is_key(x) else x) for x in jax.tree.leaves(state)]
    arrays = {f"state_{i}": x for i, x in enumerate(leaves)} | {f"curve_{k}": np.array(v) for k, v in curve.items()}

    def write(to: Path):
        with open(to, "wb") as file:
            np.savez(file, stamp=stamp, chunk=chunk, seconds=seconds, **arrays)

    write_atomically(path, write)


def _load(path: Path, stamp: str, template):
    """The checkpoint at `path`, or None if there is none or it belongs to another configuration."""
    if not path.exists():
        return None
    try:
        with np.load(path) as saved:
            arrays = {name: saved[name] for name in saved.files}
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise OSError(f"the checkpoint {path} cannot be read ({error}). Delete it to start this seed again.") from error
    if str(arrays["stamp"]) != stamp:
        return None
    like, shape = jax.tree.flatten(template)
    leaves = [
        jax.random.wrap_key_data(arrays[f"state_{i}"]) if _is_key(x) else jnp.asarray(arrays[f"state_{i}"], x.dtype)
        for i, x in enumerate(like)
    ]
    curve = {name.removeprefix("curve_"): list(map(float, v)) for name, v in arrays.items() if name.startswith("curve_")}
    return int(arrays["chunk"]), float(arrays["seconds"]), jax.tree.unflatten(shape, leaves), curve


class Outcome(NamedTuple):
    """What one finished seed leaves behind."""

    seed: int
    seconds: float
    curve: dict[str, list[float]]
    scores: dict[str, np.ndarray]
    kept: Any


def run_seed(
    experiment: Experiment, seed: int, folder: Path, deadline: float = float("inf"), report: Callable[[str], None] = print
) -> Outcome | None:
    """Run one seed to its end, from its checkpoint if it has one; None if the deadline came first.

    deadline: a `time.monotonic()` moment; the run stops before a chunk that would not end by then.
    """
    training = experiment.build(experiment.settings)
    stamp = fingerprint(experiment)
    path = folder / f"{experiment.name}-{seed}.npz"
    state = training.start(seed)
    chunk, spent, curve = 0, 0.0, {}
    if (found := _load(path, stamp, state)) is not None:
        chunk, spent, state, curve = found
        report(f"{experiment.name} seed {seed}: resumed at chunk {chunk} of {training.chunks}")
    longest = 0.0
    while chunk < training.chunks:
        began = time.monotonic()
        if began + longest > deadline:
            report(f"{experiment.name} seed {seed}: time is up; saved at chunk {chunk} of {training.chunks}")
            return None
        state, info = jax.block_until_ready(training.advance(state))
        if lost := [name for name, value in info.items() if not jnp.isfinite(value)]:
            raise Diverged(
                f"{experiment.name} seed {seed}: {', '.join(lost)} not finite in chunk {chunk + 1}: the outer loop ran away. Lower "
                f"the outer or inner rate in the experiment's settings. The state before this chunk is kept in {path}."
            )
        for name, value in info.items():
            curve.setdefault(name, []).append(float(value))
        chunk += 1
        took = time.monotonic() - began
        longest, spent = max(longest, took), spent + took
        _save(path, stamp, chunk, spent, state, curve)
        numbers = "  ".join(f"{name} {values[-1]:.4g}" for name, values in curve.items())
        left = (training.chunks - chunk) * spent / chunk
        report(f"{experiment.name} seed {seed}: {chunk}/{training.chunks}  {numbers}  about {left:.0f} s left")
    began = time.monotonic()
    scores = {name: np.asarray(v) for name, v in training.test(seed, state).items()}
    return Outcome(seed, spent + time.monotonic() - began, curve, scores, jax.device_get(training.keep(state)))
