"""The same bilevel problem, solved by `cmlcore` and by its peers: error, time, compilation, memory, and lines of the user's code.

Logistic regression with a strength for every weight (L-2, as its logarithm): 200 strengths, learned from 400 examples, judged on 400 others. The exact
meta-gradient is that of a Newton solution in double precision. Each library is a process of its own (`peers_worker.py`), and their runs alternate.
"""

import json
import os
import subprocess
import sys
from datetime import date
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks import clock
from benchmarks.peers_worker import BETA, PRODUCTS, RATE, STEPS, WAYS
from cmlcore.runs.experiment import device_in_words

HERE = Path(__file__).parent
WEIGHTS, EXAMPLES = 200, 400
ABOUT = (
    f"logistic regression, {WEIGHTS} weights and as many log-strengths, {EXAMPLES} + {EXAMPLES} examples, single precision; inner learning: {STEPS} steps of gradient descent at "
    f"a rate of {RATE:g}, the same for all. Conjugate gradients take at most {PRODUCTS} steps; the nudge of `matched` is {BETA:g}, by `self_check`. `matched` learns three times, "
    "all others once; optimistix solves the linear system with all of the matrix, its default."
)
LINES = "Lines are counted in the source of each way (benchmarks/peers_worker.py): all that a user writes, imports included, the two losses apart."


# ---- the problem and its answer ----------------------------------------------------------------------------------------------------------


@cache
def data() -> dict[str, np.ndarray]:
    """Log-strengths, examples with labels of -1 and 1 to learn from and to judge on, by name, in single precision."""
    draw = np.random.default_rng(0)
    true = draw.normal(size=WEIGHTS) / WEIGHTS**0.5 * 3

    def examples():
        x = draw.normal(size=(EXAMPLES, WEIGHTS))
        return x, np.where(draw.uniform(size=EXAMPLES) < _logistic(x @ true), 1.0, -1.0)

    (x, y), (qx, qy) = examples(), examples()
    theta = np.log(0.01) + 0.5 * draw.normal(size=WEIGHTS)
    return {name: a.astype(np.float32) for name, a in {"theta": theta, "x": x, "y": y, "qx": qx, "qy": qy}.items()}


def _logistic(z):
    return 1 / (1 + np.exp(-z))


def solution(theta, x, y):
    """The weights of least inner loss, by Newton's method, and the curvature there; float64."""
    w = np.zeros(len(theta))
    for _ in range(30):
        slack = _logistic(-y * (x @ w))
        gradient = -x.T @ (y * slack) / len(y) + 2 * np.exp(theta) * w
        curvature = (x.T * (slack * (1 - slack))) @ x / len(y) + 2 * np.diag(np.exp(theta))
        w = w - np.linalg.solve(curvature, gradient)
    return w, curvature


def outer(theta, x, y, qx, qy) -> float:
    """The loss on the query set after learning, as a function of the log-strengths."""
    return float(np.mean(np.logaddexp(0, -qy * (qx @ solution(theta, x, y)[0]))))


def exact(theta, x, y, qx, qy) -> np.ndarray:
    """The meta-gradient by the implicit formula, in double precision."""
    theta, x, y, qx, qy = (np.asarray(a, np.float64) for a in (theta, x, y, qx, qy))
    w, curvature = solution(theta, x, y)
    v = np.linalg.solve(curvature, -qx.T @ (qy * _logistic(-qy * (qx @ w))) / len(qy))
    return -2 * np.exp(theta) * w * v


# ---- the libraries -------------------------------------------------------------------------------------------------------------------------


def interpreter(library: str) -> str | None:
    """A Python that has the library and what it computes with: BENCH_PYTHON, `.venv-bench`, or this one; None where there is none."""
    own = HERE.parent / ".venv-bench" / "bin" / "python"
    candidates = [os.environ.get("BENCH_PYTHON"), str(own) if own.exists() else None, sys.executable]
    for python in filter(None, candidates):
        needs = "import cmlcore; cmlcore.meta_step" if library == "cmlcore" else f"import {library}"  # the step imports JAX and optax, the package does not
        if subprocess.run([python, "-c", needs], capture_output=True, env=surroundings()).returncode == 0:
            return python
    return None


