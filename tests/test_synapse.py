"""The complex synapse: its local rule, and the prior that it comes to store."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmlcore import trees
from cmlcore.bilevel import augmented, free
from cmlcore.data.sine import mean_squared_error, sine_task
from cmlcore.estimators.contrastive import contrastive, matched, symmetric, three_point
from cmlcore.estimators.implicit import dense, implicit
from cmlcore.meta import over_tasks
from cmlcore.models.gaussian import (
    World,
    best,
    direct_error,
    direct_task,
    neuron_error,
    neuron_task,
    sampling_error,
    settled_pull,
)
from cmlcore.models.mlp import init_mlp, mlp
from cmlcore.models.synapse import Synapses, consolidate, learned_pull, three_factor
from cmlcore.solve import gradient_descent, newton

EXACT = newton(dense(), 1)  # one step ends at the minimum of a quadratic
DIRECT, NEURON = learned_pull(direct_error), learned_pull(neuron_error)
SEEN = World(np.array([-1.0, 0.5, 2.0]), np.array([0.25, 1.0, 4.0]), np.array(4.0))
SHOTS = 4  # so that the best lambda is 4, 1 and 1/4


# ---- the local rule --------------------------------------------------------------------------------------------------


def photographs(problem, theta, task, beta):
    """Where phases of few steps end: the free one, and what goes on from it with each multiple of beta."""
    start = gradient_descent(0.01, 50)(free(problem, theta), theta.omega, task).phi
    on = lambda nudge: gradient_descent(0.01, 30)(augmented(problem, theta, nudge), start, task).phi
    return start, {multiple: on(multiple * beta) for multiple in (-1, 0, 1, 2)}


def test_the_local_rule_is_the_estimator(x64):
    """On a network with a lambda for each synapse, to rounding, for every rule and phases that are far from finished."""
    omega = jax.tree.map(lambda x: x.astype(float), init_mlp(jax.random.key(1), (1, 5, 1)))
    keys = iter(jax.random.split(jax.random.key(3), 4))
    theta = Synapses(omega, jax.tree.map(lambda x: jax.random.normal(next(keys), x.shape) - 1, omega))
    problem, task, beta = learned_pull(mean_squared_error(mlp)), sine_task(jax.random.key(2)), 0.1

    @jax.jit
    def both(theta):
        start, end = photographs(problem, theta, task, beta)
        write = lambda phi, modulator: three_factor(theta, phi, modulator / beta)
        local = {
            contrastive: consolidate(theta, start, end[1], beta),
            matched: consolidate(theta, end[0], end[1], beta),
            symmetric: consolidate(theta, end[-1], end[1], 2 * beta),
            three_point: trees.add(trees.add(write(start, -1.5), write(end[1], 2.0)), write(end[2], -0.5)),
        }
        rules = [rule(gradient_descent(0.01, 50), gradient_descent(0.01, 30), beta) for rule in local]
        return list(local.values()), [rule(problem, theta, task).grad for rule in rules]

    for change, grad in zip(*both(theta)):
        for part, wanted in zip(change, grad):
            assert float(trees.relative_error(trees.scale(-1.0, part), wanted)) < 1e-10


def test_the_local_rule_is_equations_8_and_9_and_the_chain_rule(x64):
    lam, omega, first, second, beta = 0.3, 0.2, 0.5, 0.6, 0.1
    change = consolidate(Synapses(jnp.array(omega), jnp.log(lam)), jnp.array(first), jnp.array(second), beta)
    np.testing.assert_allclose(change.omega, 2 * lam / beta * (second - first), rtol=1e-12)
    by_lambda = -((second - omega) ** 2 - (first - omega) ** 2) / beta
    np.testing.assert_allclose(change.log_lambda, lam * by_lambda, rtol=1e-12)


def test_a_synapse_does_not_hear_its_neighbors():
    theta = Synapses(jnp.zeros(3), jnp.zeros(3))
    change = jax.jacobian(lambda phi: three_factor(theta, phi, 1.0))(jnp.array([1.0, 2.0, 3.0]))
    for part in change:
        np.testing.assert_array_equal(part, jnp.diag(jnp.diag(part)))


def test_a_shared_lambda_is_not_local():
    with pytest.raises(ValueError, match=r"shape \(\) where phi has \(3,\).*one lambda per synapse"):
        three_factor(Synapses(jnp.zeros(3), jnp.zeros(())), jnp.ones(3), 1.0)


def test_no_nudge_leaves_nothing_to_consolidate():
    with pytest.raises(ValueError, match="beta is 0"):
        consolidate(Synapses(jnp.zeros(3), jnp.zeros(3)), jnp.ones(3), jnp.ones(3), 0.0)


# ---- the closed forms of the linear-Gaussian world ---------------------------------------------------------------------


def many(draw, world, count, seed, shots=SHOTS, queries=SHOTS):
    return jax.vmap(lambda key: draw(world, key, shots, queries))(jax.random.split(jax.random.key(seed), count))


def test_the_best_synapse_ends_at_the_posterior_mean(x64):
    """For the neuron, by Bayes: precision X'X / sigma^2 + 1/v, in a task with fewer examples than synapses."""
    x, y = (task := neuron_task(SEEN, jax.random.key(0), 2, 1)).support
    precision = x.T @ x / SEEN.noise + jnp.diag(1 / SEEN.variance)
    posterior = jnp.linalg.solve(precision, x.T @ y / SEEN.noise + SEEN.mean / SEEN.variance)
    theta = best(SEEN, 2)
    learn = jax.jit(lambda th: EXACT(free(NEURON, th), jnp.zeros(3), task).phi)
    np.testing.assert_allclose(learn(theta), posterior, rtol=1e-10)


