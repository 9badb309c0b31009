"""Is one full run better than another? The one standard of this book, for sentences and tables that say so."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cmlcore.runs import receipts
from cmlcore.runs.receipts import half_width
from cmlcore.runs.tables import Table


class Verdict(NamedTuple):
    """What two rows differ by: `gap` is ours minus theirs, `half` half its 95 % interval, paired over seeds (None: no pairs).

    `word` is "lower", "higher" or "level".
    """

    gap: float
    half: float | None
    word: str

    def __str__(self) -> str:
        interval = "" if self.half is None else f" (paired difference {self.gap:+.3f} ± {self.half:.3f})"
        return self.word + interval


def compare(ours: Sequence[float], theirs: Sequence[float], paired: bool) -> Verdict:
    """The verdict on two rows of seeds' means, (n,) and (m,); `paired` where the same place is the same seed.

    A row is lower or higher where the 95 % interval (Student's t) of the paired differences excludes 0, or where the
    intervals of the two means do not meet. Otherwise the rows are level, and so they are with one seed, which has no
    interval. Raises ValueError for paired rows of different lengths, and for rows without values or with values that
    are not finite.
    """
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    if not (ours.ndim == theirs.ndim == 1 and ours.size and theirs.size):
        raise ValueError(f"compare takes two rows of one mean a seed, and got the shapes {ours.shape} and {theirs.shape}.")
    if paired and ours.shape != theirs.shape:
        raise ValueError(f"paired rows need the same seeds, and got {ours.size} and {theirs.size} of them; leave out what has no pair.")
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        raise ValueError("a row has a mean that is not finite: a run that diverged is reported as such, not compared.")
    gap = float(ours.mean() - theirs.mean())
    half = half_width(ours - theirs) if paired else None
    apart = half is not None and abs(gap) > half
    if not apart and min(ours.size, theirs.size) > 1:
        apart = abs(gap) > half_width(ours) + half_width(theirs)
    return Verdict(gap, half, "level" if not apart else "lower" if gap < 0 else "higher")


def verdict(ours: str, theirs: str, score: str | None = None) -> Verdict:
    """The verdict on two experiments by their receipts, in `score` or, without one, in the score of their results.

    Paired where both have the same seeds, and met the same number of test tasks. Raises what `receipts.read` raises,
    KeyError for a score that a receipt lacks, and ValueError where the results are not of one score.
    """
    one, other = receipts.read(ours), receipts.read(theirs)
    if score is None and one["result"]["score"] != other["result"]["score"]:
        raise ValueError(f"{ours} is scored by {one['result']['score']}, {theirs} by {other['result']['score']}: name a score of both.")
    rows = [(receipt["result"] if score is None else receipt["scores"][score])["each_seed"] for receipt in (one, other)]
    paired = one["seeds"] == other["seeds"] and one["result"]["tasks"] == other["result"]["tasks"]
    return compare(*rows, paired)


def beside(rows: dict[str, str], reference: str, called: str, score: str | None = None, scale: float = 1) -> Table:
    """A table of verdicts: each of `rows`, {label: experiment's name}, beside the experiment `reference`, which is `called` so.

    Differences are row minus reference, times `scale` (100: percentage points). A row that waits for its run says so.
    """
    body = []
    for label, name in rows.items():
        try:
            found = verdict(name, reference, score)
        except receipts.WaitingReceipt:
            body.append((label, "waiting", ""))
            continue
        half = "not paired" if found.half is None else f"± {scale * found.half:.3g}"
        body.append((label, f"{scale * found.gap:+.3g} {half}", found.word))
    return Table(("", f"difference from {called}, ± 95 % (paired over seeds)", "so it is"), tuple(body))
