"""How the outer rates of the experiments on slow features were chosen: four trials each, on validation characters; of this book.

A trial is a short training with a seed that no row has, its rate decaying to zero at its own end, judged by its 20-way 1-shot accuracy. The other
estimators of the same meta-gradient take the rate of `symmetric`. Run it with: python -m cmlcore.runs.slow_features_search [ROW ...]
"""

import json
import sys
import time

from cmlcore.runs import slow_features as rows
from cmlcore.runs.searches import go_on
from cmlcore.runs.slow_features import Features

SEED, STEPS, EPISODES = 100, 600, 400
RATES = (0.001, 0.003, 0.01, 0.03)
SHORT = Features(mirrored=True, outer_steps=STEPS, average_after=STEPS - 100, chunk=STEPS, validation_episodes=EPISODES)
ROWS = {"symmetric": rows.train_symmetric, "unrolled": rows.train_unrolled, "direct": rows.train_direct, "prototypes": rows.train_prototypes}


def search(kind: str, report=print) -> list[dict]:
    """All trials of one row: settings, the accuracy on validation episodes, the seconds."""
    tried = []
    for rate in RATES:
        settings, began = SHORT._replace(outer_rate=rate), time.monotonic()
        training = ROWS[kind](settings)
        _, curve = training.advance(training.start(SEED))
        tried.append({"settings": settings._asdict(), "accuracy": round(float(curve["validation"]), 4), "seconds": round(time.monotonic() - began)})
        report(kind, json.dumps(tried[-1]), flush=True)
    return tried


if __name__ == "__main__":
    go_on("slow-features", sys.argv[1:] or ROWS, search, {"seed": SEED, "outer_steps": STEPS, "episodes": EPISODES})
