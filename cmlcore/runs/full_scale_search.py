"""How the outer rates of the experiments at full size were chosen: four trials for every row, on validation classes; of this book.

A trial has the operations of 600 tasks of a fast read-out, a seed that no row has, and a rate that decays to zero at its own end; it is judged by the accuracy that the
tables sort by. Estimators of the same meta-gradient take one rate. Run it with: python -m cmlcore.runs.full_scale_search [ROW ...]
"""

import json
import sys
import time

from cmlcore.runs.full_scale import BY_SOURCE, Row, rows
from cmlcore.runs.searches import go_on

SEED, TASKS, EPISODES = 100, 600, 400
RATES, FRACTIONS = (0.001, 0.003, 0.01, 0.03), (0.1, 0.3, 0.5, 1.0)  # fractions of the way, for Reptile


def all_rows() -> dict[str, Row]:
    """Every row that has a rate of its own, with the operations of a trial."""
    return {name: row for source in BY_SOURCE for name, row in rows(source, TASKS).items() if not row.takes}


def search(name: str, report=print) -> list[dict]:
    """All trials of one row: settings, the accuracy on validation episodes, the seconds."""
    row, tried = all_rows()[name], []
    for rate in FRACTIONS if name.endswith("reptile") else RATES:
        whole = row.settings._replace(chunk=row.settings.outer_steps, validation_episodes=EPISODES)
        settings, began = whole._replace(outer_rate=rate), time.monotonic()
        training = row.build(settings)
        _, curve = training.advance(training.start(SEED))
        tried.append({"settings": settings._asdict(), "accuracy": round(float(curve["validation"]), 4), "seconds": round(time.monotonic() - began)})
        report(name, json.dumps(tried[-1]), flush=True)
    return tried


if __name__ == "__main__":
    go_on("full-scale", sys.argv[1:] or all_rows(), search, {"seed": SEED, "tasks": TASKS, "episodes": EPISODES})
