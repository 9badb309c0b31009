"""Few-shot characters: every method on one code path, the average of theta, momentum carried from phase to phase."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_omniglot import needs_archive

from cmlcore import trees
from cmlcore.bilevel import Problem, Task
from cmlcore.data.episodes import episode
from cmlcore.estimators.carried import carried, carrying
from cmlcore.estimators.contrastive import symmetric
from cmlcore.meta import Averaged, averaged, meta_start, meta_step, meta_steps
from cmlcore.runs import characters, few_shot
from cmlcore.runs.character_table import EXPERIMENTS, PASSES, operations
from cmlcore.runs.characters import Characters
from cmlcore.runs.experiment import Experiment, run_seed
from cmlcore.solve import gradient_descent, optimizer

TINY = Characters(
    ways=2, shots=1, free_steps=2, test_steps=2, rate=0.1, momentum=0.9, pull=0.1, nudged_steps=2, beta=0.5, products=2, damping=1.0,
    outer_steps=2, tasks=2, outer_rate=0.01, queries=1, size=16, filters=4, chunk=1, validation_episodes=2, test_episodes=3,
)  # fmt: skip
METHODS = {name: build for name, build in vars(characters).items() if name.startswith("train_")}


# --- Every method -----------------------------------------------------------------------------------------------------


def stand_in(params, images, support, normalize):
    """A network that compiles at once; the convolutional one is what the small full runs are of, one by every method."""
    return images.reshape(len(images), -1)[:, ::29] @ params["blocks"][0]["w"] @ params["blocks"][1]["w"][:4] @ params["w"] + params["b"]


# Run in full, because each changes what the estimator is given; the others are traced, and differ in an estimator that has tests of its own.
RUN = {"train_symmetric_carried", "train_reptile"}


@needs_archive
def test_every_method_learns_from_the_same_start_and_episodes(monkeypatch):
    monkeypatch.setattr(characters, "conv4", stand_in)
    monkeypatch.setattr(few_shot, "examination", lambda *given: lambda *given: {"accuracy": jnp.float32(0.5)})  # tested below, once
    ends = {}
    for name in sorted(set(METHODS) - {"train_scratch", "train_pixels"}):
        training = METHODS[name](TINY)
        start = training.start(0)
        assert training.chunks == 2 and trees.norm(trees.sub(start.mean, characters.omega(TINY, 0))) == 0, name
        shapes, _ = jax.eval_shape(training.advance, start)
        assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, start), name
        if name in RUN:
            state, info = training.advance(start)
            assert info["grad_norm"] > 0 and trees.all_finite((state.state.theta, info)), name
            ends[name] = trees.norm(trees.sub(state.state.theta, start.mean)), info["grad_norm"]
    assert ends.keys() == RUN and min(moved for moved, _ in ends.values()) > 0
    assert len({f"{size:.4e}" for _, size in ends.values()}) == len(RUN), ends


@needs_archive
def test_a_run_on_the_real_network_resumes_to_the_same_bits_and_tests_the_mean(tmp_path):
    training = characters.train_first_order(TINY)  # compiled once for both runs
    experiment = Experiment("tiny", "", TINY, lambda settings: training, (0,), ("accuracy", ""), None, "")
    whole = run_seed(experiment, 0, tmp_path / "whole", report=lambda line: None)

    def stop(line):
        if ": 1/2 " in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_seed(experiment, 0, tmp_path / "parts", report=stop)
    lines = []
    again = run_seed(experiment, 0, tmp_path / "parts", report=lines.append)
    assert any("resumed at chunk 1 of 2" in line for line in lines)
    assert all((a == b).all() for a, b in zip(jax.tree.leaves(whole.kept), jax.tree.leaves(again.kept), strict=True))
    assert whole.scores["accuracy"].shape == (3,) and (whole.scores["accuracy"] == again.scores["accuracy"]).all()


# --- The average of theta ---------------------------------------------------------------------------------------------

QUADRATIC = Problem(lambda phi, theta, x: jnp.sum((phi - theta) ** 2 + (phi - x) ** 2), lambda phi, theta, x: jnp.sum((phi - x) ** 2))


def averaging(after):
    outer = optax.adam(0.1)
    draw = lambda key: Task(*jax.random.normal(key, (2, 3)))
    step = meta_step(QUADRATIC, symmetric(gradient_descent(0.1, 3), gradient_descent(0.1, 3), 0.1), outer, draw, 2)
    state = meta_start(jnp.ones(3), outer, jax.random.key(0))
    return averaged(step, after), step, Averaged(state, state.theta)


def test_the_average_is_the_mean_of_every_theta_after_the_first_ones():
    both, step, start = averaging(2)
    thetas, state, once = [], start.state, jax.jit(step)
    for _ in range(6):
        state, _ = once(state)
        thetas.append(np.asarray(state.theta))
    early, _ = meta_steps(both, 2)(start)
    np.testing.assert_array_equal(early.mean, early.state.theta)  # until then theta itself
    np.testing.assert_allclose(early.mean, thetas[1], rtol=1e-6)
    # In two calls, as a run that is saved between them: the count goes on.
    late, _ = meta_steps(both, 2)(meta_steps(both, 2)(early)[0])
    np.testing.assert_allclose(late.mean, np.mean(thetas[2:], axis=0), rtol=1e-5)
    np.testing.assert_allclose(late.state.theta, thetas[-1], rtol=1e-6)  # and theta learns on, untouched by its mean
    with pytest.raises(ValueError, match="after is -1"):
        averaged(step, -1)


# --- Momentum carried from phase to phase -----------------------------------------------------------------------------

# Learning is linear in the nudge here: the outer loss is linear in phi.
LINEAR = Problem(lambda phi, theta, x: jnp.sum(jnp.array([1.0, 3.0]) * (phi - theta - x) ** 2), lambda phi, theta, x: jnp.dot(x, phi))
SGD = optax.sgd(0.02, momentum=0.9, nesterov=True)
TASK = Task(jnp.array([1.0, -2.0]), jnp.array([0.5, 1.0]))


def phases(rule_of, solver, problem):
    """Where the phases of a rule end: the fast states after the free phase and after each other one."""
    ends = []

    def watched(steps):
        def solve(objective, state, task, key=None):
            solved = solver(steps)(objective, state, task, key)
            ends.append(solved.phi)
            return solved

        return solve

    rule_of(watched(4), watched(3), 0.1)(problem, jnp.zeros(2), TASK)
    return ends


def test_both_nudged_phases_go_on_with_the_momentum_of_the_free_phase():
    afresh = lambda steps: optimizer(SGD, steps)
    kept = phases(symmetric, lambda steps: carried(afresh(steps)), carrying(LINEAR, afresh(4)))
    free = lambda phi, task: LINEAR.inner(phi, jnp.zeros(2), task.support)
    whole = optimizer(SGD, 7)(free, jnp.zeros(2), TASK).phi
    # Nudged by as much to either side, the two end symmetrically about where seven steps in one go would have ended.
    np.testing.assert_allclose((kept[1][0] + kept[2][0]) / 2, whole, rtol=1e-5)
    assert jnp.abs(kept[1][0] - kept[2][0]).max() > 1e-3
    reset = phases(symmetric, afresh, LINEAR)
    np.testing.assert_allclose(reset[0], kept[0][0], rtol=1e-6)
    assert jnp.abs((reset[1] + reset[2]) / 2 - whole).max() > 1e-2


def test_a_memory_that_counts_cannot_be_carried():
    with pytest.raises(TypeError, match="Carry the momentum of optax.sgd"):
        carrying(LINEAR, optimizer(optax.adam(0.1), 3)).init(jnp.zeros(2), None)


# --- Data, names, costs -----------------------------------------------------------------------------------------------


def test_small_drawings_are_means_of_four_pixels():
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 28, 28), np.uint8)
    small = characters.shrunk(images)
    assert small.shape == (2, 3, 16, 16) and small.dtype == np.uint8
    assert abs(int(small[1, 2, 4, 6]) - images[1, 2, 6:8, 10:12].mean()) <= 0.5 and small[:, :, 0].max() == small[..., -1].max() == 0


def test_settings_that_cannot_be_run_are_refused():
    with pytest.raises(ValueError, match="size is 20"):
        characters.drawings("background", 20)
    with pytest.raises(ValueError, match="chunks of 50 do not fill"):
        characters.train_maml(TINY._replace(outer_steps=70, chunk=50))


def test_the_nearest_drawing_is_found_by_its_pixels():
    images = jnp.zeros((4, 20, 16, 16), jnp.uint8).at[jnp.arange(4), :, jnp.arange(4), 0].set(255)
    score = jax.jit(lambda images: characters.nearest_drawing(episode(jax.random.key(0), images, 4, 1, 3)))
    assert score(images) == 1 and score(jnp.zeros_like(images)) == 0.25


def test_published_settings_and_their_cost():
    """A tenth of a quadrillion operations and more: 1.2e17 for five ways and one shot, 6e17 for twenty and five, by hand."""
    by_name = {e.name: e for e in EXPERIMENTS}
    assert len(by_name) == len(EXPERIMENTS) and all(e.settings.normalization in characters.NORMALIZATIONS for e in EXPERIMENTS)
    for name, expected in [("omniglot-5w1s-cml", 1.2e17), ("omniglot-20w1s-cml", 2.4e17), ("omniglot-20w5s-cml", 6e17)]:
        s = by_name[name].settings
        n, q = s.ways * s.shots, s.ways * s.queries
        assert operations(s, PASSES[by_name[name].build](s, n, q)) == pytest.approx(expected, rel=0.1)
        assert by_name[name].published and by_name[name].cost.operations == pytest.approx(expected, rel=0.1)
    assert by_name["omniglot-20w1s-cml"].settings.pull == 0.5 / 2  # wd_fast / 2: no 1/2 in the pull here
    assert by_name["omniglot-20w1s-cml-vinyals"].settings == by_name["omniglot-20w1s-cml"].settings._replace(split="vinyals")
