"""First-order meta-learning of an initialization, against closed forms and against its neighbors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmlcore import trees
from cmlcore.bilevel import Problem
from cmlcore.estimate import meta_gradient
from cmlcore.estimators.first_order import first_order, reptile
from cmlcore.estimators.implicit import identity, implicit
from cmlcore.estimators.unroll import unrolled
from cmlcore.models.synapse import fixed_pull
from cmlcore.solve import gradient_descent, until
from cmlcore.theory.quadratic import bowl_loss, from_seed, quadratic

pytestmark = pytest.mark.usefixtures("x64")

START = np.ones(20)
PLAIN = fixed_pull(bowl_loss, 0.0)  # theta is where phi starts, and nothing else


def learned(task, rate, steps):
    """Where gradient descent from START ends, and `(I - rate A)^steps`."""
    A, a = task.support
    shrink = jnp.linalg.matrix_power(jnp.eye(20) - rate * A, steps)
    return a + shrink @ (START - a), shrink


@pytest.mark.parametrize("steps", [1, 6])
def test_closed_forms(steps):
    _, task = from_seed(0)
    phi, shrink = learned(task, 0.1, steps)
    slope = task.query.curvature @ (phi - task.query.center)
    solver = gradient_descent(0.1, steps)
    for estimator, wanted in {first_order: slope, reptile: START - phi, unrolled: shrink @ slope}.items():
        found = meta_gradient(estimator(solver), PLAIN, START, task)
        np.testing.assert_allclose(found.phi, phi, rtol=1e-12)
        np.testing.assert_allclose(found.grad, wanted, rtol=1e-10)
        assert found.value == pytest.approx(float(bowl_loss(phi, task.query)))


def test_the_neighbors_differ_in_direction():
    _, task = from_seed(0)
    maml, first, rep = (meta_gradient(e(gradient_descent(0.1, 6)), PLAIN, START, task).grad for e in (unrolled, first_order, reptile))
    assert max(trees.cosine(maml, first), trees.cosine(maml, rep), trees.cosine(first, rep)) < 0.8


def test_t1_t2_is_another_estimator():
    """It sees theta through the inner loss. Where that is a pull to the start, it is first-order MAML times `2 lambda`."""
    _, task = from_seed(0)
    solver = gradient_descent(0.1, 6)
    first, t1t2 = (meta_gradient(e, fixed_pull(bowl_loss, 0.3), START, task).grad for e in (first_order(solver), implicit(solver, identity())))
    np.testing.assert_allclose(t1t2, 2 * 0.3 * first, rtol=1e-10)
    first, t1t2 = (meta_gradient(e, PLAIN, START, task).grad for e in (first_order(solver), implicit(solver, identity())))
    assert trees.norm(first) > 1 and not jnp.any(t1t2)


def test_without_a_step_of_learning_first_order_is_exact_and_reptile_zero():
    _, task = from_seed(0)
    none = gradient_descent(0.1, 0)
    exact = meta_gradient(unrolled(none), PLAIN, START, task).grad
    np.testing.assert_allclose(meta_gradient(first_order(none), PLAIN, START, task).grad, exact, rtol=1e-12)
    assert not jnp.any(meta_gradient(reptile(none), PLAIN, START, task).grad)


def test_reptile_with_one_step_is_joint_training():
    """One step of learning: the direction is the inner gradient at the start, over the rate."""
    _, task = from_seed(0)
    found = meta_gradient(reptile(gradient_descent(0.1, 1)), PLAIN, START, task).grad
    np.testing.assert_allclose(found, 0.1 * jax.grad(bowl_loss)(START, task.support), rtol=1e-10)


def test_reptile_does_not_look_at_the_query_set():
    _, task = from_seed(0)
    other = task._replace(query=task.query._replace(center=task.query.center + 1))
    solver = gradient_descent(0.1, 6)
    grads = {e: [meta_gradient(e(solver), PLAIN, START, t).grad for t in (task, other)] for e in (reptile, first_order)}
    np.testing.assert_array_equal(*grads[reptile])
    assert trees.relative_error(*grads[first_order]) > 0.1


def test_the_way_back_to_theta_is_that_of_init():
    """theta enters the start twice, and the outer loss directly."""
    problem = Problem(
        lambda phi, theta, bowl: bowl_loss(phi, bowl),
        lambda phi, theta, bowl: bowl_loss(phi, bowl) + jnp.sum(theta**3),
        init=lambda theta, support: 2 * theta,
    )
    _, task = from_seed(0)
    theta = START / 2
    phi, _ = learned(task, 0.1, 6)
    solver = until(optax.sgd(0.1), 0.0, 6)  # any solver will do
    slope = task.query.curvature @ (phi - task.query.center)
    np.testing.assert_allclose(meta_gradient(first_order(solver), problem, theta, task).grad, 2 * slope + 3 * theta**2, rtol=1e-10)
    np.testing.assert_allclose(meta_gradient(reptile(solver), problem, theta, task).grad, 2 * (START - phi), rtol=1e-10)


def test_both_are_blind_to_theta_in_the_inner_loss():
    for estimator in (first_order, reptile):
        found = meta_gradient(estimator(gradient_descent(0.08, 50)), quadratic, *from_seed(0))
        assert trees.norm(found.grad) == 0
