"""One table a step: every way to take it, beside its floor."""

import json
import re
from pathlib import Path

from benchmarks.clock import Case, Timing, floor_seconds

RECEIPTS = Path(__file__).parent / "receipts"


def keep(receipt: dict, name: str) -> None:
    """Write a receipt under `benchmarks/receipts`, by its machine and the name of what was timed."""
    slug = re.sub(r"[^a-z0-9]+", "-", receipt["machine"].lower()).strip("-")
    RECEIPTS.mkdir(exist_ok=True)
    (RECEIPTS / f"{slug}-{name}.json").write_text(json.dumps(receipt, indent=1) + "\n")


def rows(cases: dict[str, Case], timings: dict[str, Timing], floor: dict, measured: dict) -> list[dict]:
    """A row for each case: milliseconds a step, the floor, how many times the floor, and the first call's seconds."""
    made = []
    for name, case in cases.items():
        least, unit = floor_seconds(floor, measured, case.precision)
        t = timings[name]
        row = {"way": name, "ms": 1e3 * t.median, "fastest_ms": 1e3 * t.fastest, "slowest_ms": 1e3 * t.slowest, "runs": t.runs}
        made.append(row | {"floor_ms": 1e3 * least, "floor_set_by": unit, "times_floor": t.median / least, "first_call_s": t.first})
    return [{key: float(f"{v:.4g}") if isinstance(v, float) else v for key, v in row.items()} for row in made]


def text(title: str, table: list[dict], notes: list[str]) -> str:
    """The table as it is printed; the last column says how many times faster a way is than PyTorch's fastest, by medians."""
    best = min((row["ms"] for row in table if row["way"].startswith("PyTorch")), default=None)
    against = lambda row: f"{best / row['ms']:.2f}" if best else "-"
    heads = ("way", "ms a step", "fastest", "floor", "x floor", "first call, s", "PyTorch's best / this")
    shown = {"ms": ".2f", "fastest_ms": ".2f", "floor_ms": ".2f", "times_floor": ".1f", "first_call_s": ".1f"}
    body = [(row["way"], *(format(row[key], digits) for key, digits in shown.items()), against(row)) for row in table]
    widths = [max(len(line[k]) for line in [heads, *body]) for k in range(len(heads))]
    line = lambda cells: "  ".join([cells[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells[1:], widths[1:]))]).rstrip()
    return "\n".join([title, "", line(heads), line(["-" * w for w in widths]), *map(line, body), "", *notes])
