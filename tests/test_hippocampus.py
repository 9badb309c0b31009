"""The dual system: with a perfect store it is the contrastive rule, and its lesions go where the closed forms say."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmlcore import trees
from cmlcore.data.sine import mean_squared_error, sine_task
from cmlcore.estimators.contrastive import contrastive
from cmlcore.estimators.implicit import dense
from cmlcore.meta import over_tasks
from cmlcore.models.gaussian import World, direct_error, direct_task, settled_pull
from cmlcore.models.hippocampus import Lesions, blocked, hippocampal, interleaved, replay, store
from cmlcore.models.lesions import Night, mean_change, moments, settled
from cmlcore.models.mlp import init_mlp, mlp
from cmlcore.models.modulated import dual, init_modulated, modulated
from cmlcore.models.synapse import Synapses, learned_pull
from cmlcore.solve import gradient_descent, minibatch, newton, subsample

EXACT = newton(dense(), 1)
DIRECT = learned_pull(direct_error)
SEEN = World(np.array([-1.0, 0.5, 2.0]), np.array([0.25, 1.0, 4.0]), np.array(4.0))
NIGHT = Night(shots=4, queries=3, beta=0.3, rate=0.05)

# ---- the intact circuit -------------------------------------------------------------------------------------------------


def synapses():
    omega = init_mlp(jax.random.key(1), (1, 5, 1))
    return learned_pull(mean_squared_error(mlp)), Synapses(omega, jax.tree.map(lambda x: jnp.full_like(x, -1.0), omega))


def modulation():
    return dual(mean_squared_error(modulated), 0.1), init_modulated(jax.random.key(1), (1, 5, 4, 1))


@pytest.mark.parametrize("cortex", [synapses, modulation])
@pytest.mark.parametrize("learner", [gradient_descent(0.01, 20), minibatch(optax.sgd(0.01), 20, subsample(4))])
def test_a_perfect_store_is_the_contrastive_rule(x64, cortex, learner):
    problem, theta = cortex()
    theta = jax.tree.map(lambda x: x.astype(float), theta)
    task, key = sine_task(jax.random.key(2)), jax.random.key(3)
    run = jax.jit(lambda theta: [rule(learner, learner, 0.1)(problem, theta, task, key).grad for rule in (hippocampal, contrastive)])
    assert float(trees.relative_error(*run(theta))) < 1e-12


def test_a_store_keeps_the_newest():
    task = direct_task(SEEN, jax.random.key(0), 5, 2)
    held = store(task, 4)
    np.testing.assert_array_equal(held.free, task.support[-4:])
    np.testing.assert_array_equal(held.nudged.support, task.support[-2:])
    np.testing.assert_array_equal(held.nudged.query, task.query)


def test_the_store_chooses_the_order():
    np.testing.assert_array_equal(blocked(2, 2, 2), [0, 1, 0, 1, 2, 3, 2, 3])
    np.testing.assert_array_equal(interleaved(2, 2, 2), [0, 2, 1, 3, 0, 2, 1, 3])
    seen = jnp.array([[1.0], [2.0], [4.0]])
    pull = lambda phi, task: jnp.sum((phi - task[0]) ** 2)
    end = replay(optax.sgd(0.5), jnp.array([0, 2, 1]))(pull, jnp.zeros(1), (seen, seen)).phi
    np.testing.assert_allclose(end, [2.0])  # a full step goes to the example: the last one stays


@pytest.mark.parametrize(
    "lesions, words",
    [
        (Lesions(stuck=2), "stuck is 2"), (Lesions(query="gone"), "query is 'gone'"), (Lesions(trace=1.5), "trace is 1.5"),
        (Lesions(wrong=0.5), "pass strange"),
    ],
)  # fmt: skip
def test_a_lesion_that_does_not_exist_is_refused(lesions, words):
    with pytest.raises(ValueError, match=words):
        hippocampal(EXACT, EXACT, 0.1, lesions)


def test_what_cannot_be_is_refused():
    task = direct_task(SEEN, jax.random.key(0), 4, 3)
    with pytest.raises(ValueError, match="holds 3 examples.* 4 or more"):
        store(task, 3)
    with pytest.raises(ValueError, match="holds 3 examples.* 4 or more"):
        moments(SEEN, NIGHT, Lesions(capacity=3))
    with pytest.raises(ValueError, match="pass a key"):
        hippocampal(EXACT, EXACT, 0.1, Lesions(noise=1.0))(DIRECT, Synapses(jnp.zeros(3), jnp.zeros(3)), task)
    with pytest.raises(ValueError, match="sign"):
        mean_change(SEEN, NIGHT, Lesions(magnitude=False), Synapses(jnp.zeros(3), jnp.zeros(3)))
    with pytest.raises(ValueError, match="fixed number of steps"):
        hippocampal(EXACT, lambda *_: None, 0.1, Lesions(interrupted=3))


# ---- lesions: the closed forms against simulated tasks --------------------------------------------------------------------

LESIONS = {
    "none": Lesions(), "stuck at nudged": Lesions(stuck=1), "stuck at free": Lesions(stuck=-1), "no query": Lesions(query="missing"),
    "support instead": Lesions(query="support"), "small store": Lesions(capacity=5), "smaller store": Lesions(capacity=4),
    "noise": Lesions(noise=3.0), "wrong tasks": Lesions(wrong=0.4), "no trace": Lesions(trace=0.0), "weak trace": Lesions(trace=0.9),
    "interrupted": Lesions(interrupted=2), "no query, weak trace": Lesions(query="missing", trace=0.9),
    "no query, noise": Lesions(query="missing", noise=1.0), "several": Lesions(capacity=6, noise=1.0, wrong=0.2, trace=0.95, interrupted=3),
}  # fmt: skip
COUNT = 20_000


def changes(lesions, theta, seed=0):
    """What 20,000 tasks write, (tasks, 6), by the package's circuit."""
    nudged = gradient_descent(NIGHT.rate, 50) if lesions.interrupted is not None else EXACT
    strange = lambda key: direct_task(SEEN, key, NIGHT.shots, NIGHT.queries).query
    rule = hippocampal(EXACT, nudged, NIGHT.beta, lesions, strange)
    draw, own = jax.random.split(jax.random.key(seed))

    def one(d, k):
        task = direct_task(SEEN, d, NIGHT.shots, NIGHT.queries)
        return -jnp.concatenate(rule(DIRECT, theta, task, k).grad)

    return jax.jit(jax.vmap(one))(jax.random.split(draw, COUNT), jax.random.split(own, COUNT))


