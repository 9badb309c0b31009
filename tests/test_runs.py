"""Full runs: resumable to the same bits, receipts that are refused when stale, nothing half-written."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmlcore.bilevel import Diverged
from cmlcore.runs import receipts
from cmlcore.runs.catalog import CATALOG, find
from cmlcore.runs.experiment import Experiment, Training, fingerprint, run_seed, write_atomically


class Walk(NamedTuple):
    chunks: int
    scale: float


def random_walk(settings: Walk) -> Training:
    """A stand-in for a training: a noisy contraction whose every bit depends on the whole past."""

    @jax.jit
    def advance(state):
        x, key = state
        key, now = jax.random.split(key)
        x = jnp.sin(3 * x) + settings.scale * jax.random.normal(now, x.shape)
        return (x, key), {"size": jnp.linalg.norm(x)}

    return Training(
        start=lambda seed: (jnp.ones(5), jax.random.key(seed)),
        advance=advance,
        chunks=settings.chunks,
        test=lambda seed, state: {"error": jnp.abs(state[0])},
        keep=lambda state: state[0],
    )


def walk(chunks=6, scale=0.1, seeds=(0, 1, 2)):
    return Experiment("walk", "A walk.", Walk(chunks, scale), random_walk, seeds, ("error", "one"), None, "no time")


def quiet(line):
    pass


def test_a_stopped_run_resumes_to_the_same_bits(tmp_path):
    whole = run_seed(walk(), 1, tmp_path / "whole", report=quiet)
    stops = iter([3])

    def stop_after_three(line):
        if "/6" in line and line.split(": ")[1].startswith("3/"):
            next(stops)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_seed(walk(), 1, tmp_path / "parts", report=stop_after_three)
    lines = []
    parts = run_seed(walk(), 1, tmp_path / "parts", report=lines.append)
    assert "resumed at chunk 3 of 6" in lines[0]
    np.testing.assert_array_equal(whole.kept, parts.kept)
    assert whole.curve == parts.curve


def test_a_run_stops_itself_at_its_deadline_and_keeps_what_it_has(tmp_path):
    assert run_seed(walk(), 0, tmp_path, deadline=time.monotonic() - 1, report=quiet) is None
    assert run_seed(walk(), 0, tmp_path, report=quiet) is not None


def test_a_killed_process_leaves_a_checkpoint_that_resumes(tmp_path):
    script = textwrap.dedent(
        f"""
        import sys, time
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from test_runs import walk, run_seed
        from pathlib import Path
        run_seed(walk(chunks=100000), 0, Path({str(tmp_path)!r}), report=lambda line: print(line, flush=True))
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if ": 5/" in line:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(tmp_path.glob("*.json"))
    lines = []
    run_seed(walk(chunks=100000), 0, tmp_path, deadline=time.monotonic() + 0.5, report=lines.append)
    assert "resumed at chunk" in lines[0] and int(lines[0].split("chunk ")[1].split()[0]) >= 5


def test_a_checkpoint_of_other_settings_is_not_used(tmp_path):
    run_seed(walk(scale=0.1), 0, tmp_path, report=quiet)
    lines = []
    run_seed(walk(scale=0.2), 0, tmp_path, report=lines.append)
    assert not any("resumed" in line for line in lines)


def test_a_damaged_checkpoint_is_named(tmp_path):
    run_seed(walk(), 0, tmp_path, report=quiet)
    (tmp_path / "walk-0.npz").write_bytes(b"not an archive")
    with pytest.raises(OSError, match="walk-0.npz cannot be read.*Delete it"):
        run_seed(walk(), 0, tmp_path, report=quiet)


