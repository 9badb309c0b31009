"""How the settings of the experiments on rewards were chosen: a search on validation wheels, with seeds that no row plays; of this book.

Every row gets sixteen trials: four priors times four ways to play, or, without a prior, sixteen ways to play. A trial is four seeds on
three wheels, 2,000 pulls each; the two best of a row play 8,000 pulls, and the better of those is chosen. All of it stands in `searches/rewards.json`, a list of what was tried. Run it with: python -m cmlcore.runs.rewards_search
"""

import json
import time
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cmlcore.data.wheel import uniform_regret
from cmlcore.estimators.first_order import first_order
from cmlcore.estimators.unroll import unrolled
from cmlcore.runs import rewards
from cmlcore.runs.rewards import Prior, Start, Unprepared
from cmlcore.runs.searches import go_on

SEEDS = tuple(range(100, 104))
DELTAS = (0.6, 0.85, 0.97)
VALIDATION = 12345
TRIALS, LONGER, FINALISTS = 2000, 8000, 2


def _rule(free, nudged, inner_rate, beta, pull, outer_steps, outer_rate) -> Prior:
    return Prior(free, nudged, inner_rate, beta, pull, outer_steps, 5, outer_rate, 10.0, 0.0, 0.0, 0, 0)


def _start(steps, rate, outer_steps, outer_rate) -> Start:
    return Start(steps, rate, outer_steps, 5, outer_rate, 10.0, 0.0)


# A row's priors take about as many gradients: 60,000 a seed.
SYNAPSES = (
    _rule(5, 5, 0.2, 0.1, 1.0, 750, 0.01),
    _rule(5, 5, 0.2, 0.1, 1.0, 750, 0.03),
    _rule(5, 5, 0.2, 1.0, 1.0, 750, 0.01),
    _rule(5, 5, 0.1, 0.1, 0.3, 750, 0.01),
)
MODULATED = (
    _rule(5, 5, 0.2, 0.1, 1.0, 750, 0.01),
    _rule(5, 5, 0.2, 0.1, 1.0, 750, 0.03),
    _rule(5, 5, 0.1, 0.1, 0.1, 750, 0.01),
    _rule(5, 5, 0.1, 1.0, 0.3, 750, 0.01),
)
MAML = tuple(_start(3, rate, 900, outer_rate) for rate, outer_rate in ((0.1, 0.01), (0.1, 0.03), (0.2, 0.01), (0.03, 0.03)))
FIRST_ORDER = tuple(_start(3, rate, 3000, outer_rate) for rate, outer_rate in ((0.1, 0.01), (0.1, 0.003), (0.2, 0.01), (0.03, 0.01)))
PULLED = tuple((rate, times) for rate in (1e-4, 1e-3) for times in (1.0, 0.1))
FREE = tuple((rate,) for rate in (3e-5, 1e-4, 3e-4, 1e-3))
RATES = (1e-4, 1.5e-4, 2e-4, 3e-4, 5e-4, 7e-4, 1e-3, 1.5e-3, 2e-3, 3e-3, 5e-3, 7e-3, 0.01, 0.015, 0.02, 0.03)


class Row(NamedTuple):
    """What is tried for a row. priors: settings without game_rate and game_pull; build: `settings -> (network that learns, estimator)`;
    games: values of the last settings; player: `(settings, *values) -> network that plays`."""

    priors: tuple
    build: Any
    games: tuple
    player: Any


def _gradient(settings: Start, kind):
    return kind(rewards._descent(settings.inner_rate, settings.inner_steps))


PREPARED = {
    "omega": Row(SYNAPSES, lambda s: (rewards.omega(s.pull), rewards.by_the_rule(s)), PULLED, lambda s, rate, times: rewards.omega(s.pull * times)),
    "synapses": Row(SYNAPSES, lambda s: (rewards.synapses(s.pull), rewards.by_the_rule(s)), PULLED, lambda s, rate, times: rewards.synapses(s.pull, times)),
    "modulated": Row(MODULATED, lambda s: (rewards.top_down(s.pull), rewards.by_the_rule(s)), PULLED, lambda s, rate, times: rewards.top_down(s.pull * times)),
    "maml": Row(MAML, lambda s: (rewards.WITHOUT, _gradient(s, unrolled)), FREE, lambda s, rate: rewards.WITHOUT),
    "first-order": Row(FIRST_ORDER, lambda s: (rewards.WITHOUT, _gradient(s, first_order)), FREE, lambda s, rate: rewards.WITHOUT),
}
UNPREPARED = {"scratch": rewards.scratch, "neural-greedy": rewards.neural_greedy, "neural-linear": rewards.neural_linear}


