"""The rows of spiking networks: every one fits together, and the truncated one does what its name says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmlcore.bilevel import Problem, Task
from cmlcore.estimators.unroll import unrolled
from cmlcore.models.eprop import Rate
from cmlcore.models.spiking import init_weights
from cmlcore.runs import spikes, spikes_search
from cmlcore.solve import gradient_descent


@pytest.mark.parametrize("experiment", spikes.EXPERIMENTS, ids=lambda experiment: experiment.name)
def test_every_row_fits_together(experiment):
    """Traced, not run: the state keeps its shape, and every score has one number a seed and wave."""
    training, seeds = experiment.build(experiment.settings), jnp.arange(5)
    state = jax.eval_shape(training.start, seeds)
    if training.chunks:
        assert training.chunks * spikes.CHUNK == experiment.settings.outer_steps
        after, info = jax.eval_shape(training.advance, state)
        assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
        assert {value.shape for value in info.values()} == {(5,)}
    scores = jax.eval_shape(lambda seeds: training.test(seeds, training.start(seeds)), seeds)
    assert experiment.score[0] in scores and {len(value.shape) for value in scores.values()} == {2}


def test_the_last_steps_are_taken_for_all(x64):
    """On L_in = phi^2 / 2 and L_out = (phi - 3)^2 / 2 each step of rate 0.1 leaves 0.9 of phi; the derivative knows two steps of five."""
    problem = Problem(lambda phi, theta, _: phi**2 / 2, lambda phi, theta, _: (phi - 3) ** 2 / 2)
    found = spikes.as_if_started_there(gradient_descent(0.1, 3), gradient_descent(0.1, 2))(problem, jnp.array(2.0), Task())
    end = 2.0 * 0.9**5
    assert float(found.phi) == pytest.approx(end) and float(found.grad) == pytest.approx((end - 3) * 0.9**2)
    whole = spikes.as_if_started_there(gradient_descent(0.1, 0), gradient_descent(0.1, 5))(problem, jnp.array(2.0), Task())
    assert float(whole.grad) == pytest.approx(float(unrolled(gradient_descent(0.1, 5))(problem, jnp.array(2.0), Task()).grad))


def test_random_feedback_is_the_same_for_all_weights_of_a_shape_and_as_strong_as_the_read_out():
    one, other = (spikes.feedback_of(init_weights(jax.random.key(seed), 100, 50)) for seed in (1, 2))
    np.testing.assert_array_equal(one, other)
    strength = float(jnp.std(init_weights(jax.random.key(1), 100, 5000).out))
    assert float(jnp.std(spikes.feedback_of(init_weights(jax.random.key(1), 100, 5000)))) == pytest.approx(strength, rel=0.1)


def test_the_rule_refuses_nothing_and_backpropagation_refuses_the_closed_plug():
    closed = spikes.Through(2, 2, 0.001, 0.9, 20, 1, 0.003, 1.0, 0.0, 0.2)
    problem, rule, _ = spikes.through_of(closed, spikes.by_eprop)
    task = jax.eval_shape(lambda: spikes.spiking_task(jax.random.key(0), 2, 2))
    with pytest.raises(TypeError, match="e-prop gives first derivatives only"):
        jax.eval_shape(lambda task: rule(problem, spikes.start_of(0), task), task)
    problem, rule, _ = spikes.rule_of(spikes.RULE, spikes.by_random_feedback)
    grad = jax.eval_shape(lambda task: rule(problem, spikes.start_of(0), task).grad, task)
    assert grad.into.shape == (100, spikes.NEURONS) and Rate().strength == 0


@pytest.mark.parametrize("kind", spikes_search.ROWS)
def test_a_row_has_the_best_of_its_trials_and_as_many_as_every_other(kind):
    trials, _ = spikes_search.ROWS[kind]
    tried = spikes.SEARCHED["rows"][kind]
    assert [one["settings"] for one in tried] == [trial._asdict() for trial in trials] and len(tried) == 8
    best = min(tried, key=lambda one: one["error"])["settings"]
    settings = next(e for e in spikes.EXPERIMENTS if e.name == f"spikes-{kind}").settings._asdict()
    assert settings | {"outer_steps": None} == best | {"outer_steps": None}
    assert settings.get("outer_steps", 240) == 240 and settings.get("tasks", 5) == 5  # as many waves for every row


def test_a_search_is_of_other_seeds_and_other_waves(monkeypatch):
    assert not set(spikes_search.SEEDS) & set(spikes.EXPERIMENTS[0].seeds) and spikes.VALIDATION != spikes.TEST
    monkeypatch.setattr(spikes_search, "WAVES", 1)
    short = tuple(one._replace(steps=2) for one in spikes_search.ROWS["scratch"][0][:2])
    monkeypatch.setitem(spikes_search.ROWS, "scratch", (short, spikes_search.ROWS["scratch"][1]))
    first, second = spikes_search.search("scratch", report=lambda *words, **_: None)
    assert first["error"] > 0 and first["settings"] == short[0]._asdict() and second["error"] != first["error"]
