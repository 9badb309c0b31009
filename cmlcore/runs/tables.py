"""Receipts as tables and sentences of the book: no number of a full run is typed by hand in this book."""

from typing import NamedTuple

from cmlcore.runs import receipts
from cmlcore.runs.catalog import find


class Table(NamedTuple):
    """A Markdown table that a notebook shows as a table and a terminal as text."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def _repr_markdown_(self) -> str:
        lines = [self.header, tuple("---" for _ in self.header), *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def __repr__(self) -> str:
        widths = [max(len(row[i]) for row in (self.header, *self.rows)) for i in range(len(self.header))]
        return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in (self.header, *self.rows))


def plus_minus(mean: float, half: float | None) -> str:
    """`mean ± half` at three decimals; the mean alone where there is no interval."""
    return f"{mean:.3f}" if half is None else f"{mean:.3f} ± {half:.3f}"


def comparison(rows: dict[str, str]) -> Table:
    """A table of full runs beside the published figures; `rows` maps what a row is called to an experiment's name.

    An experiment that has not been run says that it waits, and what it would cost; a stale receipt raises.
    """
    body = []
    for label, name in rows.items():
        figure = find(name).figure
        published = "none" if figure is None else plus_minus(figure["value"], figure["plus_minus"])
        try:
            result = receipts.read(name)["result"]
        except receipts.WaitingReceipt:
            body.append((label, f"waiting: {find(name).cost}", "", "", "", published))
            continue
        mean = plus_minus(result["mean"], result["over_seeds"])
        over_tasks, median = f"± {result['over_tasks']:.3f}", f"{result['median']:.3f}"
        body.append((label, mean, over_tasks, median, f"{result['spread_over_tasks']:.3f}", published))
    header = ("", "mean ± 95 % over seeds", "95 % over tasks, one seed", "median task", "spread over tasks (std)", "published")
    return Table(header, tuple(body))


def provenance(name: str) -> str:
    """One sentence on where a full run's figure comes from: seeds, tasks, device, versions, time."""
    receipt = receipts.read(name)
    minutes = sum(receipt["seconds"]) / 60
    return (
        f"{name}: {len(receipt['seeds'])} seeds, {receipt['result']['tasks']} test tasks each, on {receipt['device']}, "
        f"jax {receipt['versions']['jax']}, {minutes:.0f} minutes of computing in all."
    )
