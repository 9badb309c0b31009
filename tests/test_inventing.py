"""What *Invent an alphabet* computes: the network with fixed statistics, the lesson with names that have no drawing, and its settings."""

import jax
import jax.numpy as jnp
import numpy as np

from cmlcore.bilevel import Task, free
from cmlcore.data.alphabets import ALPHABETS, drawn
from cmlcore.data.episodes import Examples
from cmlcore.models import readout
from cmlcore.models.conv4 import from_support
from cmlcore.runs import inventing, page_weights, slow_features
from cmlcore.runs.slow_features import Features

HOW = Features()
THETA = readout.init_slow(jax.random.key(0), filters=8, pull=0.1)
DRAWINGS = jax.random.uniform(jax.random.key(1), (5, 28, 28))
ASKED = jax.random.uniform(jax.random.key(2), (6, 28, 28))


def looked_at(network, drawings):
    return jax.vmap(lambda drawing: inventing.seen(network, drawing))(drawings)


def test_fixed_statistics_are_those_of_the_drawings():
    """Where the drawings are the support, the network with fixed statistics is the run's, each query judged alone."""
    task = Task(Examples(DRAWINGS, jnp.arange(5), DRAWINGS), Examples(ASKED, jnp.arange(6) % 5, DRAWINGS))
    expected = slow_features.seeing(HOW, from_support)(THETA, task)
    network = inventing.fixed(THETA, DRAWINGS)
    np.testing.assert_allclose(looked_at(network, DRAWINGS), expected.support, atol=2e-5)
    np.testing.assert_allclose(looked_at(network, ASKED), expected.query, atol=2e-5)


def test_the_lesson_is_the_run_s_and_a_name_without_a_drawing_changes_nothing():
    network = inventing.fixed(THETA, DRAWINGS)
    z, asked = looked_at(network, DRAWINGS), looked_at(network, ASKED)
    seen = readout.Seen(z, asked, THETA.log_pull, THETA.log_gain)
    problem, task = readout.fast_readout(5), Task(Examples(DRAWINGS, jnp.arange(5), DRAWINGS), None)
    phi = slow_features.descent(HOW, HOW.free_steps, 1)(free(problem, seen), problem.init(seen, task.support), task).phi
    expected = jax.nn.softmax(jnp.exp(THETA.log_gain) * asked @ phi)
    found = inventing.beliefs(network, HOW, inventing.Drawn(z, jnp.ones(5)), asked)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    among = jnp.array([0, 2, 3, 7, 8])
    more = inventing.Drawn(jnp.ones((9, z.shape[1])).at[among].set(z), jnp.zeros(9).at[among].set(1.0))
    spread = inventing.beliefs(network, HOW, more, asked)
    np.testing.assert_allclose(spread[:, among], expected, atol=1e-5)
    assert float(spread.sum(-1).min()) > 0.999 and float(jnp.delete(spread, among, axis=1).max()) == 0


def test_operations_are_counted():
    network = inventing.fixed(THETA, DRAWINGS)
    assert inventing.operations(network) == 2 * (28**2 * 9 * 8 + (14**2 + 7**2 + 3**2) * 72 * 8)


def test_settings_hold_an_alphabet_and_a_question():
    knob = inventing.alphabet_knob()
    assert len(knob.names) == inventing.NAMES + 1 and list(knob.offers)[:-1] == list(ALPHABETS)
    count = lambda record: sum(bool(text) for text in record.split("~"))
    assert {count(record) for name in ALPHABETS for record in knob.offers[name]} == {6} and {count(r) for r in knob.offers["All twenty"]} == {21}
    assert len(knob.start) < 500


def test_one_hand_draws_a_character_twice_and_not_alike():
    for character in (c for each in ALPHABETS.values() for c in each):
        one, other = (np.concatenate(drawn(character, seed)) for seed in (0, 1))
        assert one.shape == other.shape and 0 < np.abs(one - other).mean() < 20 and one.min() >= 2 and one.max() <= 102


def test_the_weights_beside_the_pages_are_the_receipts_():
    invented, small = page_weights.every()
    assert [array.shape for array in invented.arrays] == [(2, 9, 64), *[(2, 576, 64)] * 3] and small.arrays[0].shape[0] == 2
    scratch, trained = invented.arrays[3]
    assert (trained == inventing.trained().blocks[3]["w"]).all()
    assert (scratch == trained).mean() < 0.01  # in half precision a few of 37,000 weights meet by chance
    assert all(weights.script.startswith(f'CMLBeside.files["{weights.key}"]=') for weights in (invented, small))
