"""Full runs: resumable to the same bits, receipts that are refused when stale, nothing half-written."""

import functools
import io
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from datetime import date, timedelta
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmlcore.bilevel import Diverged
from cmlcore.data import archive
from cmlcore.runs import __main__ as command
from cmlcore.runs import checkpoint, experiment, finished, listing, parameters, progress, receipts
from cmlcore.runs.catalog import CATALOG, CHAPTERS, find
from cmlcore.runs.cost import Cost, counted, duration, on_cores, on_gpu
from cmlcore.runs.experiment import Experiment, Training, fingerprint, run_seed


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
    return Experiment("walk", "A walk.", Walk(chunks, scale), random_walk, seeds, ("error", "one"), None, Cost(0))


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

    with pytest.raises(Diverged, match="chunk 2: size not finite"):
        run_seed(walk()._replace(build=build), 0, tmp_path, report=quiet)
    assert (tmp_path / "walk-0.npz").exists()


def test_a_test_that_runs_away_is_named_and_gives_no_outcome(tmp_path):
    build = lambda settings: random_walk(settings)._replace(test=lambda seed, state: {"error": jnp.array([1.0, jnp.inf])})
    with pytest.raises(Diverged, match="walk seed 0, test: error not finite"):
        run_seed(walk()._replace(build=build), 0, tmp_path, report=quiet)


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "receipt.json"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="disk full"), archive.replacing(target) as file:
        file.write(b"half")
        raise RuntimeError("disk full")
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    alive = os.getppid()
    for process in (dead.pid, alive):
        (tmp_path / f"walk-0.npz.{process}.partial").write_bytes(b"half")
    run_seed(walk(), 0, tmp_path, report=quiet)
    assert {file.name for file in tmp_path.iterdir()} == {"walk-0.npz", f"walk-0.npz.{alive}.partial"}


# ---- Damaged files --------------------------------------------------------------------------------------------------

PACKINGS = {"stored": zipfile.ZIP_STORED, "deflate": zipfile.ZIP_DEFLATED, "bzip2": zipfile.ZIP_BZIP2, "lzma": zipfile.ZIP_LZMA}
READERS = {
    "archive": (lambda path: archive.read(path, {"curve_a": (2,), "state_0": (30,)}, "test"), ValueError, "is damaged.*Copy the archive|lacks"),
    "checkpoint": (lambda path: checkpoint.load(path, "now", [jnp.zeros(30)]), OSError, "the checkpoint .*cannot be read.*Delete it"),
}


def packed(path, packing) -> bytes:
    """A small checkpoint that is a data set too, every array packed in this way."""
    checkpoint.save(path, "now", checkpoint.Progress([jnp.sin(jnp.arange(30.0))], {"a": [1.0, 2.0]}, 2, 3.0, 2.0, ("here",)))
    again = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(again, "w", packing) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return again.getvalue()


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("packing", PACKINGS)
def test_a_cut_or_altered_archive_is_read_right_or_named(tmp_path, packing, reader):
    read, raised, words = READERS[reader]
    path = tmp_path / "walk-0.npz"
    whole = packed(path, PACKINGS[packing])
    right = jax.tree.map(np.asarray, read(path))

    def named(content) -> bool:
        path.write_bytes(content)
        try:
            found = jax.tree.map(np.asarray, read(path))
        except raised as error:
            assert str(path) in str(error) and re.search(words, str(error))
            return True
        jax.tree.map(np.testing.assert_array_equal, found, right)  # a date, or an array that nobody asked for
        return False

    assert all(named(whole[:n]) for n in range(0, len(whole), 23))
    assert sum(named(whole[:i] + bytes([whole[i] ^ 6]) + whole[i + 1 :]) for i in range(0, len(whole), 3)) > len(whole) / 12


# ---- Interruption ---------------------------------------------------------------------------------------------------


def never(*_):
    pytest.fail("begun too late")


