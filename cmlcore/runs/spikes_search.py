"""How the settings of the experiments on spikes were chosen: the same number of trials for every row, on validation waves; of this book.

A trial learns from 300 waves (a quarter of what a row gets) with two seeds that no row has, and is judged on 50 validation waves. All
trials of a row are one compiled program. `searches/spikes.json` lists what was tried. Run it with: python -m cmlcore.runs.spikes_search
"""

import json
import time

import jax
import jax.numpy as jnp
import numpy as np

from cmlcore.estimate import unwatched
from cmlcore.runs import spikes
from cmlcore.runs.searches import go_on
from cmlcore.runs.spikes import Rule, Scratch, Through

SEEDS, CHUNKS, WAVES = (100, 101), 3, 50
STEPS = CHUNKS * spikes.CHUNK

RULE = tuple(
    spikes.RULE._replace(inner_rate=inner, nudged_rate=inner / 3, pull=pull, outer_rate=outer, beta=beta, outer_steps=STEPS)
    for inner, pull, outer, beta in (
        (0.003, 0.1, 0.01, 1.0), (0.01, 0.03, 0.01, 1.0), (0.01, 0.1, 0.01, 1.0), (0.01, 0.3, 0.01, 1.0),
        (0.01, 0.1, 0.03, 1.0), (0.01, 0.1, 0.01, 0.3), (0.03, 0.1, 0.01, 1.0), (0.03, 0.3, 0.03, 1.0),
    )
)  # fmt: skip
GRID = tuple((inner, outer) for inner in (0.0003, 0.001, 0.003, 0.01) for outer in (0.003, 0.01))
THROUGH = tuple(spikes.THROUGH._replace(inner_rate=inner, outer_rate=outer, outer_steps=STEPS) for inner, outer in GRID)
LAST = tuple(one._replace(inner_steps=spikes.LAST.inner_steps, last=spikes.LAST.last) for one in THROUGH)
SCRATCH = tuple(Scratch(60, rate) for rate in (0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.03, 0.05))

ROWS = {
    "rule-eprop": (RULE, lambda s: spikes.rule_of(s, spikes.by_eprop)),
    "rule-bptt": (RULE, lambda s: spikes.rule_of(s, spikes.by_backprop)),
    "rule-random": (RULE, lambda s: spikes.rule_of(s, spikes.by_random_feedback)),
    "through-bptt": (THROUGH, lambda s: spikes.through_of(s, spikes.by_backprop)),
    "through-eprop": (THROUGH, lambda s: spikes.through_of(s, spikes.by_open_eprop)),
    "truncated-eprop": (LAST, lambda s: spikes.through_of(s, spikes.by_open_eprop)),
    "scratch": (SCRATCH, spikes.scratch_of),
}


def _errors(settings: Rule | Through | Scratch, build) -> jax.Array:
    """Errors of one trial's seeds on the validation waves, (seeds, waves); the settings' floats may be traced."""

    def one(seed):
        if isinstance(settings, Scratch):
            (problem, learner), theta = build(settings), spikes.start_of(seed)
        else:
            problem, estimator, learner = build(settings)
            begin, chunk = spikes.advancing(problem, unwatched(estimator), settings)
            theta = jax.lax.fori_loop(0, CHUNKS, lambda _, state: chunk(state)[0], begin(seed)).theta
        return spikes.examined(problem, learner, theta, spikes.VALIDATION, WAVES)["error"]

    return jax.vmap(one)(jnp.asarray(SEEDS))


def search(kind: str, report=print) -> list[dict]:
    """All trials of one row: settings, error, the error of each seed. Not a number is reported as the worst there is."""
    trials, build = ROWS[kind]
    names = [name for name, value in trials[0]._asdict().items() if isinstance(value, float)]
    began = time.monotonic()
    numbers = {name: jnp.asarray([getattr(trial, name) for trial in trials]) for name in names}
    found = np.asarray(jax.jit(jax.vmap(lambda given: _errors(trials[0]._replace(**given), build)))(numbers)).mean(-1)
    found = np.where(np.isfinite(found), found, np.finfo(np.float32).max)
    tried = [
        {"settings": trial._asdict(), "error": round(float(each.mean()), 4), "each_seed": [round(float(e), 4) for e in each]}
        for trial, each in zip(trials, found)
    ]
    for one in tried:
        report(kind, json.dumps(one), flush=True)
    report(f"{kind}: {time.monotonic() - began:.0f} s", flush=True)
    return tried


def main(kinds=tuple(ROWS)) -> None:
    """Search all rows that were not searched yet."""
    go_on("spikes", kinds, search, {"seeds": SEEDS, "outer_steps": STEPS, "waves": WAVES})


if __name__ == "__main__":
    main()
