"""What an experiment costs, on two cores of a CPU and on a GPU: counted, reckoned or measured; of this book."""

import math
from typing import NamedTuple

CORES = 2  # of the machine that the book's own runs were made on
CORE, GPU = 5e10, 2e13  # operations a second that times are reckoned with: one core (measured on convolutions), a GPU (assumed)


class Cost(NamedTuple):
    """What one unit of work is expected to cost: a seed, or all seeds where they run together.

    minutes:    on one core. What a receipt has measured takes its place.
    hours:      on a GPU; None for short steps in a row, in which a GPU has too little to do.
    operations: as counted; None where nobody did.
    """

    minutes: float
    hours: float | None = None
    operations: float | None = None

    def __str__(self) -> str:
        count = "" if self.operations is None else f"about {self.operations:.0e} operations, "
        gpu = "too small for a GPU" if self.hours is None else f"{duration(60 * self.hours)} on a GPU"
        return f"{count}{duration(self.minutes)} on one core, {gpu}"


def counted(operations: float) -> Cost:
    """The cost of so many operations at the rates that this module assumes."""
    return Cost(operations / CORE / 60, operations / GPU / 3600, operations)


def duration(minutes: float) -> str:
    """Minutes in words that fit a narrow column: `30 s`, `12 min`, `3.4 h`, `28 days`."""
    if minutes < 1:
        return f"{max(1, round(60 * minutes))} s"
    if minutes < 99.5:
        return f"{minutes:.0f} min"
    hours = minutes / 60
    return f"{hours:.1f} h" if hours < 9.95 else f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} days"


def units(experiment) -> int:
    """How many units of work an `Experiment` has."""
    return 1 if experiment.together else len(experiment.seeds)


def on_cores(experiment, receipt: dict | None = None) -> float:
    """Minutes that all seeds take on two cores, one seed a core; by its receipt if there is one."""
    count = units(experiment)
    each = experiment.cost.minutes if receipt is None else sum(receipt["seconds"]) / count / 60
    return each * math.ceil(count / CORES)


def on_gpu(experiment) -> float | None:
    """Hours that all seeds take on a GPU, one after the other; None where it has too little to do."""
    return None if experiment.cost.hours is None else units(experiment) * experiment.cost.hours
