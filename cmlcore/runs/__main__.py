"""`python -m cmlcore.runs`: list the book's full experiments, run them, write their receipts."""

import argparse
import gc
import math
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from cmlcore.runs import finished, listing, progress, receipts
from cmlcore.runs.catalog import CATALOG, find
from cmlcore.runs.experiment import apart, run_seed
from cmlcore.speed.devices import cores

UNFINISHED = 3
GRACE = 5  # seconds after the deadline, and after a request to stop


def _work(name: str, seed: int, folder: Path, deadline: float, report: Callable[[str], None]) -> int:
    """A worker: run one seed, leave its outcome with the finished ones."""
    outcome = run_seed(find(name), seed, folder, deadline, report)
    if outcome is None:
        return UNFINISHED
    finished.save(find(name), outcome)
    return 0


# glibc gives the memory of an array back to the system as soon as it is free, and a page fault for each 4 kB fetches it again: two thirds of the time of a
# step with convolutions on a CPU. These keep it, in large pages.
KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "1000000000000",
    "MALLOC_TOP_PAD_": "500000000",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def _environment() -> dict[str, str]:
    """A worker's: what the user has set, memory kept, and matrix products on one thread, because seeds run side by side and share the cores."""
    flags = "--xla_cpu_multi_thread_eigen=false"
    memory = KEEP_MEMORY if platform.libc_ver()[0] == "glibc" else {}
    return memory | os.environ | {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip(), "PYTHONUNBUFFERED": "1"}


def _quit(number, frame) -> None:
    """SIGTERM as an exception, so that files that are being written are closed and workers stopped.

    Raised inside a callback of the garbage collector it would be dropped with a message: there, the signal is sent again a moment later.
    """
    if frame is not None and frame.f_code in {getattr(callback, "__code__", None) for callback in gc.callbacks}:
        threading.Timer(0.01, os.kill, (os.getpid(), number)).start()
        return
    sys.exit(128 + signal.SIGTERM)


def _start(command: list[str]) -> subprocess.Popen:
    """A worker that does not hear Ctrl-C, which a terminal sends to all: its parent stops it."""
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return subprocess.Popen([sys.executable, "-m", "cmlcore.runs", *command], env=_environment())
    finally:
        signal.signal(signal.SIGINT, heard)