def standard_errors(each, wanted):
    return np.abs(np.asarray(each.mean(0) - wanted)) / np.maximum(np.asarray(each.std(0)) / COUNT**0.5, 1e-9)


@pytest.mark.parametrize("name", LESIONS)
def test_the_mean_change_is_that_of_simulated_tasks(x64, name):
    """Within four standard errors at each of six slow variables, away from where they settle."""
    theta = Synapses(jnp.array([-0.5, 0.0, 2.5]), jnp.log(jnp.array([2.0, 0.7, 0.4])))
    each = changes(LESIONS[name], theta)
    assert standard_errors(each, jnp.concatenate(mean_change(SEEN, NIGHT, LESIONS[name], theta))).max() < 4
    if name not in ("none",):  # and the test can tell the lesion from health, or the change is not another one at all
        healthy = jnp.concatenate(mean_change(SEEN, NIGHT, Lesions(), theta))
        assert standard_errors(each, healthy).max() > 4


@pytest.mark.parametrize("name", LESIONS)
def test_the_slow_variables_go_where_they_settle(x64, name):
    """The mean change vanishes at a finite lambda, and points to it from both sides; it points out where it runs away."""
    lesions, end = LESIONS[name], settled(SEEN, NIGHT, LESIONS[name])
    at = lambda omega, lam: mean_change(SEEN, NIGHT, lesions, Synapses(omega, jnp.log(lam)))
    for i in range(3):
        lam, omega = float(end.lam[i]), float(end.omega[i])
        pick = lambda size, shift=0.0: [float(x[i]) for x in at(SEEN.mean + shift, jnp.full(3, size))]
        if np.isnan(lam):
            assert abs(pick(0.5)[1]) < 1e-12
        elif lam in (0.0, np.inf):
            assert all(np.sign(pick(size)[1]) == (1 if lam else -1) for size in (0.01, 1.0, 5.0))
        else:
            assert pick(lam / 1.1)[1] > 1e-6 and pick(lam * 1.1)[1] < -1e-6 and abs(pick(lam)[1]) < 1e-9
        side = pick(0.7, 0.5)[0]
        assert abs(side) < 1e-12 if np.isnan(omega) else side > 0 if np.isinf(omega) else side < 0


