"""How the first strength and the outer rate of the rows with half a training set held out were chosen: four trials for every row; of this book.

A trial has eight of a row's outer steps and a seed that no row has; it is judged by its last held-out loss. Run it with:
python -m cmlcore.runs.half_and_half_search [ROW ...]
"""

import json
import sys
import time

from cmlcore.runs.half_and_half import SOURCES, rows
from cmlcore.runs.halves import by_rule
from cmlcore.runs.searches import go_on

SEED, OUTER_STEPS = 100, 8
OUTER_RATES, FACTORS = (0.1, 0.3), (1.0, 10.0)  # factors of the source's first strength


def all_rows() -> list[str]:
    """Every row that learns strengths, by the name that the search gives it."""
    return [f"{source}-{rule}" for source in SOURCES for rule in rows(source)]


def search(name: str, report=print) -> list[dict]:
    """All trials of one row: settings, the held-out loss, the seconds."""
    source, rule = name.split("-", 1)
    one, tried = rows(source)[rule]._replace(outer_steps=OUTER_STEPS), []
    for outer_rate in OUTER_RATES:
        for factor in FACTORS:
            settings, began = one._replace(outer_rate=outer_rate, strength=one.strength * factor), time.monotonic()
            training = by_rule(rule, SOURCES[source].world)(settings)
            state = training.start(SEED)
            for _ in range(training.chunks):
                state, info = training.advance(state)
            tried.append({"settings": settings._asdict(), "held_loss": round(float(info["held_loss"]), 4), "seconds": round(time.monotonic() - began)})
            report(name, json.dumps(tried[-1]), flush=True)
    return tried


if __name__ == "__main__":
    go_on("half-and-half", sys.argv[1:] or all_rows(), search, {"seed": SEED, "outer_steps": OUTER_STEPS})