def exact_gradients(problem, theta, tasks):
    """The exact meta-gradient of each task, (tasks, 6)."""
    one = lambda task: jnp.concatenate(implicit(EXACT, dense())(problem, theta, task).grad)
    return jax.vmap(one)(tasks)


@pytest.mark.parametrize("problem, draw", [(DIRECT, direct_task), (NEURON, neuron_task)])
def test_the_exact_meta_gradient_is_zero_at_the_best_synapse(x64, problem, draw):
    """Each coordinate's mean over tasks is within 4 standard errors of 0; twice the best lambda shows at its own synapse."""
    tasks = many(draw, SEEN, 8000, 1)

    @jax.jit
    def standard_errors(theta):
        each = exact_gradients(problem, theta, tasks)
        return jnp.abs(each.mean(0)) / (each.std(0) / len(each) ** 0.5)

    omega, log_lambda = best(SEEN, SHOTS)
    assert float(standard_errors(Synapses(omega, log_lambda)).max()) < 4
    for synapse, doubled in enumerate(jnp.log(2) * jnp.eye(3)):
        assert float(standard_errors(Synapses(omega, log_lambda + doubled))[3 + synapse]) > 4


@pytest.mark.parametrize("beta", [0.03, 0.3, 3.0])
@pytest.mark.parametrize("queries", [1, 4, 20])
def test_the_settled_pull_is_a_stationary_point_of_the_mean_update(x64, beta, queries):
    """The mean of (9) over all tasks is a quadratic form in the second moments of (support mean, query mean) - m."""
    noise, v = SEEN.noise, SEEN.variance
    moments = jnp.array([[v + noise / SHOTS, v], [v, v + noise / queries]])  # (2, 2, d)
    lam = settled_pull(SEEN, SHOTS, queries, beta)
    alive = np.asarray(lam > 0)
    squared = lambda *weights: jnp.einsum("id,jd,ijd->d", jnp.stack(weights), jnp.stack(weights), moments)
    nudged = squared(1 / (1 + lam + beta), beta / (1 + lam + beta))
    free_ = squared(1 / (1 + lam), 0 * lam)
    np.testing.assert_allclose((nudged / free_)[alive], 1, rtol=1e-9)
    assert alive.all() == (queries >= SHOTS or beta < 2 * queries / (SHOTS - queries))


def test_no_nudge_settles_at_the_best_pull():
    np.testing.assert_allclose(settled_pull(SEEN, SHOTS, 1, 0.0), jnp.exp(best(SEEN, SHOTS).log_lambda), rtol=1e-6)


def test_a_negative_nudge_has_no_settled_pull():
    with pytest.raises(ValueError, match="beta is -0.1; .* 0 or more"):
        settled_pull(SEEN, SHOTS, 4, -0.1)


def spread_of_the_minimizer(problem, tasks, theta):
    """H^-1 Cov(gradient) H^-1: times 1 / N, the covariance of what minimizes the mean over N tasks; here its diagonal's root."""

    @jax.jit
    def spread(flat):
        each = lambda x: exact_gradients(problem, Synapses(*jnp.split(x, 2)), tasks)
        inverse = jnp.linalg.inv(jax.jacfwd(lambda x: each(x).mean(0))(flat))
        return jnp.sqrt(jnp.diag(inverse @ jnp.cov(each(flat).T) @ inverse.T))

    return Synapses(*jnp.split(spread(jnp.concatenate(theta)), 2))