def test_intact_it_is_the_settled_pull():
    found = settled(SEEN, NIGHT)
    np.testing.assert_allclose(found.lam, settled_pull(SEEN, NIGHT.shots, NIGHT.queries, NIGHT.beta), rtol=1e-5)
    np.testing.assert_array_equal(found.omega, SEEN.mean)


def test_where_signs_rest_is_not_told_for_a_mixture():
    with pytest.raises(ValueError, match="derived for Gaussian queries"):
        settled(SEEN, NIGHT, Lesions(magnitude=False, wrong=0.2))


def test_the_sign_alone_rests_where_the_whole_change_does(x64):
    """Within four standard errors of 0 there; and not at twice the pull, nor half a unit away."""
    end, lesions = settled(SEEN, NIGHT, Lesions(magnitude=False)), Lesions(magnitude=False)
    at = lambda omega, lam: changes(lesions, Synapses(omega, jnp.log(lam)))
    assert standard_errors(at(end.omega, end.lam), 0.0).max() < 4
    assert standard_errors(at(end.omega, 2 * end.lam), 0.0)[3:].min() > 4
    assert standard_errors(at(end.omega + 0.5, end.lam), 0.0)[:3].min() > 4


@pytest.mark.parametrize("name", ["none", "wrong tasks", "small store", "weak trace"])
def test_meta_training_ends_where_the_closed_form_says(x64, name):
    """On 5000 tasks again and again; the interval is that of a root of the mean over so many tasks."""
    lesions, count = LESIONS[name], 5000
    strange = lambda key: direct_task(SEEN, key, NIGHT.shots, NIGHT.queries).query
    rule = over_tasks(hippocampal(EXACT, EXACT, NIGHT.beta, lesions, strange))
    tasks = jax.vmap(lambda k: direct_task(SEEN, k, NIGHT.shots, NIGHT.queries))(jax.random.split(jax.random.key(4), count))
    key = jax.random.key(5)
    grad = lambda theta: rule(DIRECT, theta, tasks, key).grad
    step = lambda theta, _: (trees.sub(theta, trees.scale(0.5, grad(theta))), trees.norm(grad(theta)))
    start = Synapses(jnp.zeros(3), jnp.zeros(3))
    theta, sizes = jax.jit(lambda: jax.lax.scan(step, start, length=200))()
    end = settled(SEEN, NIGHT, lesions)
    each = changes(lesions, theta, seed=6)  # fresh tasks: the change there is the seen tasks' error, and no more
    alive = np.concatenate([np.ones(3, bool), np.asarray(end.lam) > 0])
    spread = np.asarray(each.std(0)) * (1 / COUNT + 1 / count) ** 0.5
    assert (np.abs(np.asarray(each.mean(0)))[alive] < 4 * spread[alive]).all()
    lost = np.asarray(end.lam) == 0
    assert (np.exp(np.asarray(theta.log_lambda))[lost] < 0.2).all()
