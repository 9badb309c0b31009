"""Inner solvers: where they stop, what they report, and that they compose."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmlcore.bilevel import Task, augmented, free
from cmlcore.estimators.implicit import damped, dense
from cmlcore.solve import Solved, gradient_descent, minibatch, newton, subsample, until
from cmlcore.theory.quadratic import from_seed, hessian, minimizer, quadratic

pytestmark = pytest.mark.usefixtures("x64")

RATE = 0.085


def solved(solver, seed=0, key=None) -> tuple[Solved, jax.Array]:
    """Where `solver` ends on the free phase, started at zero, and the exact minimizer."""
    theta, task = from_seed(seed)
    return solver(free(quadratic, theta), jnp.zeros(20), task, key), minimizer(theta, task)


def test_gradient_descent_falls_at_the_rate_of_the_softest_direction():
    theta, task = from_seed(0)
    result, exact = solved(gradient_descent(RATE, 400, keep_path=True))
    assert result.path.shape == (401, 20)
    distance = jnp.linalg.norm(result.path - exact, axis=1)
    slope = jnp.log(distance[300] / distance[200]) / 100
    rho = 1 - RATE * jnp.linalg.eigvalsh(hessian(theta, task))[0]
    assert float(slope) == pytest.approx(float(jnp.log(rho)), rel=1e-3)
    np.testing.assert_array_equal(result.path[-1], result.phi)


def test_residuals_are_the_gradient_norms_of_the_full_task():
    theta, task = from_seed(0)
    result, _ = solved(minibatch(optax.sgd(RATE), 20, lambda key, task: task))
    slope = jax.grad(lambda phi: free(quadratic, theta)(phi, task))
    assert result.grad_norm == pytest.approx(float(jnp.linalg.norm(slope(result.phi))))
    assert result.start_norm == pytest.approx(float(jnp.linalg.norm(slope(jnp.zeros(20)))))
    assert result.steps == 20 and result.path is None and not result.diverged


@pytest.mark.parametrize("transform", [optax.adam(0.03), optax.sgd(0.03, momentum=0.9, nesterov=True), optax.rmsprop(1e-3)])
def test_any_optax_transformation_solves(transform):
    result, exact = solved(until(transform, 1e-2, 20_000))
    assert jnp.linalg.norm(result.phi - exact) < 2e-2


def test_until_stops_at_the_tolerance_or_at_the_limit():
    result, _ = solved(until(optax.sgd(RATE), 1e-6, 10_000))
    assert result.grad_norm <= 1e-6 and 0 < result.steps < 10_000
    one_less, _ = solved(gradient_descent(RATE, int(result.steps) - 1))
    assert one_less.grad_norm > 1e-6
    cut, _ = solved(until(optax.sgd(RATE), 1e-6, 7))
    assert cut.steps == 7 and cut.grad_norm > 1e-6


def test_no_step_leaves_phi_alone():
    result, _ = solved(gradient_descent(RATE, 0, keep_path=True))
    np.testing.assert_array_equal(result.phi, jnp.zeros(20))
    assert result.path.shape == (1, 20) and result.grad_norm == result.start_norm


def test_rates_are_traced_and_solvers_vmap():
    theta, task = from_seed(0)

    @jax.jit
    @jax.vmap
    def distance(rate):
        end = gradient_descent(rate, 50)(free(quadratic, theta), jnp.zeros(20), task)
        return jnp.linalg.norm(end.phi - minimizer(theta, task))

    slow, fast = distance(jnp.array([0.01, 0.08]))
    assert fast < slow


def test_a_phase_that_runs_away_says_so():
    away, _ = solved(gradient_descent(0.5, 200))
    assert away.diverged
    overflown, _ = solved(gradient_descent(0.5, 3000))
    assert overflown.diverged and not jnp.isfinite(overflown.grad_norm)


def regression(key):
    """A task of 30 support and 20 query examples, `(x, y)` with x of 3 numbers."""
    keys = jax.random.split(key, 4)
    draw = lambda k, e, n: (jax.random.normal(k, (n, 3)), jax.random.normal(e, (n,)))
    return Task(draw(keys[0], keys[1], 30), draw(keys[2], keys[3], 20))


def squared(phi, task):
    x, y = task.support
    return jnp.mean((x @ phi - y) ** 2)


def test_minibatches_depend_on_the_key_alone():
    task = regression(jax.random.key(1))
    solver = minibatch(optax.sgd(0.05), 40, subsample(5))
    run = lambda key: solver(squared, jnp.zeros(3), task, key).phi
    np.testing.assert_array_equal(run(jax.random.key(0)), run(jax.random.key(0)))
    assert not jnp.allclose(run(jax.random.key(0)), run(jax.random.key(1)))
    assert solver(squared, jnp.zeros(3), task, jax.random.key(0)).grad_norm > 1e-3


def test_subsample_keeps_inputs_and_targets_together():
    x = jnp.arange(30.0)
    task = Task((x, 2 * x), (-x[:20], x[:20]))
    drawn = subsample(6)(jax.random.key(0), task)
    assert drawn.support[0].shape == (6,) and drawn.query[0].shape == (6,)
    np.testing.assert_array_equal(2 * drawn.support[0], drawn.support[1])
    np.testing.assert_array_equal(-drawn.query[0], drawn.query[1])
    assert drawn.query[1].max() < 20
    uneven = subsample(6, 0)(jax.random.key(0), task)
    np.testing.assert_array_equal(uneven.support[0], drawn.support[0])
    np.testing.assert_array_equal(uneven.query[0], task.query[0])  # 0: all of them, in order


def test_nudged_objectives_are_what_a_solver_sees():
    theta, task = from_seed(0)
    for beta in (0.2, -0.2):
        end = gradient_descent(RATE, 2000)(augmented(quadratic, theta, beta), jnp.zeros(20), task)
        np.testing.assert_allclose(end.phi, minimizer(theta, task, beta), atol=1e-8)


def test_newton_sees_the_curvature_through_its_linear_solver():
    """One exact step ends at the minimum of a quadratic; a damped one goes `h / (h + damping)` of the way, direction by direction."""
    theta, task = from_seed(0)
    end, exact = solved(newton(dense(), 1))
    np.testing.assert_allclose(end.phi, exact, atol=1e-12)
    end, _ = solved(newton(damped(dense(), 0.5), 3, keep_path=True))
    left = jnp.linalg.matrix_power(0.5 * jnp.linalg.inv(hessian(theta, task) + 0.5 * jnp.eye(20)), 3)
    np.testing.assert_allclose(end.phi - exact, left @ (0 - exact), atol=1e-12)
    assert end.path.shape == (4, 20)
    with pytest.raises(ValueError, match="steps is -1"):
        newton(dense(), -1)