def _stop(workers: list[subprocess.Popen]) -> None:
    """Ask, and after `GRACE` seconds insist: a long compiled computation hears no signal. Checkpoints allow both."""
    for worker in workers:
        worker.terminate()
    end = time.monotonic() + GRACE
    for worker in workers:
        try:
            worker.wait(max(0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def side_by_side(name: str, commands: dict[int, list[str]], jobs: int, deadline: float, tell: Callable | None = None) -> dict[int, int]:
    """Run one worker a seed, `jobs` at a time; the exit codes by seed.

    tell: `(active seeds, exit codes so far) -> None`, called some times a second; None: one line a finished seed.

    What still runs `GRACE` seconds after the deadline, a `time.monotonic()` moment, is stopped, and so is everything where
    this is interrupted.
    """
    began, waiting, active, codes = time.monotonic(), list(commands), {}, {}
    try:
        while waiting or active:
            if time.monotonic() > deadline + GRACE:
                if active and not tell:
                    print(f"{name}: time is up; seeds {sorted(active)} are stopped on their way")
                return codes | dict.fromkeys([*active, *waiting], UNFINISHED)
            while waiting and len(active) < jobs:
                seed = waiting.pop(0)
                active[seed] = _start(commands[seed])
            if tell:
                tell(list(active), codes)
            for seed in [s for s, worker in active.items() if worker.poll() is not None]:
                codes[seed] = active.pop(seed).returncode
                if codes[seed] == 0 and not tell:
                    _tell(name, list(codes.values()).count(0), len(commands), time.monotonic() - began)
            time.sleep(0.2)
    finally:
        _stop(list(active.values()))
    return codes


def _tell(name: str, done: int, count: int, seconds: float) -> None:
    if done < count:
        minutes = math.ceil(seconds / done * (count - done) / 60)
        print(f"{name}: {done} of {count} seeds done, about {minutes} minutes left in all", flush=True)


def run(name: str, folder: Path, minutes: float, jobs: int) -> bool:
    """Run all seeds of an experiment that are not finished, `jobs` at a time; write its receipt when all are. False if time ran out."""
    experiment = find(name)
    deadline = time.monotonic() + 60 * minutes
    units = experiment.seeds[:1] if experiment.together else experiment.seeds
    missing = [seed for seed in units if finished.load(experiment, seed) is None]
    if done := sorted({*units} - {*missing}):
        print(f"{name}: seeds {done} are finished already, in {finished.UNFINISHED}")
    work = {seed: [name, "--worker", str(seed), str(deadline), "--folder", str(folder)] for seed in missing}
    with progress.bars(experiment, folder) as tell:
        silent = ["--silent"] if tell else []
        codes = side_by_side(name, {s: words + silent for s, words in work.items()}, jobs, deadline, tell)
    if failed := [seed for seed, code in codes.items() if code not in (0, UNFINISHED)]:
        raise SystemExit(f"{name}: seeds {failed} failed, see above. What they had saved stays in {folder}; run again to resume.")
    outcomes = [outcome for seed in units if (outcome := finished.load(experiment, seed))]
    if len(outcomes) < len(units):
        print(f"{name}: not finished in the time given. Run the same command again to resume from {folder}.")
        return False
    if experiment.together:
        outcomes = apart(outcomes[0], experiment.seeds)
    receipt = receipts.compose(experiment, outcomes)
    path = receipts.write(receipt, outcomes[0].kept)
    finished.remove(experiment)
    result = receipt["result"]
    print(f"{name}: {result['score']} {result['mean']:.4g} ± {result['over_seeds']} over seeds, receipt in {path}")
    return True


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m cmlcore.runs", description="The book's full experiments.")
    parser.add_argument("name", nargs="?", help="an experiment, or `all` for those of the book without a fresh receipt; none: list them")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after this long, saved (default: run to the end)")
    parser.add_argument("--jobs", type=int, default=cores(), help="seeds run side by side (default: one a core)")
    parser.add_argument("--folder", type=Path, default=Path(".checkpoints"), help="where checkpoints go (default: .checkpoints)")
    parser.add_argument("--about", action="store_true", help="say what the experiment is, costs and gave, and run nothing")
    parser.add_argument("--curve", action="store_true", help="draw how far its seeds are and how they learn, from the checkpoints, and run nothing")
    parser.add_argument("--silent", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--worker", nargs=2, metavar=("SEED", "DEADLINE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _quit)
    if options.worker:
        seed, deadline = options.worker
        report = (lambda line: None) if options.silent else (lambda line: print(line, flush=True))
        sys.exit(_work(options.name, int(seed), options.folder, float(deadline), report))
    if options.name is None:
        print(listing.catalogue())
        return
    if options.about or options.curve:
        print(listing.about(options.name) if options.about else progress.curves(find(options.name), options.folder))
        return
    if options.jobs < 1 or options.minutes <= 0:
        parser.error("--jobs and --minutes must be positive.")
    names = [options.name] if options.name != "all" else [e.name for e in CATALOG if not e.published and not _fresh(e.name)]
    end = time.monotonic() + 60 * options.minutes
    try:
        for name in names:
            if not run(name, options.folder, (end - time.monotonic()) / 60, options.jobs):
                sys.exit(UNFINISHED)
    except KeyboardInterrupt:
        print(f"interrupted. What is done is saved in {options.folder}: run the same command again to go on.")
        sys.exit(128 + signal.SIGINT)


def _fresh(name: str) -> bool:
    try:
        receipts.read(name)
    except (receipts.WaitingReceipt, receipts.StaleReceipt, ValueError):
        return False
    return True


if __name__ == "__main__":
    main()