def started(path, **numbers):
    """A walk's checkpoint after its first chunk."""
    at = checkpoint.Progress(random_walk(Walk(6, 0.1)).start(0), {"size": [1.0]}, chunk=1, **numbers)
    path.mkdir(exist_ok=True)
    checkpoint.save(path / "walk-0.npz", fingerprint(walk()), at)


def test_a_resumed_run_begins_no_chunk_that_would_end_too_late(tmp_path):
    started(tmp_path, seconds=100.0, longest=100.0)
    idle = walk()._replace(build=lambda settings: random_walk(settings)._replace(advance=never))
    assert run_seed(idle, 0, tmp_path, time.monotonic() + 50, quiet) is None


def test_no_test_begins_after_the_deadline(tmp_path):
    untested = walk(chunks=0)._replace(build=lambda settings: random_walk(settings)._replace(test=never))
    assert run_seed(untested, 0, tmp_path, time.monotonic() - 1, quiet) is None


def test_a_checkpoint_from_before_longest_and_devices_were_kept_goes_on(tmp_path):
    started(tmp_path, seconds=100.0)
    with np.load(tmp_path / "walk-0.npz") as file:
        older = {name: file[name] for name in file.files if name not in ("longest", "devices")}
    np.savez(tmp_path / "walk-0.npz", **older)
    outcome = run_seed(walk(), 0, tmp_path, report=quiet)
    assert outcome.seconds > 100 and outcome.devices == (experiment.device_in_words(),)


def test_going_on_elsewhere_is_said_and_recorded(tmp_path):
    started(tmp_path, devices=("another machine",))
    lines = []
    outcome = run_seed(walk(), 0, tmp_path, report=lines.append)
    assert any("until here on another machine; from here on" in line for line in lines)
    here = experiment.device_in_words()
    assert receipts.compose(walk(), [outcome, run_seed(walk(), 1, tmp_path, report=quiet)])["device"] == f"another machine; {here}"


def test_a_request_to_end_while_saving_leaves_no_half_file(tmp_path, monkeypatch):
    def asked_to_end(file, **arrays):
        file.write(b"half")
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, command._quit)
    monkeypatch.setattr(np, "savez_compressed", asked_to_end)
    try:
        with pytest.raises(SystemExit, match="143"):
            run_seed(walk(), 0, tmp_path, report=quiet)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert list(tmp_path.iterdir()) == []


def sleepers(monkeypatch, code="import time; time.sleep(60)"):
    """Workers that compute nothing; the list of those that were started."""
    started = []

    def start(words):
        started.append(subprocess.Popen([sys.executable, "-c", code, *words]))
        return started[-1]

    monkeypatch.setattr(command, "_start", start)
    monkeypatch.setattr(command, "GRACE", 0.3)
    return started


def test_workers_are_stopped_soon_after_the_deadline(monkeypatch):
    workers = sleepers(monkeypatch)
    codes = command.side_by_side("walk", {0: [], 1: [], 2: []}, 2, time.monotonic() + 0.1)
    assert codes == dict.fromkeys(range(3), command.UNFINISHED)
    assert [worker.poll() for worker in workers] == [-signal.SIGTERM] * 2


def test_workers_that_hear_nothing_are_stopped_all_the_same(monkeypatch, tmp_path):
    deaf = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open(sys.argv[1], 'w'); time.sleep(60)"
    workers = sleepers(monkeypatch, deaf)

    def interrupt(seconds):
        if (tmp_path / "deaf").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patched:
        patched.setattr(command, "time", SimpleNamespace(sleep=interrupt, monotonic=time.monotonic))
        command.side_by_side("walk", {0: [str(tmp_path / "deaf")]}, 1, float("inf"))
    assert [worker.poll() for worker in workers] == [-signal.SIGKILL]


def test_the_whole_run_tells_how_far_it_is(monkeypatch, capsys):
    sleepers(monkeypatch, "")
    assert command.side_by_side("walk", {0: [], 1: [], 2: []}, 1, float("inf")) == {0: 0, 1: 0, 2: 0}
    assert "walk: 2 of 3 seeds done, about 1 minutes left in all" in capsys.readouterr().out


