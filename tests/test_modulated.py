"""The modulated network: its local rule against every estimator, what the rule cannot see, and the two forms for images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmlcore import trees
from cmlcore.bilevel import augmented, free
from cmlcore.data.sine import mean_squared_error, sine_task
from cmlcore.estimate import meta_gradient
from cmlcore.estimators.contrastive import contrastive, matched
from cmlcore.estimators.first_order import first_order
from cmlcore.estimators.unroll import unrolled
from cmlcore.models.modulated import Modulation, Slow, consolidate, divided, dual, hebbian, init_modulated, modulated, tuning
from cmlcore.solve import gradient_descent
from cmlcore.theory.diagnostics import blind

LOSS = mean_squared_error(modulated)
BETA = 0.3
SHORT = gradient_descent(0.05, 6)
# One object each: `meta_gradient` compiles once for every estimator and problem.
PLAIN, PULLED = dual(LOSS), dual(LOSS, 0.1)
ONE_SIDED, MATCHED, EVERYTHING, HELPER = contrastive(SHORT, SHORT, BETA), matched(SHORT, SHORT, BETA), unrolled(SHORT), first_order(SHORT)
STARTS = {f".start{path}" for path in (".gains[0]", ".gains[1]", ".shifts[0]", ".shifts[1]", ".readout['b']", ".readout['w']")}


@pytest.fixture(scope="module")
def theta():
    """A small network with nothing at its starting value: gains, shifts and biases count too."""
    slow = init_modulated(jax.random.key(0), (1, 5, 4, 1))
    leaves, tree = jax.tree.flatten(slow)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    return jax.tree.unflatten(tree, [x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys)])


@pytest.fixture(scope="module")
def task():
    return sine_task(jax.random.key(2), 6, 7)


@pytest.fixture(scope="module")
def estimates(theta, task):
    return {name: meta_gradient(rule, PULLED, theta, task).grad for name, rule in {"one-sided": ONE_SIDED, "matched": MATCHED}.items()}


@pytest.fixture(scope="module")
def ends(theta, task):
    """Where the three phases end, written out."""

    @jax.jit
    def run():
        start = SHORT(free(PULLED, theta), theta.start, task).phi
        control = SHORT(free(PULLED, theta), start, task).phi
        return start, control, SHORT(augmented(PULLED, theta, BETA), start, task).phi

    return run()


def test_equation_ten_unit_by_unit(theta):
    phi, body = theta.start, theta.body
    h = np.array([0.7])
    for layer, g, s in zip(body, phi.gains, phi.shifts):
        h = np.array([np.tanh(g[j] * (sum(h[i] * layer["w"][i, j] for i in range(len(h))) + layer["b"][j]) + s[j]) for j in range(len(g))])
    np.testing.assert_allclose(tuning(phi, body, jnp.array([[0.7]]))[-1][0], h, rtol=1e-5)
    np.testing.assert_allclose(modulated((phi, body), jnp.array([[0.7]]))[0], h @ phi.readout["w"] + phi.readout["b"], rtol=1e-5)


def test_unmodulated_it_is_the_perceptron():
    from cmlcore.models.mlp import mlp

    slow = init_modulated(jax.random.key(3), (1, 40, 40, 1))
    x = jnp.linspace(-5, 5, 11)[:, None]
    plain = mlp([*slow.body, slow.start.readout], x, jnp.tanh)
    np.testing.assert_array_equal(modulated((slow.start, slow.body), x), plain)
    assert sum(leaf.size for leaf in jax.tree.leaves(slow.start)) == 201
    assert sum(leaf.size for leaf in jax.tree.leaves(slow.body)) == 1720


def test_the_products_are_the_derivative_in_the_body(theta, task):
    phi, points = theta.start, task.support
    error = 2 * (points.y - modulated((phi, theta.body), points.x)) / len(points.y)
    wanted = jax.grad(lambda body: -LOSS((phi, body), points))(theta.body)
    found = hebbian(phi, theta.body, points.x, error)
    assert trees.relative_error(found, wanted) < 1e-5
    ungated = hebbian(phi._replace(gains=jax.tree.map(jnp.ones_like, phi.gains)), theta.body, points.x, error)
    assert trees.relative_error(ungated, wanted) > 0.1


@pytest.mark.parametrize("name, reference", [("one-sided", 0), ("matched", 1)])
def test_the_local_rule_is_the_estimate(theta, task, estimates, ends, name, reference):
    local = consolidate(theta.body, ends[reference], ends[2], task, BETA)
    other = consolidate(theta.body, ends[1 - reference], ends[2], task, BETA)
    wanted = trees.scale(-1.0, estimates[name].body)
    assert trees.relative_error(local, wanted) < 1e-4 < 0.1 < trees.relative_error(other, wanted)


def test_the_direct_term_of_the_query_is_in_the_rule(theta, task, ends, estimates):
    """Without it the contrast of support products alone would be another vector."""
    deaf = task._replace(query=task.query._replace(y=modulated((ends[2], theta.body), task.query.x)))
    local = consolidate(theta.body, ends[1], ends[2], deaf, BETA)
    assert trees.relative_error(local, trees.scale(-1.0, estimates["matched"].body)) > 0.1


def test_the_rule_is_blind_to_the_start_unless_there_is_a_pull(theta, task, estimates):
    assert set(blind(PLAIN, MATCHED, EVERYTHING, theta, task).unseen) == STARTS
    assert all(jnp.all(leaf != 0) for leaf in jax.tree.leaves(estimates["matched"].start))


def test_a_helper_sees_the_start(theta, task):
    both = meta_gradient(divided(MATCHED, HELPER), PLAIN, theta, task)
    alone, start = (meta_gradient(e, PLAIN, theta, task).grad for e in (MATCHED, HELPER))
    assert trees.relative_error(both.grad, Slow(alone.body, start.start)) < 1e-5
    assert all(jnp.any(leaf != 0) for leaf in jax.tree.leaves(both.grad))
    assert trees.relative_error(alone.body, start.body) > 0.01


def test_wrong_pulls_and_nudges_say_what_to_do(theta, task):
    with pytest.raises(ValueError, match="pull is -1.*Use 0"):
        dual(LOSS, -1.0)
    with pytest.raises(ValueError, match="beta is 0"):
        consolidate(theta.body, theta.start, theta.start, task, 0.0)


def test_layers_and_gains_must_match(theta):
    short = Modulation(theta.start.gains[:1], theta.start.shifts, theta.start.readout)
    with pytest.raises(ValueError):
        tuning(short, theta.body, jnp.ones((1, 1)))
