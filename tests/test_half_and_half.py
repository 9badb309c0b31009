"""Half of a training set held out: the warm-started run in small, one budget, one search, settings that were found and not typed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmlcore.runs import half_and_half, half_and_half_search, halves
from cmlcore.runs import hyperparameters as runs
from cmlcore.runs.catalog import CATALOG
from cmlcore.runs.experiment import Experiment, run_seed
from cmlcore.runs.searches import searched

SHARED = set(halves.Halves._fields) - {"steps", "rate", "beta", "look_at", "cold", "strength", "outer_rate"}
SMALL = halves.Halves(
    10, 30, 0.01, "sgd", first_steps=40, free_steps=20, final_steps=60, free_rate=0.1, batch=0, outer_steps=12, outer_rate=0.3, steps=30, rate=0.1, beta=0.5
)


@pytest.fixture(scope="module")
def world():
    """Points in four dimensions and three classes, 40 to learn from and 30 to test; a linear network."""
    x = np.random.default_rng(0).normal(size=(70, 4)).astype(np.float32)
    labels = np.int32(np.argmax(x[:, :3] + 0.3 * x[:, 1:], axis=-1))
    init = lambda key: {"w": 0.1 * jax.random.normal(key, (4, 3)), "b": jnp.zeros(3)}
    part = lambda rows: runs.Examples(x[rows], labels[rows])
    return runs.World(part(slice(40)), part(slice(40, 70)), lambda x: x, init, lambda phi, x: x @ phi["w"] + phi["b"])


def outcome(world, folder, rule="matched", **changes):
    settings = SMALL._replace(**{"steps": 5} if rule == "cg" else {})._replace(**changes)
    experiment = Experiment("small", "A test.", settings, halves.by_rule(rule, lambda: world), (0,), ("accuracy", "share"), None, "none")
    return run_seed(experiment, 0, folder, report=lambda line: None)


@pytest.mark.parametrize("rule", ["matched", "cg", "identity"])
def test_a_warm_start_lowers_the_held_out_loss(rule, world, tmp_path):
    found = outcome(world, tmp_path, rule)
    held = found.curve["held_loss"]
    assert len(held) == SMALL.outer_steps and held[-1] < held[0]
    assert found.scores["accuracy"].shape == (30,) and found.scores["bytes"] > 0 and "cosine" not in found.scores


def test_warm_weights_that_have_come_to_rest_give_the_gradient_of_cold_ones(world, tmp_path):
    """The linear network has one minimum for each theta: whoever reaches it has forgotten the start."""
    found = outcome(world, tmp_path, cold=True, free_steps=400, final_steps=2000, steps=400, strength=0.1, outer_steps=3)
    assert found.scores["cosine"] == pytest.approx(1, abs=1e-3)
    assert found.scores["warm_loss"] == pytest.approx(float(found.scores["cold_loss"][0]), rel=1e-3)


def test_without_meta_learning_there_are_the_same_images_and_steps():
    for source, of in half_and_half.SOURCES.items():
        for experiment in half_and_half.EXPERIMENTS:
            if experiment.name == f"halves-{source}-none":
                fixed = experiment.settings
                assert fixed.free_steps == of.settings.final_steps and (fixed.train, fixed.batch) == (of.settings.train, of.settings.batch)


@pytest.mark.parametrize("source", list(half_and_half.SOURCES))
def test_all_methods_of_a_source_have_one_budget_of_inner_steps(source):
    rows = half_and_half.rows(source)
    assert rows.keys() == runs.RULES.keys()
    assert len({tuple(getattr(row, field) for field in sorted(SHARED)) for row in rows.values()}) == 1
    assert [rule for rule, row in rows.items() if row.cold] == [half_and_half.COLD]


def test_a_listed_row_has_the_best_of_four_trials_and_every_search_is_of_a_row():
    tried = searched("half-and-half")["rows"]
    assert tried.keys() <= set(half_and_half_search.all_rows())
    listed = {experiment.name: experiment for experiment in CATALOG}
    for name, trials in tried.items():
        assert len({(one["settings"]["strength"], one["settings"]["outer_rate"]) for one in trials}) == 4, name
        best = min(trials, key=lambda one: one["held_loss"])["settings"]
        settings = listed[f"halves-{name}"].settings
        assert (settings.strength, settings.outer_rate) == (best["strength"], best["outer_rate"]), name
        assert settings._replace(outer_steps=half_and_half_search.OUTER_STEPS) == halves.Halves(**best), name
