"""Meta-gradient estimators against the closed forms of the quadratic problem."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmlcore import trees
from cmlcore.bilevel import Problem, Task, free
from cmlcore.estimate import meta_gradient
from cmlcore.estimators.contrastive import contrastive, matched, symmetric, three_point
from cmlcore.estimators.implicit import cg, dense, identity, implicit, neumann
from cmlcore.estimators.unroll import truncated, unrolled
from cmlcore.meta import over_tasks
from cmlcore.solve import gradient_descent, minibatch, newton, subsample, until
from cmlcore.theory.quadratic import (
    exact_contrast,
    exact_gradient,
    exact_symmetric,
    from_key,
    from_seed,
    golden,
    minimizer,
    quadratic,
)

pytestmark = pytest.mark.usefixtures("x64")

RULES = [contrastive, symmetric, three_point, matched]
STEP = 1 / 11.7106  # 1 / (largest + smallest curvature) of from_seed(0), below the limit 2 / largest
LONG = gradient_descent(STEP, 2000)
NEWTON = newton(dense(), 1)  # one step to the minimum of a quadratic


def error(estimator, theta, task, exact=None):
    exact = exact_gradient(theta, task) if exact is None else exact
    return float(trees.relative_error(meta_gradient(estimator, quadratic, theta, task).grad, exact))


# Solved exactly


@pytest.mark.parametrize("beta", [0.3, 0.1, 0.01, 0.001])
@pytest.mark.parametrize("solver", [NEWTON, gradient_descent(0.3, 200), until(optax.sgd(0.3), 1e-13, 1000)])
def test_golden_case(solver, beta):
    theta, task = golden()
    for rule, exact in ((contrastive, exact_contrast), (symmetric, exact_symmetric)):
        found = meta_gradient(rule(solver, solver, beta), quadratic, theta, task)
        assert found.value == pytest.approx(25 / 9, abs=1e-11)
        assert trees.norm(trees.sub(found.grad, exact(theta, task, beta))) < 1e-9


@pytest.mark.parametrize("beta", [0.02, 0.2])
def test_rules_equal_their_closed_forms(beta):
    theta, task = from_seed(0)
    one, two = exact_contrast(theta, task, beta), exact_contrast(theta, task, 2 * beta)
    for rule, exact in {
        contrastive: one,
        matched: one,
        symmetric: exact_symmetric(theta, task, beta),
        three_point: trees.sub(trees.scale(2, one), two),
    }.items():
        assert error(rule(LONG, LONG, beta), theta, task, exact) < 1e-9


def test_a_negative_beta_nudges_negatively():
    theta, task = from_seed(0)
    assert error(contrastive(LONG, LONG, -0.1), theta, task, exact_contrast(theta, task, -0.1)) < 1e-9
    assert error(contrastive(LONG, LONG, -0.1), theta, task, exact_contrast(theta, task, 0.1)) > 0.1


def test_the_direct_term_is_part_of_the_contrast():
    """An outer loss that also depends on theta by itself: its partial derivative must be counted once."""
    theta, task = from_seed(0)
    direct = Problem(quadratic.inner, lambda phi, th, query: quadratic.outer(phi, th, query) + jnp.sum(th.omega**3), quadratic.init)
    exact = exact_gradient(theta, task)
    exact = exact._replace(omega=exact.omega + 3 * theta.omega**2)
    for estimator in (symmetric(LONG, LONG, 1e-4), implicit(LONG, dense()), unrolled(LONG)):
        assert trees.relative_error(meta_gradient(estimator, direct, theta, task).grad, exact) < 1e-6


def test_nudged_phases_start_from_the_free_solution():
    theta, task = from_seed(0)
    starts = []

    def recording(objective, phi, task, key=None):
        starts.append(phi)
        return NEWTON(objective, phi, task)

    for rule, phases in {contrastive: 1, symmetric: 2, three_point: 2, matched: 2}.items():
        starts.clear()
        found = rule(gradient_descent(STEP, 7), recording, 0.1)(quadratic, theta, task)
        assert len(starts) == phases
        for start in starts:
            np.testing.assert_array_equal(start, found.phi)


def test_a_nudged_phase_of_no_steps_sees_nothing():
    theta, task = from_seed(0)
    found = meta_gradient(contrastive(gradient_descent(STEP, 7), gradient_descent(STEP, 0), 0.1), quadratic, theta, task)
    assert trees.norm(found.grad) == 0
    assert found.info["nudged"].grad_norm == found.info["nudged"].start_norm


# Solved for a while: the four facts that explain the rule


@pytest.mark.parametrize("terms", [1, 3, 10, 50])
def test_k_nudged_steps_are_a_neumann_series_of_k_terms(terms):
    """With an exact free solution, gradient descent and beta -> 0; the symmetric rule takes the limit to O(beta^2)."""
    theta, task = from_seed(0)
    series = meta_gradient(implicit(NEWTON, neumann(terms, STEP)), quadratic, theta, task).grad
    assert error(symmetric(NEWTON, gradient_descent(STEP, terms), 1e-4), theta, task, series) < 1e-6
    one_more = meta_gradient(implicit(NEWTON, neumann(terms + 1, STEP)), quadratic, theta, task).grad
    assert trees.relative_error(series, one_more) > 1e-4


def test_one_nudged_step_is_t1_t2_up_to_scale():
    theta, task = from_seed(0)
    t1t2 = meta_gradient(implicit(NEWTON, identity()), quadratic, theta, task).grad
    assert error(symmetric(NEWTON, gradient_descent(STEP, 1), 1e-4), theta, task, trees.scale(STEP, t1t2)) < 1e-6


def best_beta(rule, solver, theta, task):
    """The lowest error over beta, and the beta that has it."""
    betas = jnp.logspace(-8, np.log10(0.28), 150)
    run = jax.jit(jax.vmap(lambda beta: rule(solver, solver, beta)(quadratic, theta, task).grad))
    errors = jax.vmap(lambda grad: trees.relative_error(grad, exact_gradient(theta, task)))(run(betas))
    return float(jnp.min(errors)), float(betas[jnp.argmin(errors)])


def test_a_matched_control_cancels_the_transient():
    """T0 = T1 = 200, the best beta of each: the error falls from order sqrt(delta) to order delta."""
    theta, task = from_seed(0)
    solver = gradient_descent(STEP, 200)
    delta = float(jnp.linalg.norm(contrastive(solver, NEWTON, 0.1)(quadratic, theta, task).phi - minimizer(theta, task)))
    one, beta = best_beta(contrastive, solver, theta, task)
    assert 0.3 * delta**0.5 < one < 3 * delta**0.5
    assert one == pytest.approx(2.0e-3, rel=0.03)
    found, smaller = best_beta(matched, solver, theta, task)
    assert 0.1 * delta < found < delta and smaller < beta / 100
    assert found == pytest.approx(3.6e-6, rel=0.03)


# T: delta; best one-sided, its beta, best symmetric; one-sided at beta = 0.1, implicit at phi_T, Neumann-T,
# the last 10 steps, all steps, T1-T2.
STEPS_TABLE = {
    20: (2.8e-1, 4.2e-1, 1.5e-1, 1.8e-1, 4.5e-1, 8.0e-2, 1.8e-1, 3.6e-1, 1.7e-1, 1.1),
    50: (4.4e-2, 1.6e-1, 4e-2, 2.2e-2, 2.1e-1, 1.2e-2, 2.5e-2, 3.6e-1, 3.8e-2, 1.2),
    100: (2.5e-3, 3.6e-2, 9e-3, 1.1e-3, 1.8e-1, 6.2e-4, 1.4e-3, 3.7e-1, 3.0e-3, 1.2),
    200: (8.1e-6, 2.0e-3, 6e-4, 3.5e-6, 1.8e-1, 2.0e-6, 4.8e-6, 3.7e-1, 1.4e-5, 1.2),
}


@pytest.mark.parametrize("steps", STEPS_TABLE)
def test_reference_table_of_steps(steps):
    """Errors within 5 % of the two digits printed, the best beta (a flat minimum on a grid) within 20 %."""
    theta, task = from_seed(0)
    solver = gradient_descent(STEP, steps)
    linear = {"dense": dense(), "neumann": neumann(steps, STEP), "identity": identity()}
    fixed = {"rule": contrastive(solver, solver, 0.1)} | {name: implicit(solver, how) for name, how in linear.items()}
    fixed |= {"truncated": truncated(solver, 10), "unrolled": unrolled(solver)}
    exact = exact_gradient(theta, task)
    phi = solver(free(quadratic, theta), jnp.zeros(20), task).phi
    delta, at = (
        jnp.linalg.norm(phi - minimizer(theta, task)),
        jax.jit(lambda theta: {name: trees.relative_error(e(quadratic, theta, task).grad, exact) for name, e in fixed.items()})(theta),
    )
    (one, beta), (both, _) = (best_beta(rule, solver, theta, task) for rule in (contrastive, symmetric))
    found = (delta, one, both, at["rule"], at["dense"], at["neumann"], at["truncated"], at["unrolled"], at["identity"])
    row = STEPS_TABLE[steps]
    np.testing.assert_allclose(found, row[:2] + row[3:], rtol=0.05)
    assert beta == pytest.approx(row[2], rel=0.2)


# Composition


@pytest.mark.parametrize("rule", RULES)
def test_beta_is_traced_and_one_compilation_serves_all(rule):
    theta, task = from_seed(0)
    traces = []

    @jax.jit
    def run(beta):
        traces.append(beta)
        return rule(LONG, LONG, beta)(quadratic, theta, task).grad

    for beta in (0.01, 0.1):
        assert trees.relative_error(run(beta), meta_gradient(rule(LONG, LONG, beta), quadratic, theta, task).grad) < 1e-9
    assert len(traces) == 1


def test_the_error_can_be_differentiated_in_beta():
    """d/dbeta of the contrast's omega part in the golden case: (5/3) / (3/2 + 2 beta) has slope -(10/3) / (3/2 + 2 beta)^2."""
    theta, task = golden()
    estimate = lambda beta: contrastive(NEWTON, NEWTON, beta)(quadratic, theta, task).grad.omega[0]
    assert jax.grad(estimate)(0.2) == pytest.approx(-(10 / 3) / 1.9**2, rel=1e-9)