def learner(build):
    """`settings -> thetas` of all seeds after `settings.outer_steps` outer steps, a tree with a leading axis of the seeds.

    One program for all settings with the same counts: the other numbers are its arguments.
    """

    @partial(jax.jit, static_argnums=0)
    def learned(counts, numbers):
        settings = counts._replace(**numbers)

        def one(seed):
            begin, step = rewards.outer_loop(*build(settings), settings)
            return jax.lax.fori_loop(0, settings.outer_steps, lambda _, s: step(s)[0], begin(seed)).theta

        return jax.vmap(one)(jnp.asarray(SEEDS))

    def split(settings):
        numbers = {key: value for key, value in settings._asdict().items() if isinstance(value, float)}
        return learned(settings._replace(**dict.fromkeys(numbers)), numbers)

    return split


def regrets(make):
    """`(trials, thetas, *values) -> (seeds, wheels)`: regret after so many trials in % of uniform's; make: `(theta, *values) -> Agent`.

    Games go on by TRIALS a call: one program for short games and for long ones.
    """
    open_all = jax.jit(lambda thetas, *values: rewards.opened(lambda theta: make(theta, *values), thetas, jnp.asarray(SEEDS), DELTAS, VALIDATION))
    go_on = jax.jit(
        lambda games, thetas, *values: rewards.played_on(lambda theta: make(theta, *values), thetas, games, DELTAS, TRIALS // rewards.RULES.every)[0]
    )

    def play(trials, thetas, *values):
        games = open_all(thetas, *values)
        for _ in range(trials // TRIALS):
            games = go_on(games, thetas, *values)
        return 100 * np.asarray(games.regret, np.float64) / (trials * np.asarray(uniform_regret(np.array(DELTAS))))

    return play


def _trial(kind: str, settings, found: np.ndarray, began: float) -> dict:
    each = found.mean(1)
    return {"row": kind, "settings": settings._asdict(), "regret": round(float(each.mean()), 3),
            "each_seed": [round(float(e), 3) for e in each], "each_wheel": [round(float(w), 3) for w in found.mean(0)],
            "seconds": round(time.monotonic() - began, 1)}  # fmt: skip


def search(kind: str, report=print) -> dict:
    """All trials of one row, in order, and its finals: {"trials": [...], "finals": [...]}."""
    tried = []

    def note(settings, play):
        began = time.monotonic()
        tried.append((_trial(kind, settings, play(TRIALS), began), settings, play))
        report(json.dumps(tried[-1][0]), flush=True)

    with jax.enable_x64(kind == "neural-linear"):
        if kind in PREPARED:
            row = PREPARED[kind]
            # The pull is a number like the rate: one program plays all settings of a row.
            play = regrets(lambda theta, pull, rate, *times: rewards.network_agent(row.player(_Pull(pull), rate, *times), theta, rate))
            learn = learner(row.build)
            for settings in row.priors:
                thetas = learn(settings)
                for values in row.games:
                    given = thetas, getattr(settings, "pull", 0.0), *values
                    note(settings._replace(**dict(zip(("game_rate", "game_pull"), values))), partial(_later, play, given))
        else:
            thetas = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(0), seed))(jnp.asarray(SEEDS))
            play = regrets(UNPREPARED[kind])
            for rate in RATES:
                note(Unprepared(rate, 0.0), partial(_later, play, (thetas, rate)))
        finals = []
        for _, settings, play in sorted(tried, key=lambda one: one[0]["regret"])[:FINALISTS]:
            began = time.monotonic()
            finals.append(_trial(kind, settings, play(LONGER), began))
            report("final " + json.dumps(finals[-1]), flush=True)
    return {"trials": [trial for trial, *_ in tried], "finals": finals}


def _later(play, given, trials):
    return play(trials, *given)


class _Pull(NamedTuple):
    pull: Any


def main(kinds=(*PREPARED, *UNPREPARED)) -> None:
    """Search all rows that were not searched yet."""
    go_on("rewards", kinds, search, {"seeds": SEEDS, "deltas": DELTAS, "trials_a_game": TRIALS, "trials_a_final": LONGER})


if __name__ == "__main__":
    main()