@pytest.mark.parametrize("asked, status, said", [(signal.SIGINT, 130, "interrupted. What is done is saved"), (signal.SIGTERM, 143, "")])
def test_the_command_ends_with_its_workers_and_without_a_traceback(tmp_path, asked, status, said):
    """As a terminal does it: Ctrl-C reaches parent and workers at once, a request to end the parent alone."""
    arguments = ["sine-scratch", "--jobs", "1", "--folder", str(tmp_path)]
    run = [sys.executable, "-m", "cmlcore.runs", *arguments]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it runs in the background ignore Ctrl-C
    parent = subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    signal.signal(signal.SIGINT, before)
    for line in parent.stdout:
        if "compiling, then the test" in line:
            break
    (os.killpg if asked == signal.SIGINT else os.kill)(parent.pid, asked)
    out, err = parent.communicate(timeout=60)
    assert parent.returncode == status and said in out and err == ""
    with pytest.raises(ProcessLookupError):  # nobody of its group is left
        os.killpg(parent.pid, 0)


# ---- What a worker is given, and what one sees --------------------------------------------------------------------------


def test_a_worker_keeps_its_memory_but_for_what_the_user_has_set(monkeypatch):
    for name in command.KEEP_MEMORY:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MALLOC_TOP_PAD_", "7")
    monkeypatch.setenv("XLA_FLAGS", "--xla_this=1")
    monkeypatch.setattr(command.platform, "libc_ver", lambda: ("glibc", "2.36"))
    given = command._environment()
    assert {name: given[name] for name in command.KEEP_MEMORY} == command.KEEP_MEMORY | {"MALLOC_TOP_PAD_": "7"}
    assert given["XLA_FLAGS"].startswith("--xla_this=1 ")
    monkeypatch.setattr(command.platform, "libc_ver", lambda: ("", ""))
    assert not command.KEEP_MEMORY.keys() - {"MALLOC_TOP_PAD_"} & command._environment().keys()


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def lines(self) -> list[str]:
        """What is to be seen: lines written over each other, as the cursor goes."""
        seen, row, column = {}, 0, 0
        for piece in re.findall(r"\n|\r|\x1b\[A|[^\n\r\x1b]+", self.getvalue()):
            if piece == "\n" or piece == "\x1b[A":
                row += 1 if piece == "\n" else -1
                column = 0 if piece == "\n" else column
            elif piece == "\r":
                column = 0
            else:
                line = seen.get(row, "").ljust(column)
                seen[row] = line[:column] + piece + line[column + len(piece) :]
                column += len(piece)
        return [seen[row].rstrip() for row in sorted(seen) if seen[row].strip()]


def test_every_seed_has_a_line_of_its_own_on_a_terminal(tmp_path):
    screen = Terminal()
    with progress.bars(walk(), tmp_path, screen) as tell:
        tell([0, 1], {})
        started(tmp_path, chunks=6)
        tell([0, 1], {})
        tell([1, 2], {0: 0})
    last = screen.lines()
    assert [re.search(r"walk seed (\d)", line)[1] for line in last] == ["0", "1", "2"]
    assert re.search(r"1/6 .*, size 1, done\]", last[0]) and "0chunk" in last[1] and "stopped" in last[2]
    assert re.search(r"1/6 \[\d\d:\d\d<\S+, .*, size 1\]", screen.getvalue()), "the time left, and the latest number"


def test_where_there_is_no_terminal_or_no_tqdm_workers_speak_for_themselves(tmp_path, monkeypatch):
    with progress.bars(walk(), tmp_path, io.StringIO()) as tell:
        assert tell is None
    monkeypatch.setitem(sys.modules, "tqdm", None)
    screen = Terminal()
    with progress.bars(walk(), tmp_path, screen) as tell:
        assert tell is None
    assert "cmlcore[runs]" in screen.getvalue()