def test_the_sampling_error_is_that_of_the_meta_loss(x64):
    tasks = many(direct_task, SEEN, 100_000, 5, queries=2)
    wanted = spread_of_the_minimizer(DIRECT, tasks, best(SEEN, SHOTS))
    for part, by_tasks in zip(sampling_error(SEEN, SHOTS, 2, 1), wanted):
        np.testing.assert_allclose(part, by_tasks, rtol=0.05)


@pytest.mark.parametrize("draw", [direct_task, neuron_task])
def test_tasks_have_the_prior_and_the_noise(draw):
    tasks = many(draw, SEEN, 4000, 7, shots=3, queries=2)
    support, query = (part if draw is direct_task else part.y for part in tasks)
    assert support.shape[1] == 3 and query.shape[1] == 2
    w_part, noise = jnp.mean((support[:, 0] - query[:, 0]) ** 2, 0), 2 * SEEN.noise
    if draw is direct_task:
        np.testing.assert_allclose(w_part, jnp.full(3, noise), rtol=0.1)
        np.testing.assert_allclose(support[:, 0].mean(0), SEEN.mean, atol=4 * float(jnp.sqrt(8 / 4000)))
    else:
        # y = x.w + noise, so x y has mean m: variance of one y is at most |m|^2 + sum v + sigma^2.
        by = (tasks.support.x * tasks.support.y[..., None]).mean((0, 1))
        np.testing.assert_allclose(by, SEEN.mean, atol=4 * float(jnp.sqrt(3 * 15 / 4000)))


@pytest.mark.parametrize("draw", [direct_task, neuron_task])
def test_a_task_without_examples_is_refused(draw):
    with pytest.raises(ValueError, match="at least one of each"):
        draw(SEEN, jax.random.key(0), 0, 4)


# ---- meta-training -----------------------------------------------------------------------------------------------------

TASKS = 5000


def meta_trained(problem, draw, estimator):
    """What meta-training on the same tasks all the time comes to rest at, from omega = 0, lambda = 1.

    Its distance from the prior is then that of a minimizer over so many tasks, and nothing else.
    """
    tasks, start = many(draw, SEEN, TASKS, 11), Synapses(jnp.zeros(3), jnp.zeros(3))

    def step(theta, _):
        grad = over_tasks(estimator)(problem, theta, tasks).grad
        return trees.sub(theta, grad), trees.norm(grad)

    theta, sizes = jax.jit(lambda: jax.lax.scan(step, start, length=300))()
    assert float(sizes[-1]) < 1e-3 < float(sizes[0])
    return theta


def off(found, wanted, sd):
    """The distance in standard deviations, (2, d): of omega and of log lambda."""
    return jnp.stack([jnp.abs(f - w) / s for f, w, s in zip(found, wanted, sd)])


def test_meta_training_stores_the_prior():
    found = meta_trained(DIRECT, direct_task, matched(EXACT, EXACT, 0.01))
    sd = sampling_error(SEEN, SHOTS, SHOTS, TASKS)
    assert float(off(found, best(SEEN, SHOTS), sd).max()) < 4
    assert float(jnp.stack(sd).max()) < 0.1  # so that the tolerance means something


def test_meta_training_stores_the_prior_where_synapses_share_an_error():
    found = meta_trained(NEURON, neuron_task, matched(EXACT, EXACT, 0.01))
    sd = spread_of_the_minimizer(NEURON, many(neuron_task, SEEN, 4000, 3), best(SEEN, SHOTS))
    sd = trees.scale(TASKS**-0.5, sd)
    assert float(off(found, best(SEEN, SHOTS), sd).max()) < 4
    assert float(jnp.stack(sd).max()) < 0.15


def test_a_large_nudge_keeps_the_mean_and_loosens_the_pull():
    found = meta_trained(DIRECT, direct_task, contrastive(EXACT, EXACT, 1.0))
    sd = sampling_error(SEEN, SHOTS, SHOTS, TASKS)
    biased = Synapses(SEEN.mean, jnp.log(settled_pull(SEEN, SHOTS, SHOTS, 1.0)))
    assert float(off(found, biased, sd).max()) < 4
    assert float(off(found, best(SEEN, SHOTS), sd)[1].min()) > 4
