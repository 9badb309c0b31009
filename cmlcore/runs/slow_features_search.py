"""How the outer rates of the experiments on slow features were chosen: four trials each, on validation characters; of this book.

A trial is a short training with a seed that no row has, its rate decaying to zero at its own end, judged by its 20-way 1-shot accuracy on validation characters.
The other estimators of the same meta-gradient take the rate of `symmetric`.
`FOUND` lists what was tried. Run it with: python -m cmlcore.runs.slow_features_search [ROW ...]
"""

import json
import sys
import time
from pathlib import Path

from cmlcore.runs import slow_features as rows
from cmlcore.runs.slow_features import Features

FOUND = Path(__file__).parent / "searches" / "slow-features.json"
SEED, STEPS, EPISODES = 100, 600, 400
RATES = (0.001, 0.003, 0.01, 0.03)
SHORT = Features(mirrored=True, outer_steps=STEPS, average_after=STEPS - 100, chunk=STEPS, validation_episodes=EPISODES)
ROWS = {
    "symmetric": (rows.train_symmetric, SHORT),
    "unrolled": (rows.train_unrolled, SHORT),
    "direct": (rows.train_direct, SHORT),
    "prototypes": (rows.train_prototypes, SHORT),
}


def trial(build, settings: Features) -> dict:
    """What one setting came to: the settings, the accuracy on validation episodes, the seconds."""
    began, training = time.monotonic(), build(settings)
    _, curve = training.advance(training.start(SEED))
    return {"settings": settings._asdict(), "accuracy": round(float(curve["validation"]), 4), "seconds": round(time.monotonic() - began)}


def main(kinds) -> None:
    """All trials of the rows that `FOUND` does not have; each is written when it is done."""
    for kind in kinds or ROWS:
        build, base = ROWS[kind]
        for rate in RATES:
            found = json.loads(FOUND.read_text()) if FOUND.exists() else {}
            if all(one["settings"]["outer_rate"] != rate for one in found.get(kind, [])):
                tried = trial(build, base._replace(outer_rate=rate))
                print(kind, rate, tried["accuracy"], tried["seconds"], flush=True)
                found = json.loads(FOUND.read_text()) if FOUND.exists() else {}
                found.setdefault(kind, []).append(tried)
                FOUND.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