def test_the_curve_so_far_of_all_seeds_is_read_from_checkpoints_alone(tmp_path):
    run_seed(walk(), 0, tmp_path, report=quiet)
    started(tmp_path / "never", seconds=60.0, chunks=6)
    (tmp_path / "never" / "walk-0.npz").rename(tmp_path / "walk-1.npz")
    said = progress.curves(walk()._replace(build=never), tmp_path)
    assert "6 of 6 chunks" in said and "1 of 6 chunks in 1 min, about 5 min left  size 1" in said and "seed 2     no checkpoint" in said
    assert max(map(len, said.splitlines())) <= 80
    drawn = said.split("\n\n")[1].splitlines()[1:-1]
    marks = [line.split("|")[1] for line in drawn]
    assert len(marks) == progress.HEIGHT and sum(line.count("0") + line.count("*") for line in marks) == 6
    found = checkpoint.glance(tmp_path / "walk-0.npz", fingerprint(walk()))
    assert found.state is None and found.chunks == 6 and len(found.curve["size"]) == 6


def test_seeds_that_run_together_are_drawn_apart_and_long_curves_are_thinned():
    lines = progress.chart({0: np.linspace(0, 1, 1000), 13: np.linspace(1, 0, 500)})
    assert len(lines) == progress.HEIGHT + 1 and all(len(line) <= 80 for line in lines) and lines[-1].endswith("1000")
    assert lines[0].split("|")[1][0] == "3" and lines[0].endswith("0") and lines[progress.HEIGHT - 1].split("|")[1][0] == "0"


# ---- Seeds that are finished ----------------------------------------------------------------------------------------


def test_a_finished_seed_is_kept_until_the_receipt_holds_it(tmp_path):
    experiment, folder = walk(), tmp_path / "unfinished"
    outcomes = [run_seed(experiment, seed, tmp_path, report=quiet) for seed in experiment.seeds]
    for outcome in outcomes:
        finished.save(experiment, outcome, folder)
    again = [finished.load(experiment, seed, folder) for seed in experiment.seeds]
    assert receipts.compose(experiment, again) == receipts.compose(experiment, outcomes)
    for one, other in zip(jax.tree.leaves(again[0].kept), jax.tree.leaves(outcomes[0].kept), strict=True):
        np.testing.assert_array_equal(one, np.asarray(other, np.float16))
    assert finished.load(experiment._replace(revision=2), 0, folder) is None and finished.load(experiment, 7, folder) is None
    finished.place(folder, experiment.name, 1).write_bytes(b"cut off")
    with pytest.raises(OSError, match="Delete it to run this seed again"):
        finished.load(experiment, 1, folder)
    finished.remove(experiment, folder)
    assert not folder.exists()


def test_a_run_goes_on_with_the_seeds_that_are_missing(tmp_path, monkeypatch, capsys):
    experiment, folder = walk(), tmp_path / "unfinished"
    for name in ("load", "save", "remove"):
        monkeypatch.setattr(finished, name, functools.partial(getattr(finished, name), folder=folder))
    monkeypatch.setattr(command, "find", lambda name: experiment)
    monkeypatch.setattr(receipts, "write", lambda receipt, kept: tmp_path / "receipt.json")
    asked = []

    def work(name, commands, jobs, deadline, tell):
        """One of those that are missing ends, the time of the others is up."""
        asked.append(list(commands))
        first = asked[-1][0]
        assert command._work(name, first, tmp_path, float("inf"), quiet) == 0
        return dict.fromkeys(commands, command.UNFINISHED) | {first: 0}

    monkeypatch.setattr(command, "side_by_side", work)
    assert [command.run("walk", tmp_path, 1, 1) for _ in experiment.seeds] == [False, False, True]
    assert asked == [[0, 1, 2], [1, 2], [2]] and not folder.exists()
    assert "seeds [0, 1] are finished already" in capsys.readouterr().out


# ---- Receipts -------------------------------------------------------------------------------------------------------


