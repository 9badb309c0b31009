"""How the outer rates of the experiments with all weights fast were chosen: four trials for every row, on validation characters; of this book.

A trial has the operations of one of `cmlcore.runs.slow_features_search`, a seed that no row has, and is judged as there. The symmetric and the one-sided
rule, and the one that learns a strength for every layer, take the rate of `matched`. Run it with: python -m cmlcore.runs.fast_weights_search [ROW ...]
"""

import json
import sys
import time

from cmlcore.runs import fast_weights as rows
from cmlcore.runs.searches import go_on
from cmlcore.runs.slow_features_search import EPISODES, RATES, SEED, STEPS

SEARCHED = ("matched", "maml", "first-order", "reptile", "imaml-gd", "imaml-hf")
FRACTIONS = (0.1, 0.3, 0.5, 1.0)  # of the way, for Reptile, in the place of rates


def search(kind: str, report=print) -> list[dict]:
    """All trials of one row: settings, the accuracy on validation episodes, the seconds."""
    tried = []
    for rate in FRACTIONS if kind == "reptile" else RATES:
        short = rows.within(kind, STEPS)
        settings, began = short._replace(outer_rate=rate, chunk=short.outer_steps, validation_episodes=EPISODES), time.monotonic()
        training = rows.METHODS[kind][0](settings)
        _, curve = training.advance(training.start(SEED))
        tried.append({"settings": settings._asdict(), "accuracy": round(float(curve["validation"]), 4), "seconds": round(time.monotonic() - began)})
        report(kind, json.dumps(tried[-1]), flush=True)
    return tried


if __name__ == "__main__":
    go_on("fast-weights", sys.argv[1:] or SEARCHED, search, {"seed": SEED, "operations of slow features, tasks": STEPS, "episodes": EPISODES})