def test_a_training_that_runs_away_is_named_and_keeps_its_last_good_state(tmp_path):
    def build(settings):
        training = random_walk(settings)
        blow_up = lambda state: (state, {"size": jnp.where(state[0][0] == 1, 1.0, jnp.nan)})
        return training._replace(advance=lambda s: ((s[0] + 1, s[1]), blow_up(s)[1]))

    with pytest.raises(Diverged, match="size not finite in chunk 2"):
        run_seed(walk()._replace(build=build), 0, tmp_path, report=quiet)
    assert (tmp_path / "walk-0.npz").exists()


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "receipt.json"
    target.write_text("old")

    def fail(path):
        path.write_text("half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_atomically(target, fail)
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_a_receipt_says_what_ran_and_its_intervals(tmp_path):
    experiment = walk()
    outcomes = [run_seed(experiment, s, tmp_path, report=quiet) for s in experiment.seeds]
    receipt = json.loads(json.dumps(receipts.compose(experiment, outcomes)))
    means = np.array([np.mean(o.scores["error"]) for o in outcomes])
    assert receipt["fingerprint"] == fingerprint(experiment) and receipt["seeds"] == [0, 1, 2]
    assert receipt["result"]["mean"] == pytest.approx(means.mean(), rel=1e-5)
    assert receipt["result"]["over_seeds"] == pytest.approx(4.303 * means.std(ddof=1) / np.sqrt(3), rel=1e-5)
    assert receipt["result"]["tasks"] == 5 and len(receipt["curve"]["size"][0]) == 6
    assert {"device", "versions", "seconds", "settings", "figure"} <= receipt.keys()


def test_stale_damaged_and_waiting_receipts_are_refused(tmp_path):
    name = CATALOG[0].name
    with pytest.raises(receipts.WaitingReceipt, match=f"python -m cmlcore.runs {name}"):
        receipts.read(name, tmp_path)
    (tmp_path / f"{name}.json").write_text('{"fingerprint": "of another configuration"}')
    with pytest.raises(receipts.StaleReceipt, match="another configuration"):
        receipts.read(name, tmp_path)
    (tmp_path / f"{name}.json").write_text('{"fingerprint": ')
    with pytest.raises(ValueError, match="damaged"):
        receipts.read(name, tmp_path)
    with pytest.raises(KeyError, match="there is no experiment called 'nothing'"):
        receipts.read("nothing", tmp_path)


def test_kept_parameters_must_fit(tmp_path):
    experiment = find("sine-scratch")
    receipts.write({"name": "sine-scratch", "fingerprint": fingerprint(experiment)}, {"w": jnp.ones((2, 3))}, tmp_path)
    kept = receipts.read_parameters("sine-scratch", {"w": jnp.zeros((2, 3))}, tmp_path)
    np.testing.assert_array_equal(kept["w"], np.ones((2, 3)))
    with pytest.raises(ValueError, match="do not fit"):
        receipts.read_parameters("sine-scratch", {"w": jnp.zeros((3, 3))}, tmp_path)


def plain(value):
    return isinstance(value, (int, float, str)) or isinstance(value, tuple) and all(map(plain, value))


def test_names_are_unique_and_settings_are_plain_numbers_and_names():
    assert len({e.name for e in CATALOG}) == len(CATALOG)
    assert all(plain(tuple(experiment.settings)) for experiment in CATALOG)


def test_the_command_lists_the_experiments():
    done = subprocess.run([sys.executable, "-m", "cmlcore.runs"], capture_output=True, text=True, check=True)
    assert all(e.name in done.stdout for e in CATALOG)


SINE = [experiment.name for experiment in CATALOG if experiment.name.startswith("sine-")]


@pytest.mark.parametrize("name", SINE)
def test_a_committed_receipt_is_whole_and_of_the_experiment_as_it_stands(name):
    receipt = receipts.read(name)
    experiment = find(name)
    assert tuple(receipt["seeds"]) == experiment.seeds and len(receipt["seeds"]) >= 5
    assert receipt["result"]["tasks"] == 1000 and np.isfinite(receipt["result"]["mean"])
    assert len(receipt["seconds"]) == len(experiment.seeds) and receipt["device"] and receipt["versions"]["jax"]


@pytest.mark.parametrize("name", ["sine-cml-full", "sine-maml"])
def test_the_code_still_does_what_the_receipt_says(name):
    """The first chunk of seed 0 again: a change of the code that alters results must raise the experiment's revision."""
    experiment = find(name)
    training = experiment.build(experiment.settings)
    _, info = training.advance(training.start(0))
    recorded = receipts.read(name)["curve"]["outer_loss"][0][0]
    assert float(info["outer_loss"]) == pytest.approx(recorded, rel=0.05)


@pytest.mark.parametrize("name", sorted(file.stem for file in receipts.FOLDER.glob("*.json")))
def test_receipts_in_the_package_are_of_the_experiments_as_they_stand(name):
    assert receipts.read(name)["fingerprint"] == fingerprint(find(name))
