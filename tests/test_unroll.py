"""Backpropagation through training: all of it, the last steps, in segments, and forwards."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmlcore import trees
from cmlcore.bilevel import Problem, free
from cmlcore.estimate import meta_gradient
from cmlcore.estimators.contrastive import symmetric
from cmlcore.estimators.implicit import dense, implicit, neumann
from cmlcore.estimators.unroll import _in_segments, _only_last, checkpointed, forward_mode, truncated, unrolled
from cmlcore.solve import gradient_descent, minibatch, newton, optimizer, until
from cmlcore.theory.diagnostics import memory
from cmlcore.theory.quadratic import Springs, bowl_loss, exact_gradient, from_seed, hessian, quadratic

pytestmark = pytest.mark.usefixtures("x64")

STEP = 1 / 11.7106  # 1 / (largest + smallest curvature) of from_seed(0)


def grad(estimator, problem=quadratic, seed=0):
    return meta_gradient(estimator, problem, *from_seed(seed)).grad


def by_hand(steps, last, seed=0):
    """The derivative of the last `last` of `steps` steps of gradient descent on the quadratic, in numpy.

    With `v_k = (I - step H)^k B (phi_T - b)`, step T-1-k contributes `step s v_k` to omega and
    `-step v_k (phi_{T-1-k} - omega)` to s.
    """
    theta, task = from_seed(seed)
    H, (A, a), (B, b) = (np.asarray(hessian(theta, task)), *(map(np.asarray, bowl) for bowl in task))
    omega, s = map(np.asarray, theta)
    path = [np.zeros(20)]
    for _ in range(steps):
        path.append(path[-1] - STEP * (A @ (path[-1] - a) + s * (path[-1] - omega)))
    v, of_omega, of_s = B @ (path[-1] - b), np.zeros(20), np.zeros(20)
    for phi in path[-2 : -2 - last : -1]:
        of_omega, of_s = of_omega + STEP * s * v, of_s - STEP * v * (phi - omega)
        v = v - STEP * H @ v
    return Springs(of_omega, of_s)


@pytest.mark.parametrize("last", [1, 10, 29, 30, 99])
def test_truncated_is_the_derivative_of_the_last_steps(last):
    found = grad(truncated(gradient_descent(STEP, 30), last))
    assert trees.relative_error(found, by_hand(30, min(last, 30))) < 1e-12
    if last < 30:
        assert trees.relative_error(found, by_hand(30, last + 1)) > 1e-3


def test_unrolled_checkpointed_and_forward_mode_are_equal():
    """30 steps: 4 segments of 7 and 2 steps over; 10 of 3; one that is longer than the run; one step each."""
    solver = gradient_descent(STEP, 30)
    whole = by_hand(30, 30)
    estimators = [checkpointed(solver, size) for size in (None, 7, 3, 99, 1)] + [unrolled(solver), forward_mode(solver)]
    for estimator in estimators:
        assert trees.relative_error(grad(estimator), whole) < 1e-12


def test_forward_mode_differentiates_the_steps_that_a_while_loop_took():
    stopped = until(optax.sgd(STEP), 1e-1, 1000)
    found = meta_gradient(forward_mode(stopped), quadratic, *from_seed(0))
    taken = int(found.info["free"].steps)
    assert 10 < taken < 1000
    assert trees.relative_error(found.grad, by_hand(taken, taken)) < 1e-12


@pytest.mark.parametrize("terms", [1, 10])
def test_truncation_equivalence(terms):
    """At the minimum: K steps backwards = K terms of the Neumann series = K nudged steps, beta -> 0 (Ernoult et al. 2019)."""
    series = grad(implicit(newton(dense(), 1), neumann(terms, STEP)))
    assert trees.relative_error(grad(truncated(gradient_descent(STEP, 2000), terms)), series) < 1e-10
    nudged = symmetric(newton(dense(), 1), gradient_descent(STEP, terms), 1e-4)
    assert trees.relative_error(grad(nudged), series) < 1e-6


def test_away_from_the_minimum_truncation_and_the_series_differ():
    """They use the same products; backpropagation sees theta along the path, the series at its end."""
    solver = gradient_descent(STEP, 20)
    along, end = grad(truncated(solver, 10)), grad(implicit(solver, neumann(10, STEP)))
    assert trees.relative_error(along.omega, end.omega) < 1e-12, "omega pulls with s everywhere"
    assert trees.relative_error(along.stiffness, end.stiffness) > 1e-2, "s pulls with phi - omega, and phi moved"


def test_the_floor_of_truncation_is_rho_to_the_last_steps():
    theta, task = from_seed(0)
    rho = 1 - STEP * float(jnp.linalg.eigvalsh(hessian(theta, task))[0])
    solver = gradient_descent(STEP, 2000)
    at = {last: float(trees.relative_error(grad(truncated(solver, last)), exact_gradient(theta, task))) for last in (100, 150)}
    assert np.log(at[150] / at[100]) / 50 == pytest.approx(np.log(rho), rel=0.02)


STARTED = Problem(
    lambda phi, theta, support: quadratic.inner(phi, theta[0], support),
    lambda phi, theta, query: quadratic.outer(phi, theta[0], query),
    init=lambda theta, support: theta[1],
)


def test_truncation_is_blind_to_the_start_unless_it_reaches_it():
    theta, task = from_seed(0)
    of_start = lambda estimator: meta_gradient(estimator, STARTED, (theta, jnp.ones(20)), task).grad[1]
    solver = gradient_descent(STEP, 10)
    assert not jnp.any(of_start(truncated(solver, 9)))
    np.testing.assert_allclose(of_start(truncated(solver, 10)), of_start(unrolled(solver)), rtol=1e-12)


def test_unrolled_with_a_learned_start_is_maml():
    """theta is where phi starts and nothing else: `grad = (I - step A)^T B (phi_T - b)`."""
    maml = Problem(lambda phi, theta, bowl: bowl_loss(phi, bowl), lambda phi, theta, bowl: bowl_loss(phi, bowl))
    _, task = from_seed(0)
    (A, a), (B, b) = task
    shrink = jnp.linalg.matrix_power(jnp.eye(20) - 0.1 * A, 5)
    phi = a + shrink @ (jnp.ones(20) - a)
    for estimator in (unrolled, checkpointed, forward_mode):
        found = meta_gradient(estimator(gradient_descent(0.1, 5)), maml, jnp.ones(20), task).grad
        np.testing.assert_allclose(found, shrink @ B @ (phi - b), rtol=1e-12)


def test_truncation_carries_the_optimizers_state_over():
    """Adam by hand: phi and both moments after 12 steps are data; the derivative is that of the last 3."""
    theta, task = from_seed(0)
    adam = optax.adam(0.1)

    def run(theta, phi, state, steps):
        for _ in range(steps):
            updates, state = adam.update(jax.grad(free(quadratic, theta))(phi, task), state, phi)
            phi = optax.apply_updates(phi, updates)
        return phi, state

    before = run(theta, jnp.zeros(20), adam.init(jnp.zeros(20)), 12)
    wanted = jax.jit(jax.grad(lambda th: quadratic.outer(run(th, *before, 3)[0], th, task.query)))(theta)
    found = meta_gradient(truncated(optimizer(adam, 15), 3), quadratic, theta, task)
    assert trees.relative_error(found.grad, wanted) < 1e-10
    np.testing.assert_allclose(found.phi, run(theta, *before, 3)[0], rtol=1e-12)


@pytest.mark.parametrize("loop", [partial(_only_last, jax.lax.scan, 4), partial(_in_segments, jax.lax.scan, 3)])
def test_other_loops_take_the_same_steps(loop):
    """The same random draws, and the same path when it is kept."""
    theta, task = from_seed(0)

    def noisy(key, task):
        return task._replace(support=task.support._replace(center=jax.random.normal(key, (20,))))

    solver = minibatch(optax.sgd(STEP), 11, noisy, keep_path=True)
    run = lambda solver: solver(free(quadratic, theta), jnp.zeros(20), task, jax.random.key(0))
    found, wanted = run(solver._replace(loop=loop)), run(solver)
    assert found.path.shape == (12, 20)
    np.testing.assert_allclose(found.path, wanted.path, rtol=1e-12)
    np.testing.assert_array_equal(found.path[-1], found.phi)


def test_memory_is_as_advertised():
    """The stored path: T for unrolled, about 2 sqrt(T) for checkpointed, K for truncated, none for forward mode."""
    theta, task = from_seed(0)

    def bytes_of(build):
        few, many = (memory(lambda theta: build(gradient_descent(STEP, t))(quadratic, theta, task).grad, theta) for t in (100, 900))
        return few.temporary, many.temporary

    few, many = bytes_of(unrolled)
    assert many - few >= 800 * 20 * 8
    small, large = bytes_of(checkpointed)
    assert 40 * 20 * 8 <= large - small < 0.1 * (many - few), "30 + 30 phis rather than 10 + 10"
    for flat in (lambda solver: truncated(solver, 10), forward_mode):
        short, long = bytes_of(flat)
        assert short == long


def test_a_solver_that_cannot_be_taken_apart_is_refused():
    for build in (checkpointed, lambda solver: truncated(solver, 3)):
        with pytest.raises(TypeError, match="step by step.*implicit"):
            build(until(optax.sgd(0.1), 1e-3, 10))
    with pytest.raises(ValueError, match="last is 0"):
        truncated(gradient_descent(0.1, 3), 0)
    with pytest.raises(ValueError, match="segment is 0"):
        checkpointed(gradient_descent(0.1, 3), 0)
