"""How far the seeds of a full run are and how they learn: bars while it runs, and a learning curve as text; of this book.

Both are read from the checkpoints, so whoever runs an experiment need not be asked, and may be another process.
"""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np

from cmlcore.extras import need
from cmlcore.runs import checkpoint
from cmlcore.runs.cost import duration
from cmlcore.runs.experiment import Experiment, fingerprint

WATCHED = ("validation", "held_accuracy", "game")  # the first of these that a curve has is looked at, else the curve's first number
WIDTH, HEIGHT = 60, 12  # of a drawn curve, in characters


def watched(curve: dict[str, list]) -> str:
    """The name of the number in a learning curve that tells most; empty where nothing is learned yet."""
    return next((name for name in (*WATCHED, *curve) if name in curve), "")


# ---- bars ------------------------------------------------------------------------------------------------------------


@contextmanager
def bars(experiment: Experiment, folder: Path, file: TextIO | None = None) -> Iterator[Callable | None]:
    """A bar a seed, all drawn by this process: gives `(active seeds, exit codes so far) -> None`, which brings them up to date.

    file: where they are drawn, by default standard output. Gives None where that is no terminal, or tqdm is not installed: then workers speak
    for themselves, in lines.
    """
    file = file or sys.stdout
    try:
        tqdm = need("tqdm", "runs").tqdm if file.isatty() else None
    except ModuleNotFoundError as error:
        print(f"No bars: {error}.", file=file)
        tqdm = None
    if tqdm is None:
        yield None
        return
    columns, rows = shutil.get_terminal_size()  # a terminal without a size, of a program, has one here
    drawn: dict[int, _Bar] = {}

    def tell(active: list[int], codes: dict[int, int]) -> None:
        for seed in active:
            if seed not in drawn:
                label = experiment.name if experiment.together else f"{experiment.name} seed {seed}"
                bar = tqdm(desc=label, position=len(drawn), file=file, ncols=columns - 1, nrows=rows, unit="chunk")
                drawn[seed] = _Bar(bar, checkpoint.place(folder, experiment.name, seed), fingerprint(experiment))
            drawn[seed].follow()
        for seed in [seed for seed in drawn if seed in codes]:
            drawn[seed].end("done" if codes[seed] == 0 else "stopped")

    try:
        yield tell
    finally:
        for bar in drawn.values():
            bar.end("stopped")
        for bar in drawn.values():  # each that is closed moves the cursor one line down
            bar.bar.close()


class _Bar:
    """One seed's bar, which follows its checkpoint. path, stamp: of that."""

    def __init__(self, bar, path: Path, stamp: str):
        self.bar, self.path, self.stamp = bar, path, stamp
        self.read, self.begun, self.ended = None, False, False

    def follow(self) -> None:
        changed = self.path.stat().st_mtime_ns if self.path.exists() else None
        if changed == self.read and self.begun:
            return self.bar.refresh()  # its clock
        at = changed and checkpoint.glance(self.path, self.stamp)
        if at:
            self.bar.total, self.bar.n = at.chunks or None, at.chunk
        if not self.begun:
            self.bar.initial, self.begun = self.bar.n, True  # the time left is reckoned from what is seen here
            says = "compiling"
        else:
            says = _latest(at) if at else "compiling"
        if at and at.chunk == at.chunks:
            says = f"{_latest(at)}, the test"
        self.read = changed
        self.bar.set_postfix_str(says)

    def end(self, how: str) -> None:
        if self.ended:
            return
        self.follow()
        at = checkpoint.glance(self.path, self.stamp)
        self.bar.set_postfix_str(", ".join(filter(None, (at and _latest(at), how))))
        self.ended = True


def _latest(at: checkpoint.Progress) -> str:
    name = watched(at.curve)
    return f"{name} {np.mean(at.curve[name][-1]):.4g}" if name else ""


# ---- learning curves -------------------------------------------------------------------------------------------------


def curves(experiment: Experiment, folder: Path) -> str:
    """How far each seed is, and how it learns, as text of 80 columns, by the checkpoints in `folder`.

    Raises OSError for a checkpoint that cannot be read.
    """
    units = experiment.seeds[:1] if experiment.together else experiment.seeds
    found = {seed: checkpoint.glance(checkpoint.place(folder, experiment.name, seed), fingerprint(experiment)) for seed in units}
    lines, learned = [], {}
    for seed, at in found.items():
        who = "all seeds" if experiment.together else f"seed {seed}"
        if at is None:
            lines.append(f"{who:10} no checkpoint")
            continue
        left = f", about {duration((at.chunks - at.chunk) * at.seconds / at.chunk / 60)} left" if 0 < at.chunk < at.chunks else ""
        lines.append(f"{who:10} {at.chunk} of {at.chunks or '?'} chunks in {duration(at.seconds / 60)}{left}  {_latest(at)}")
        if name := watched(at.curve):
            values = np.asarray(at.curve[name])
            learned |= dict(zip(experiment.seeds, values.T)) if experiment.together else {seed: values}
    if learned:
        name = watched(next(at.curve for at in found.values() if at))
        lines += ["", f"{name} by chunk; a seed is drawn by its last digit, several in one place by *", *chart(learned)]
    return "\n".join([experiment.name, *lines])


def chart(series: dict[int, np.ndarray]) -> list[str]:
    """Curves as lines of text: {seed: (chunks,) numbers}, not all of one length; the first chunk on the left, the largest number on top.

    What is wider than `WIDTH` is drawn by the mean of neighboring chunks.
    """
    longest = max(map(len, series.values()))
    width = min(longest, WIDTH)
    columns = {
        seed: [np.mean(values[a:b]) for a, b in zip(edges, edges[1:])]
        for seed, values in series.items()
        for edges in [[x for x in np.linspace(0, longest, width + 1).round().astype(int) if x <= len(values)]]
    }
    low, high = (f(np.concatenate(list(columns.values()))) for f in (np.min, np.max))
    grid = [[" "] * width for _ in range(HEIGHT)]
    for seed, values in columns.items():
        for x, value in enumerate(values):
            y = round((high - value) / (high - low) * (HEIGHT - 1)) if high > low else HEIGHT // 2
            grid[y][x] = str(seed % 10) if grid[y][x] == " " else "*"
    labels = {0: f"{high:.4g}", HEIGHT - 1: f"{low:.4g}"} if high > low else {HEIGHT // 2: f"{high:.4g}"}
    return [f"{labels.get(y, ''):>11} |{''.join(row).rstrip()}" for y, row in enumerate(grid)] + [f"{'':11} +{'-' * width} {longest}"]
