"""The runs on rewards: killed and resumed, in learning and in a game; settings from the search alone."""

import jax
import numpy as np
import pytest

from cmlcore.bandits import bandit
from cmlcore.data import wheel as wheels
from cmlcore.runs import rewards
from cmlcore.runs import rewards_search as searched
from cmlcore.runs.experiment import run_seed


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Games of 400 trials in chunks of 100, priors of four outer steps in chunks of two."""
    for name, value in {"TRIALS": 400, "STRETCHES": 2, "CHUNK": 2, "UPDATES": 3}.items():
        monkeypatch.setattr(rewards, name, value)


def row(build, settings):
    return rewards._row("test", "a test", settings, build, "none")._replace(seeds=(0, 1))


ROWS = {
    "learned prior, single precision": lambda: row(rewards.train_omega, rewards.RULE._replace(outer_steps=4)),
    "posteriors in double precision": lambda: row(rewards.train_lin_full_post, rewards.Unprepared(0.0, 0.0)),
}


class Killed(Exception):
    pass


@pytest.mark.parametrize("name", ROWS)
def test_killed_and_resumed_gives_the_same_numbers(tmp_path, name):
    """The report comes after a checkpoint: a run that dies there, at every chunk in turn, goes on to the bits of one that never died."""
    whole = run_seed(ROWS[name](), 0, tmp_path / "whole", report=lambda line: None)
    said, killed_at = [], set()

    def report(line):
        said.append(line)
        if "left" in line and line not in killed_at and (at := line.split(":")[1].split()[0]) not in killed_at:
            killed_at.add(at)
            raise Killed

    for _ in range(20):
        try:
            again = run_seed(ROWS[name](), 0, tmp_path / "killed", report=report)
            break
        except Killed:
            pass
    chunks = ROWS[name]().build(ROWS[name]().settings).chunks
    assert len(killed_at) == chunks and sum("resumed" in line for line in said) == chunks
    for key, values in whole.scores.items():
        np.testing.assert_array_equal(values, again.scores[key])
    assert whole.curve == again.curve and len(again.curve["game"]) == 4


def test_a_row_s_scores_are_percent_of_uniform(tmp_path):
    """Always the quadrant's arm loses what the closed form says, and the opening; on its last wheel little is uncertain."""
    outcome = run_seed(row(rewards.train_bold, rewards.Unprepared(0.0, 0.0)), 0, tmp_path, report=lambda line: None)
    scores = outcome.scores
    assert scores["regret"].shape == (2, 5) and scores["delta 0.99"].shape == (2, 1)
    never = 100 * wheels.bold_regret(0.99) / wheels.uniform_regret(0.99)
    assert scores["delta 0.99"].mean() == pytest.approx(float(never), abs=3 * 100 * 10 / rewards.TRIALS)
    np.testing.assert_array_equal(scores["delta 0.9"], scores["regret"][:, 2:3])


def test_games_are_the_same_for_all_rows():
    seeds = jax.numpy.arange(2)
    first, second = (rewards.opened(lambda theta: agent, seeds, seeds, rewards.DELTAS, rewards.TEST) for agent in (bandit.bold(), bandit.uniform()))
    np.testing.assert_array_equal(*(jax.random.key_data(games.key) for games in (first, second)))


# ---- the search ------------------------------------------------------------------------------------------------------

FOUND = rewards.SEARCHED["rows"]


def test_every_row_got_as_many_trials_and_none_on_the_test():
    assert {*searched.PREPARED, *searched.UNPREPARED} == set(FOUND)
    assert {len(found["trials"]) for found in FOUND.values()} == {16}
    assert not set(searched.SEEDS) & set(range(10)) and not set(searched.DELTAS) & set(rewards.DELTAS) and searched.VALIDATION != rewards.TEST


@pytest.mark.parametrize("name", FOUND)
def test_a_row_has_the_settings_that_its_search_found_best(name):
    finals = FOUND[name]["finals"]
    best = sorted(trial["regret"] for trial in FOUND[name]["trials"])[: len(finals)]
    told = [next(t["regret"] for t in FOUND[name]["trials"] if t["settings"] == final["settings"]) for final in finals]
    assert sorted(told) == best
    experiment = next(e for e in rewards.EXPERIMENTS if e.name == f"rewards-{name}")
    assert experiment.settings._asdict() == min(finals, key=lambda final: final["regret"])["settings"]