def test_a_receipt_says_what_ran_and_its_intervals(tmp_path):
    experiment = walk()
    outcomes = [run_seed(experiment, s, tmp_path, report=quiet) for s in experiment.seeds]
    receipt = json.loads(json.dumps(receipts.compose(experiment, outcomes)))
    means = np.array([np.mean(o.scores["error"]) for o in outcomes])
    assert receipt["fingerprint"] == fingerprint(experiment) and receipt["seeds"] == [0, 1, 2]
    assert receipt["result"]["mean"] == pytest.approx(means.mean(), rel=1e-5)
    assert receipt["result"]["over_seeds"] == pytest.approx(4.303 * means.std(ddof=1) / np.sqrt(3), rel=1e-5)
    assert receipt["result"]["tasks"] == 5 and len(receipt["curve"]["size"][0]) == 6
    assert abs(date.fromisoformat(receipt["date"]) - date.today()) <= timedelta(days=1)  # UTC
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


def written(folder, kept):
    """A receipt of `sine-scratch` with these parameters."""
    return receipts.write({"name": "sine-scratch", "fingerprint": fingerprint(find("sine-scratch"))}, kept, folder)


def test_kept_parameters_must_fit(tmp_path):
    written(tmp_path, {"w": jnp.ones((2, 3))})
    kept = receipts.read_parameters("sine-scratch", {"w": jnp.zeros((2, 3))}, tmp_path)
    np.testing.assert_array_equal(kept["w"], np.ones((2, 3)))
    with pytest.raises(ValueError, match="do not fit"):
        receipts.read_parameters("sine-scratch", {"w": jnp.zeros((3, 3))}, tmp_path)


def test_parameters_of_another_run_than_the_receipt_are_refused(tmp_path):
    path = written(tmp_path, {"w": jnp.ones(3)})
    older = path.read_text()
    written(tmp_path, {"w": jnp.zeros(3)})
    path.write_text(older)
    with pytest.raises(ValueError, match="sine-scratch.npz is missing, damaged, or of another run.*python -m cmlcore.runs"):
        receipts.read_parameters("sine-scratch", {"w": jnp.zeros(3)}, tmp_path)


def test_where_nothing_is_kept_no_file_stays(tmp_path):
    written(tmp_path, {"w": jnp.ones(3)})
    written(tmp_path, ())
    assert [file.name for file in tmp_path.iterdir()] == ["sine-scratch.json"]
    with pytest.raises(ValueError, match="no parameters are kept"):
        receipts.read_parameters("sine-scratch", (), tmp_path)


def plain(value):
    return isinstance(value, (int, float, str)) or isinstance(value, tuple) and all(map(plain, value))


def test_names_are_unique_and_settings_are_plain_numbers_and_names():
    assert len({e.name for e in CATALOG}) == len(CATALOG)
    assert all(plain(tuple(experiment.settings)) for experiment in CATALOG)


def test_the_command_lists_the_experiments():
    done = subprocess.run([sys.executable, "-m", "cmlcore.runs"], capture_output=True, text=True, check=True)
    own, others = done.stdout.split("Published settings")
    assert all(re.search(rf"^{e.name}\b", others if e.published else own, re.M) for e in CATALOG)
    assert max(map(len, done.stdout.splitlines())) <= 80 and all(f"[{chapter}]" in own for chapter in CHAPTERS)


@pytest.mark.parametrize("name", ["sine-maml", "omniglot-20w1s-cml"])
def test_one_experiment_in_full(name):
    said = listing.about(name)
    assert max(map(len, said.splitlines())) <= 80 and f"python -m cmlcore.runs {name}" in said
    assert str(find(name).cost) in " ".join(said.split()) and "Published: 0." in said


def test_every_experiment_costs_something_and_what_no_table_reads_says_what_a_gpu_takes():
    assert all(e.cost.minutes > 0 for e in CATALOG)
    assert all(e.cost.hours and e.cost.operations for e in CATALOG if e.published)
    assert not any((receipts.FOLDER / f"{e.name}.json").exists() for e in CATALOG if e.published)