def surroundings() -> dict[str, str]:
    """The environment of a worker, which finds this checkout's `cmlcore`, and keeps nothing that another run has compiled."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("JAX_COMPILATION_CACHE")}
    return kept | {"PYTHONPATH": str(HERE.parent)}


class Peer:
    """`peers_worker.py` for one library; `about` is what it answered first."""

    def __init__(self, python: str, library: str, arrays: dict):
        with TemporaryDirectory() as folder:
            path = Path(folder) / "arrays.npz"
            np.savez(path, **arrays)
            command = [python, HERE / "peers_worker.py", library, path]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=surroundings())
            self.about = self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("a peer's process ended early; its own message stands above.")
        return json.loads(line)

    def seconds(self, way: str) -> float:
        print(way, file=self.process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


# ---- the table -----------------------------------------------------------------------------------------------------------------------------


def measure(rounds: int = 15, seconds: float = 40.0) -> dict:
    """Ask every library that is installed, time them in turn; the receipt of it, with its table."""
    arrays = data() | {"exact": exact(**data())}
    peers, notes, versions, rows, cases = {}, [ABOUT, LINES], {}, [], {}
    try:
        for library in WAYS:
            if not (python := interpreter(library)):
                notes.append(f"{library} did not install here.")
                continue
            peer = peers[library] = Peer(python, library, arrays)
            versions |= peer.about["versions"]
            for way, found in peer.about["ways"].items():
                if "failed" in found:
                    notes.append(f"{library}, {way} failed here ({found['failed']}).")
                    continue
                name = f"{library}: {way}"
                cases[name] = clock.Case(lambda peer=peer, way=way: peer.seconds(way))
                rows.append({"way": name} | found)
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        timings = clock.interleaved(cases, rounds, seconds, {row["way"]: row["first_s"] for row in rows})
    finally:
        for peer in peers.values():
            peer.close()
    for row in rows:
        t = timings[row["way"]]
        row |= {"ms": 1e3 * t.median, "fastest_ms": 1e3 * t.fastest, "slowest_ms": 1e3 * t.slowest, "runs": t.runs}
    rounded = [{key: float(f"{v:.4g}") if isinstance(v, float) else v for key, v in row.items()} for row in rows]
    about = {"step": "peers", "machine": device_in_words(), "date": date.today().isoformat(), "versions": versions, "load": load}
    return about | {"rows": rounded, "notes": notes + ([busy(load, rounded)] if load else [])}


def busy(load: float, rows: list[dict]) -> str:
    """A sentence on how busy the machine was before the runs, and on what that did to them."""
    spread = max((row["ms"] / row["fastest_ms"] - 1 for row in rows), default=0.0)
    state = "a busy machine" if load > (os.cpu_count() or 1) else "a quiet machine"
    return f"Before the runs the load was {load:.1f} on {os.cpu_count()} cores, {state}; the medians are at most {spread:.0%} above the fastest runs."


HEADS = ("way", "error", "ms a call", "fastest", "compile, s", "temporary, KiB", "lines")


def cells(row: dict) -> tuple[str, ...]:
    """A row of the table as texts; a dash where nothing is known."""
    known = lambda value, shown: "-" if value is None else format(value, shown)
    memory = None if row["memory_bytes"] is None else row["memory_bytes"] / 1024
    return (
        row["way"],
        f"{row['error']:.1e}",
        f"{row['ms']:.1f}",
        f"{row['fastest_ms']:.1f}",
        known(row["compile_s"], ".2f"),
        known(memory, ".1f"),
        str(row["lines"]),
    )


def markdown(receipt: dict) -> str:
    """The table as Markdown, as the README shows it."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [HEADS, ["---"] * len(HEADS), *map(cells, receipt["rows"])])


COLUMNS = {
    "error": "the least error",
    "ms": "the shortest call",
    "compile_s": "the shortest compilation",
    "memory_bytes": "the least temporary memory",
    "lines": "the fewest lines",
}


def best(receipt: dict) -> str:
    """A sentence on who is best at what; whoever is within a tenth of the best is named with it."""
    said = []
    for key, words in COLUMNS.items():
        known = {row["way"]: row[key] for row in receipt["rows"] if row[key] is not None}
        least = min(known.values(), default=None)
        said += [f"{words}: {' and '.join(way for way, value in known.items() if value <= 1.1 * least)}"] if known else []
    return f"{'; '.join(said)}.".replace("the", "The", 1) if said else "No way is installed here."


def shown(receipt: dict) -> str:
    """A receipt as text."""
    body = [HEADS, *map(cells, receipt["rows"])]
    widths = [max(len(line[k]) for line in body) for k in range(len(HEADS))]
    table = ["  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:]))]) for line in body]
    versions = ", ".join(f"{name} {version}" for name, version in receipt["versions"].items())
    return "\n".join([f"{receipt['step']} on {receipt['machine']}; {versions}", "", *table, "", best(receipt), *receipt["notes"]])
