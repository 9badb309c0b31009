"""The runs of the dual system: every lesion has its row, and both networks of a comparison live the same nights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmlcore.models.hippocampus import Lesions
from cmlcore.runs import hippocampus as runs
from cmlcore.runs.catalog import CATALOG

ROWS = [e for e in CATALOG if e.name.startswith("hippo-")]
LIFE = runs.Worlds(0, 3, 0.01, 3, 0.1, 0.1, 8, 4, 0.01, 1.0)


def test_every_lesion_has_a_row_that_differs_in_nothing_else():
    rows = [e.settings for e in ROWS if isinstance(e.settings, runs.Nights)]
    assert {row.lesion for row in rows} == runs.LESIONS.keys()
    assert len({row._replace(lesion="") for row in rows}) == 1
    assert {field for lesions in runs.LESIONS.values() for field, a, b in zip(Lesions._fields, lesions, Lesions()) if a != b} == set(Lesions._fields)


def test_both_networks_of_an_order_have_the_same_settings():
    lives = {e.name: e.settings for e in ROWS if isinstance(e.settings, runs.Worlds)}
    assert lives["hippo-two-blocked"] == lives["hippo-one-blocked"] and lives["hippo-two-interleaved"] == lives["hippo-one-interleaved"]


@pytest.mark.parametrize(
    "interleaved, night, second", [(0, 0, [0, 0, 0, 0]), (0, 3, [0, 0, 0, 0]), (0, 4, [1, 1, 1, 1]), (1, 0, [0, 1, 0, 1]), (1, 7, [0, 1, 0, 1])]
)
def test_a_night_replays_the_waves_of_its_world(interleaved, night, second):
    key = jax.random.key(1)
    upright = runs._tonight(LIFE._replace(outer_steps=100), key, 0)
    found = runs._tonight(LIFE._replace(interleaved=interleaved), key, jnp.asarray(night))
    for part, same in zip(found, upright):
        np.testing.assert_array_equal(part.x, same.x)
        np.testing.assert_array_equal(part.y, same.y * (1 - 2 * np.array(second).reshape(-1, 1, 1)))


def test_seeds_that_live_side_by_side_live_as_they_do_alone(monkeypatch):
    monkeypatch.setattr(runs, "CHUNK", 2)
    training = runs.train_two_scales(LIFE)
    both, alone = (training.advance(training.start(jnp.array(seeds)))[0][0] for seeds in ([3, 7], [7]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b[0], rtol=1e-4, atol=1e-5), both, alone)