def test_a_cost_counts_rounds_of_two_cores_and_a_receipt_s_own_seconds():
    three, together = walk()._replace(cost=counted(3e15)), walk()._replace(cost=counted(3e15), together=True)
    assert on_cores(three) == pytest.approx(2000) and on_cores(together) == pytest.approx(1000)  # 3e15 / 5e10 / 60, in two rounds, and in one
    assert on_gpu(three) == pytest.approx(3 * 3e15 / 2e13 / 3600) and on_gpu(walk()) is None
    assert on_cores(three, {"seconds": [60.0, 120.0, 180.0]}) == 4 and on_cores(together, {"seconds": [60.0, 120.0, 180.0]}) == 6


@pytest.mark.parametrize("minutes, words", [(0, "1 s"), (0.5, "30 s"), (12, "12 min"), (90, "90 min"), (204, "3.4 h"), (1500, "25 h"), (40_000, "28 days")])
def test_durations_in_words(minutes, words):
    assert duration(minutes) == words


SINE = [experiment.name for experiment in CATALOG if experiment.name.startswith("sine-")]


@pytest.mark.parametrize("name", SINE)
def test_a_committed_receipt_is_whole_and_of_the_experiment_as_it_stands(name):
    receipt = receipts.read(name)
    experiment = find(name)
    assert tuple(receipt["seeds"]) == experiment.seeds and len(receipt["seeds"]) >= 5
    assert receipt["result"]["tasks"] == 1000 and np.isfinite(receipt["result"]["mean"])
    assert len(receipt["seconds"]) == len(experiment.seeds) and receipt["device"] and receipt["versions"]["jax"]


# A run of each kind whose first chunk is short. Characters and spikes are missing: theirs takes longer, and magnifies how tests let XLA round.
REPLAYED = (
    "digits-eqprop",
    "sine-cml-full",
    "sine-maml",
    "modulation-sine-maml",
    "hyper-demo-identity",
    "rewards-omega",  # learns its prior
    "rewards-scratch",  # plays
    "hippo-none",
)


@pytest.mark.parametrize("name", REPLAYED)
def test_the_code_still_does_what_the_receipt_says(name):
    """The first chunk of seed 0, or of all that run together, again: a change of the code that alters results must raise the experiment's revision."""
    experiment = find(name)
    try:
        training = experiment.build(experiment.settings)
    except (FileNotFoundError, ConnectionError) as missing:
        pytest.skip(str(missing))
    _, info = training.advance(training.start(jnp.asarray(experiment.seeds) if experiment.together else 0))
    recorded = receipts.read(name)["curve"]
    assert info.keys() <= recorded.keys()
    # Not a norm of what nearly cancels, nor the one wave that happens to be the median: those follow the rounding of the processor.
    for what in info.keys() - {"grad_norm", "validation_median"}:
        first = [curve[0] for curve in recorded[what]]
        np.testing.assert_allclose(info[what], first if experiment.together else first[0], rtol=0.01 if name.startswith("digits") else 0.05, err_msg=what)


def test_the_nearest_drawing_is_right_as_often_as_its_receipt_says():
    experiment = find("omniglot-small-pixels")
    try:
        training = experiment.build(experiment.settings)
    except (FileNotFoundError, ConnectionError) as missing:
        pytest.skip(str(missing))
    assert float(jnp.mean(training.test(0, ())["accuracy"])) == pytest.approx(receipts.read(experiment.name)["result"]["mean"], rel=1e-4)


@pytest.mark.parametrize("name", sorted(file.stem for file in receipts.FOLDER.glob("*.json")))
def test_receipts_in_the_package_are_of_the_experiments_as_they_stand(name):
    receipt, beside = receipts.read(name), receipts.FOLDER / f"{name}.npz"
    assert receipt["fingerprint"] == fingerprint(find(name))
    assert receipt["parameters"] == (parameters.sha256(beside.read_bytes()) if beside.exists() else None)
