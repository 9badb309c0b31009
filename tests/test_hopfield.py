"""Equilibrium propagation: an energy that relaxes, the rule on it, backprop through it step by step, the Hebbian limit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmlcore import trees
from cmlcore.bilevel import Task, free
from cmlcore.data import mnist
from cmlcore.estimate import meta_gradient
from cmlcore.estimators.contrastive import contrastive, symmetric
from cmlcore.estimators.unroll import unrolled
from cmlcore.models.hopfield import contrastive_hebbian, correlations, cost, energy, hopfield, init_synapses
from cmlcore.runs import receipts
from cmlcore.runs.catalog import CATALOG, find
from cmlcore.runs.digits import Relaxing, training
from cmlcore.theory.equilibrium import backprop_by_step, nudged_by_step, relax

WIDTHS = (4, 6, 3)
RATE = 0.4


def example(widths=WIDTHS, examples=5):
    """Synapses strong enough that some rates rest against a wall, and others between the walls."""
    k = jax.random.split(jax.random.key(1), 3)
    synapses = init_synapses(k[0], widths)
    synapses[0]["w"] = 2 * synapses[0]["w"]
    task = Task(jax.random.uniform(k[1], (examples, widths[0])), jax.nn.one_hot(jnp.arange(examples) % widths[-1], widths[-1]))
    return hopfield(examples), synapses, task


def rest(problem, synapses, task, steps=1000):
    return relax(RATE, steps)(free(problem, synapses), problem.init(synapses, None), task)


def test_energy_of_one_example_by_hand(x64):
    _, (first, second), task = example(examples=1)
    r1, r2 = jnp.linspace(0, 1, 6), jnp.array([0.2, 0.9, 0.4])
    x = task.support[0]
    by_hand = (r1 @ r1 + r2 @ r2) / 2 - x @ first["w"] @ r1 - r1 @ second["w"] @ r2 - first["b"] @ r1 - second["b"] @ r2
    np.testing.assert_allclose(energy([r1[None], r2[None]], [first, second], x[None]), by_hand, rtol=1e-12)


def test_the_slope_in_the_synapses_is_minus_the_correlations(x64):
    problem, synapses, task = example((4, 6, 5, 3))
    rates = rest(problem, synapses, task, 10).phi
    slope = jax.grad(energy, 1)(rates, synapses, task.support)
    assert trees.relative_error(trees.scale(-1, correlations(rates, task.support)), slope) < 1e-12


def test_relaxation_ends_where_every_rate_is_what_its_drive_says(x64):
    """At rest r = clip(drive, 0, 1) in every layer: a fixed point, also for rates against a wall, which do occur here."""
    problem, synapses, task = example()
    done = rest(problem, synapses, task)
    r1, r2 = done.phi
    (first, second) = synapses
    np.testing.assert_allclose(r1, jnp.clip(task.support @ first["w"] + first["b"] + r2 @ second["w"].T, 0, 1), atol=1e-12)
    np.testing.assert_allclose(r2, jnp.clip(r1 @ second["w"] + second["b"], 0, 1), atol=1e-12)
    assert done.grad_norm < 1e-12 < done.start_norm and not done.diverged
    assert all(bool(jnp.any(where)) for where in (r1 == 0, r1 == 1, (r1 > 0) & (r1 < 1)))


def test_a_path_begins_at_the_start_and_ends_at_the_result():
    problem, synapses, task = example()
    start = problem.init(synapses, None)
    done = relax(RATE, 3, keep_path=True)(free(problem, synapses), start, task)
    assert [p.shape for p in done.path] == [(4, 5, 6), (4, 5, 3)]
    jax.tree.map(lambda p, s, e: (np.testing.assert_array_equal(p[0], s), np.testing.assert_array_equal(p[-1], e)), done.path, start, done.phi)


def test_a_negative_number_of_steps_is_refused():
    with pytest.raises(ValueError, match="steps is -1"):
        relax(RATE, -1)


def test_the_rule_on_the_energy_is_equilibrium_propagation(x64):
    """Nudged minus free correlations over -beta, and for a small beta the derivative through the whole relaxation."""
    problem, synapses, task = example()
    long = relax(RATE, 600)
    beta = 1e-5
    exact = meta_gradient(unrolled(long), problem, synapses, task).grad
    found = meta_gradient(contrastive(long, long, beta), problem, synapses, task)
    nudged = long(lambda r, t: problem.inner(r, synapses, t.support) + beta * problem.outer(r, synapses, t.query), found.phi, task).phi
    by_hand = trees.scale(-1 / beta, trees.sub(correlations(nudged, task.support), correlations(found.phi, task.support)))
    assert trees.relative_error(found.grad, by_hand) < 1e-6
    assert 1e-8 < trees.relative_error(found.grad, exact) < 1e-4
    assert trees.relative_error(meta_gradient(symmetric(long, long, 1e-4), problem, synapses, task).grad, exact) < 1e-7


def test_nudged_increments_are_the_gradients_of_backprop_read_backwards(x64):
    """Ernoult et al. 2019, in the regime of their theorem: from rest, beta -> 0; each step, each synapse."""
    problem, synapses, task = example()
    at_rest = rest(problem, synapses, task).phi
    backwards = backprop_by_step(problem, synapses, task, at_rest, RATE, 12)
    off = [trees.relative_error(nudged_by_step(problem, synapses, task, at_rest, RATE, 12, beta), backwards) for beta in (1e-3, 1e-4, 1e-5)]
    assert off[-1] < 1e-4 and 5 < off[0] / off[1] < 20 and 5 < off[1] / off[2] < 20  # the error is O(beta)
    steps = [float(trees.norm(jax.tree.map(lambda g: g[t], backwards))) for t in (0, 5, 11)]
    assert steps[0] > steps[1] > steps[2] > 0


def test_away_from_rest_the_two_differ(x64):
    problem, synapses, task = example()
    moving = rest(problem, synapses, task, 2).phi
    found = nudged_by_step(problem, synapses, task, moving, RATE, 12, 1e-5)
    assert trees.relative_error(found, backprop_by_step(problem, synapses, task, moving, RATE, 12)) > 1


def test_steps_add_up_to_the_whole(x64):
    problem, synapses, task = example()
    short = relax(RATE, 8)
    found = meta_gradient(contrastive(relax(RATE, 1000), short, 0.01), problem, synapses, task)
    steps = nudged_by_step(problem, synapses, task, found.phi, RATE, 8, 0.01)
    assert trees.relative_error(jax.tree.map(lambda g: g.sum(0), steps), found.grad) < 1e-9


def test_contrastive_hebbian_learning_is_the_limit_of_a_strong_nudge(x64):
    problem, synapses, task = example()
    long = relax(RATE, 800)
    hebbian = meta_gradient(contrastive_hebbian(long, long), problem, synapses, task).grad
    off = []
    for beta in (1e2, 1e3):
        nudged = relax(0.9 / (1 + beta), int(40 * beta))  # a strong nudge makes the answer stiff
        found = meta_gradient(contrastive(long, nudged, beta), problem, synapses, task).grad
        off.append(trees.relative_error(trees.scale(beta, found), hebbian))
    assert off[1] < 2e-3 and 5 < off[0] / off[1] < 20  # O(1 / beta)


def test_clamped_answers_stay_and_only_hidden_rates_relax(x64):
    """With one hidden layer the clamped phase has a closed form."""
    problem, (first, second), task = example()
    hidden = jnp.clip(task.support @ first["w"] + first["b"] + task.query @ second["w"].T, 0, 1)
    at_rest = rest(problem, [first, second], task).phi
    wanted = trees.sub(correlations(at_rest, task.support), correlations([hidden, task.query], task.support))
    long = relax(RATE, 1000)
    found = meta_gradient(contrastive_hebbian(long, long), problem, [first, second], task)
    assert trees.relative_error(found.grad, wanted) < 1e-9 and set(found.info) == {"free", "clamped"}


def blobs():
    """Ten classes of noisy templates, in the place of digits."""
    rng = np.random.default_rng(0)
    templates = rng.random((10, 30)) > 0.6
    labels = np.int32(rng.integers(0, 10, 900))
    images = np.float32(np.clip(templates[labels] + 0.3 * rng.normal(size=(900, 30)), 0, 1))
    parts = slice(700), slice(700, 800), slice(800, 900)
    return mnist.Digits(*(x[p] for p in parts for x in (images, labels)), "blobs")


@pytest.mark.parametrize("rule", ["equilibrium propagation", "Hebbian", "backprop"])
def test_the_training_of_the_full_runs_learns(rule):
    settings = Relaxing(20, 20, 10, 0.5, 0.5, 50, 12, 0.005)
    long, short = relax(0.5, 20), relax(0.5, 10)
    estimator = {"equilibrium propagation": symmetric(long, short, 0.5), "Hebbian": contrastive_hebbian(long, short), "backprop": unrolled(long)}[rule]
    run = training(estimator, settings, blobs())
    state = run.start(0)
    before = run.test(0, state)["accuracy"].mean()
    for _ in range(run.chunks):
        state, info = run.advance(state)
    accuracy = run.test(0, state)["accuracy"]
    assert accuracy.shape == (100,) and before < 0.4 and accuracy.mean() > 0.8
    assert set(info) == {"cost", "validation", "unsaid"} and info["validation"] > 0.8 and info["unsaid"] == 0


DIGITS = [experiment.name for experiment in CATALOG if experiment.name.startswith("digits-")]


@pytest.mark.parametrize("name", DIGITS)
def test_a_committed_receipt_is_whole_and_of_the_experiment_as_it_stands(name):
    receipt = receipts.read(name)
    assert tuple(receipt["seeds"]) == find(name).seeds and len(receipt["seeds"]) >= 3
    assert receipt["result"]["tasks"] == 10_000 and set(receipt["curve"]) == {"cost", "validation", "unsaid"}


def test_equilibrium_propagation_passes_95_percent_with_every_seed():
    assert min(receipts.read("digits-eqprop")["result"]["each_seed"]) >= 0.95


@pytest.mark.parametrize("beta, definite", [(-0.7, True), (-0.74, True), (-0.76, False), (-0.8, False), (-0.95, False)])
def test_a_negative_nudge_keeps_a_minimum_as_long_as_the_whole_hessian_is_definite(beta, definite, x64):
    """Off the walls, with one hidden layer: definite exactly where ||W||^2 < 1 + beta, although the diagonal is positive to beta = -1."""
    _, (first, second), task = example(examples=1)
    second["w"] = second["w"] * 0.5 / jnp.linalg.norm(second["w"], 2)

    def augmented(r):
        rates = [r[None, :6], r[None, 6:]]
        return energy(rates, [first, second], task.support) + beta * cost(rates, [first, second], task.query)

    H = jax.hessian(augmented)(jnp.full(9, 0.5))
    assert jnp.all(jnp.diag(H) > 0)
    assert bool(jnp.linalg.eigvalsh(H)[0] > 0) == definite