@pytest.mark.parametrize(
    "estimator",
    [contrastive(LONG, LONG, 0.1), implicit(LONG, cg(60)), unrolled(LONG)],
)
def test_a_meta_batch_is_the_mean_over_tasks(estimator):
    thetas, tasks = jax.vmap(from_key)(jax.random.split(jax.random.key(0), 3))
    theta = jax.tree.map(lambda x: x[0], thetas)
    batch = jax.jit(lambda tasks: over_tasks(estimator)(quadratic, theta, tasks))(tasks)
    each = [meta_gradient(estimator, quadratic, theta, jax.tree.map(lambda x: x[i], tasks)) for i in range(3)]
    mean = jax.tree.map(lambda *g: sum(g) / 3, *(e.grad for e in each))
    assert trees.relative_error(batch.grad, mean) < 1e-9
    assert batch.value == pytest.approx(float(np.mean([e.value for e in each])))


def test_matched_control_cancels_the_noise_of_minibatches():
    """Regression on mini-batches: both runs draw the same examples, so the noise of the reference is the same noise."""
    keys = jax.random.split(jax.random.key(3), 4)
    x, xq = jax.random.normal(keys[0], (30, 3)), jax.random.normal(keys[1], (30, 3))
    truth = jnp.array([1.0, -2.0, 0.5])
    task = Task((x, x @ truth + jax.random.normal(keys[2], (30,))), (xq, xq @ truth))
    mse = lambda phi, data: jnp.mean((data[0] @ phi - data[1]) ** 2)
    problem = Problem(lambda phi, omega, d: mse(phi, d) + 0.5 * jnp.sum((phi - omega) ** 2), lambda phi, omega, d: mse(phi, d))
    omega = jnp.zeros(3)
    exact = meta_gradient(unrolled(gradient_descent(0.1, 1000)), problem, omega, task).grad
    noisy = minibatch(optax.sgd(0.02), 100, subsample(10))
    spread = {}
    for rule in (contrastive, matched):
        run = jax.jit(jax.vmap(lambda key: rule(noisy, noisy, 0.1)(problem, omega, task, key).grad))
        grads = run(jax.random.split(jax.random.key(0), 30))
        spread[rule] = float(jnp.sqrt(jnp.mean(jnp.sum((grads - exact) ** 2, 1))) / jnp.linalg.norm(exact))
    assert spread[matched] < 0.3 * spread[contrastive]


# Single precision has a floor of its own


@pytest.mark.parametrize(
    "rule, lowest, highest, left, right",
    [(contrastive, 2e-4, 4e-3, 3e-5, 1e-3), (symmetric, 1e-5, 3e-4, 3e-4, 5e-3)],
)
def test_float32_floor(rule, lowest, highest, left, right):
    exact = jax.tree.map(lambda x: x.astype(jnp.float32), exact_gradient(*from_seed(0)))
    theta, task = jax.tree.map(lambda x: x.astype(jnp.float32), from_seed(0))
    betas = jnp.logspace(-6, -1, 26, dtype=jnp.float32)
    run = jax.jit(jax.vmap(lambda b: rule(LONG, LONG, b)(quadratic, theta, task).grad))
    grads = run(betas)
    assert grads.omega.dtype == jnp.float32
    errors = jax.vmap(lambda g: trees.relative_error(g, exact))(grads)
    assert lowest < float(jnp.min(errors)) < highest
    assert left < float(betas[jnp.argmin(errors)]) < right
    assert errors[0] > 5 * jnp.min(errors), "a smaller nudge must be worse: rounding, divided by beta"
