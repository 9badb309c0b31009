"""Implicit differentiation with every linear solver, and iMAML, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmlcore import trees
from cmlcore.estimate import meta_gradient
from cmlcore.estimators.implicit import cg, damped, dense, identity, implicit, neumann
from cmlcore.estimators.unroll import unrolled
from cmlcore.models.synapse import fixed_pull
from cmlcore.solve import gradient_descent, newton
from cmlcore.theory.quadratic import Springs, bowl_loss, exact_gradient, from_seed, hessian, minimizer, quadratic

pytestmark = pytest.mark.usefixtures("x64")

STEP = 1 / 11.7106  # 1 / (largest + smallest curvature) of from_seed(0)
LONG = gradient_descent(STEP, 2000)
NEWTON = newton(dense(), 1)  # one step to the minimum of a quadratic


def error(estimator, theta, task, exact=None):
    exact = exact_gradient(theta, task) if exact is None else exact
    return float(trees.relative_error(meta_gradient(estimator, quadratic, theta, task).grad, exact))


def test_unrolled_equals_implicit_equals_exact_at_convergence():
    theta, task = from_seed(0)
    for estimator in (unrolled(LONG), implicit(LONG, dense()), implicit(NEWTON, dense()), implicit(LONG, neumann(2000, STEP))):
        assert error(estimator, theta, task) < 1e-10


def test_conjugate_gradients_are_exact_after_d_steps():
    theta, task = from_seed(0, dim=6)
    almost, done, more = (error(implicit(NEWTON, cg(steps)), theta, task) for steps in (5, 6, 12))
    assert almost > 1e-4 and done < 1e-11 and more < 1e-11


def test_conjugate_gradients_keep_their_bound():
    """`|v_K - v|_H <= 2 q^K |v|_H` with `q = (sqrt(kappa) - 1) / (sqrt(kappa) + 1)` (Hestenes & Stiefel 1952)."""
    theta, task = from_seed(0)
    H = hessian(theta, task)
    rhs = jnp.sin(jnp.arange(20.0))
    v = jnp.linalg.solve(H, rhs)
    root = jnp.sqrt(jnp.linalg.cond(H))
    q = (root - 1) / (root + 1)
    for steps in (3, 8, 13):
        off = cg(steps)(lambda x: H @ x, rhs).v - v
        assert jnp.sqrt(off @ H @ off) < 2 * q**steps * jnp.sqrt(v @ H @ v)


def test_neumann_error_falls_at_rho_to_the_terms():
    theta, task = from_seed(0)
    rho = 1 - STEP * float(jnp.linalg.eigvalsh(hessian(theta, task))[0])
    at = {terms: error(implicit(NEWTON, neumann(terms, STEP)), theta, task) for terms in (200, 300)}
    assert np.log(at[300] / at[200]) / 100 == pytest.approx(np.log(rho), rel=1e-2)


@pytest.mark.parametrize("terms", [1, 7])
def test_neumann_is_gradient_descent_on_the_linear_system(terms):
    H, rhs = hessian(*from_seed(0)), jnp.cos(jnp.arange(20.0))
    v = jnp.zeros(20)
    for _ in range(terms):
        v = v - STEP * jax.grad(lambda v: v @ H @ v / 2 - v @ rhs)(v)
    np.testing.assert_allclose(neumann(terms, STEP)(lambda x: H @ x, rhs).v, v, rtol=1e-12, atol=1e-14)


def test_t1_t2_keeps_its_error():
    theta, task = from_seed(0)
    assert error(implicit(NEWTON, identity()), theta, task) == pytest.approx(1.2, rel=0.05)


def test_t1_t2_is_the_formula_without_the_hessian():
    theta, task = from_seed(0)
    phi = minimizer(theta, task)
    v = task.query.curvature @ (phi - task.query.center)
    assert error(implicit(NEWTON, identity()), theta, task, Springs(theta.stiffness * v, (theta.omega - phi) * v)) < 1e-12


@pytest.mark.parametrize("linear", [dense(), cg(30), neumann(600, 0.08)])
def test_damping_adds_to_the_curvature(linear):
    theta, task = from_seed(0)
    phi = minimizer(theta, task)
    v = jnp.linalg.solve(hessian(theta, task) + 0.5 * jnp.eye(20), task.query.curvature @ (phi - task.query.center))
    wanted = Springs(theta.stiffness * v, (theta.omega - phi) * v)
    assert error(implicit(NEWTON, damped(linear, 0.5)), theta, task, wanted) < 1e-9
    assert error(implicit(NEWTON, damped(linear, 0.0)), theta, task) < 1e-9
    assert trees.relative_error(wanted, exact_gradient(theta, task)) > 0.1


def test_damping_must_not_be_negative():
    with pytest.raises(ValueError, match="amount is -0.1.*must not be negative"):
        damped(cg(3), -0.1)


@pytest.mark.parametrize(
    "solver, linear",
    [(gradient_descent(0.08, 2000), cg(20)), (gradient_descent(0.08, 2000), neumann(2000, 0.08)), (newton(damped(cg(20), 0.3), 60), cg(20))],
)
def test_imaml_by_gradient_descent_and_hessian_free(solver, linear):
    """theta is omega, which phi starts at and is pulled to: `grad = 2 lambda (A + 2 lambda I)^-1 B (phi* - b)`."""
    _, task = from_seed(0)
    omega, strength = jnp.ones(20), 0.7
    (A, a), (B, b) = task
    H = A + 2 * strength * jnp.eye(20)
    phi = jnp.linalg.solve(H, A @ a + 2 * strength * omega)
    wanted = 2 * strength * jnp.linalg.solve(H, B @ (phi - b))
    found = meta_gradient(implicit(solver, linear), fixed_pull(bowl_loss, strength), omega, task)
    np.testing.assert_allclose(found.phi, phi, atol=1e-10)
    assert trees.relative_error(found.grad, wanted) < 1e-9
    blind = meta_gradient(implicit(solver, linear), fixed_pull(bowl_loss, 0.0), omega, task)
    assert not jnp.any(blind.grad), "without a pull, where learning ends does not depend on where it started"
