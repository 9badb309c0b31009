"""Nudges in the complex plane: the derivative without a difference, in single and in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from precision import precision

from cmlcore import trees
from cmlcore.bilevel import Problem, Task
from cmlcore.data.episodes import Examples
from cmlcore.estimate import meta_gradient
from cmlcore.estimators import holomorphic
from cmlcore.estimators.contrastive import contrastive, matched, symmetric, three_point
from cmlcore.estimators.first_order import first_order, reptile
from cmlcore.estimators.imaginary import contour, imaginary, tangent
from cmlcore.estimators.implicit import dense, implicit
from cmlcore.estimators.unroll import checkpointed, forward_mode, truncated, unrolled
from cmlcore.models.conv4 import conv4, cross_entropy, init_conv4
from cmlcore.models.conv4 import transductive as real_transductive
from cmlcore.models.convolution import products
from cmlcore.models.lenet import init_lenet, lenet
from cmlcore.models.mlp import init_mlp, mlp
from cmlcore.models.synapse import fixed_pull
from cmlcore.solve import gradient_descent, minibatch, newton, optimizer, subsample, until
from cmlcore.theory.compare import sealed
from cmlcore.theory.diagnostics import blind, order_in_beta
from cmlcore.theory.quadratic import exact_gradient, from_seed, golden, quadratic

STEP = 1 / 11.7106
LONG, SHORT = gradient_descent(STEP, 400), gradient_descent(STEP, 30)


def gradient(estimator, theta, task, problem=quadratic, key=None):
    return meta_gradient(estimator, problem, theta, task, key).grad


@pytest.mark.parametrize("beta", [1e-4, 1e-7, 1e-10])
def test_single_precision_has_no_floor(beta):
    with precision(double=True):
        theta, task = from_seed(0)
        exact = exact_gradient(theta, task)
    with precision(double=False):
        single = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float32), (theta, task, exact))
        error = lambda rule: float(trees.relative_error(gradient(rule, *single[:2]), single[2]))
        assert error(imaginary(LONG, LONG, beta)) < 2e-6
        assert error(matched(LONG, LONG, beta)) > 5e-4


@pytest.mark.usefixtures("x64")
def test_it_is_the_limit_of_matched_with_unfinished_phases():
    theta, task = from_seed(0)
    limit = gradient(tangent(SHORT, SHORT), theta, task)
    assert trees.relative_error(limit, exact_gradient(theta, task)) > 0.01
    assert trees.relative_error(gradient(imaginary(SHORT, SHORT, 1e-8), theta, task), limit) < 1e-12
    assert trees.relative_error(gradient(matched(SHORT, SHORT, 1e-6), theta, task), limit) < 1e-5
    assert trees.relative_error(gradient(contrastive(SHORT, SHORT, 1e-6), theta, task), limit) > 1


@pytest.mark.usefixtures("x64")
def test_orders_in_beta():
    theta, task = from_seed(0)
    limit, betas = gradient(tangent(SHORT, SHORT), theta, task), jnp.logspace(-2.5, -1.5, 4)
    order = lambda build: float(order_in_beta(build, quadratic, theta, task, limit, betas).slope)
    assert order(lambda b: matched(SHORT, SHORT, b)) == pytest.approx(1, abs=0.05)
    assert order(lambda b: imaginary(SHORT, SHORT, b)) == pytest.approx(2, abs=0.05)
    assert order(lambda b: contour(SHORT, SHORT, b, 4)) == pytest.approx(4, abs=0.1)


@pytest.mark.usefixtures("x64")
def test_the_contour_is_exact_at_a_finite_radius():
    theta, task = from_seed(0)
    limit = gradient(tangent(SHORT, SHORT), theta, task)
    error = lambda rule: float(trees.relative_error(gradient(rule, theta, task), limit))
    assert error(imaginary(SHORT, SHORT, 0.1)) > 1e-3
    assert error(contour(SHORT, SHORT, 0.1, 32)) < 1e-11
    np.testing.assert_allclose(error(contour(SHORT, SHORT, 0.1, 2)), error(imaginary(SHORT, SHORT, 0.1)), rtol=1e-9)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("solver", [optimizer(optax.sgd(0.05, 0.9), 500), sealed(gradient_descent(0.3, 200))])
def test_any_solver_that_is_linear_in_gradients(solver):
    theta, task = golden()
    found = meta_gradient(imaginary(gradient_descent(0.3, 200), solver, 1e-8), quadratic, theta, task)
    assert trees.relative_error(found.grad, exact_gradient(theta, task)) < 1e-9
    assert found.value == pytest.approx(25 / 9)


@pytest.mark.usefixtures("x64")
def test_a_learner_that_stops_by_itself_must_see_the_imaginary_part():
    """Its gradient is of the size of beta: a tolerance that is not far below it stops too early."""
    theta, task = golden()
    error = lambda beta: trees.relative_error(
        gradient(imaginary(LONG_GOLDEN, until(optax.sgd(0.3), 1e-13, 1000), beta), theta, task), exact_gradient(theta, task)
    )
    assert error(1e-4) < 1e-7 < error(1e-8) < error(1e-12)


LONG_GOLDEN = gradient_descent(0.3, 200)


def regression(activation):
    """A small network on a few points, mean squared error, a pull; and the start of its weights."""
    x = jnp.linspace(-2, 2, 6)[:, None]
    points = (x, jnp.sin(2 * x)), (x + 0.2, jnp.cos(x))
    loss = lambda phi, data: jnp.mean((mlp(phi, data[0], activation) - data[1]) ** 2)
    return fixed_pull(loss, 0.1), init_mlp(jax.random.key(3), (1, 5, 5, 1)), Task(*points)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("activation", [jnp.tanh, jax.nn.relu, holomorphic.relu])
def test_a_network_smooth_or_rectified(activation):
    problem, theta, task = regression(activation)
    solver = gradient_descent(0.02, 40)
    limit = gradient(tangent(solver, solver), theta, task, problem)
    assert trees.relative_error(gradient(imaginary(solver, solver, 1e-9), theta, task, problem), limit) < 1e-10


@pytest.mark.usefixtures("x64")
def test_mini_batches_and_adam_continued():
    problem, theta, task = regression(jnp.tanh)
    draws = minibatch(optax.sgd(0.02, 0.9), 20, subsample(3))
    key = jax.random.key(0)
    limit = gradient(tangent(draws, draws), theta, task, problem, key)
    assert trees.relative_error(gradient(imaginary(draws, draws, 1e-9), theta, task, problem, key), limit) < 1e-10
    real, continued = optimizer(optax.adam(0.01), 20), optimizer(holomorphic.adam(0.01), 20)
    limit = gradient(tangent(real, real), theta, task, problem)
    assert trees.relative_error(gradient(imaginary(real, continued, 1e-12), theta, task, problem), limit) < 1e-6


@pytest.mark.usefixtures("x64")
def test_a_convolutional_network_with_max_pooling_and_cross_entropy():
    images = jax.random.uniform(jax.random.key(1), (4, 16, 16))
    labels = jnp.array([0, 1, 0, 1])
    task = Task(Examples(images, labels, images), Examples(images[::-1], labels, images))
    net = lambda normalize: lambda phi, e: conv4(phi, e.images, e.support, normalize, products)
    theta, solver = init_conv4(jax.random.key(0), 2, filters=2, size=16), gradient_descent(0.01, 3)
    real = fixed_pull(cross_entropy(net(real_transductive)), 0.1)
    complex_ = fixed_pull(holomorphic.cross_entropy(net(holomorphic.transductive)), 0.1)
    limit = gradient(tangent(solver, solver), theta, task, real)
    assert trees.relative_error(gradient(imaginary(solver, solver, 1e-12), theta, task, complex_), limit) < 1e-7


@pytest.mark.usefixtures("x64")
def test_lenet_with_its_rectifiers_and_max_pools_as_they_stand():
    """Comparisons of complex numbers go by the real part: the network of the hyperparameters chapter needs no other rectifier or pool."""
    images = jax.random.uniform(jax.random.key(2), (4, 16, 16, 3))
    data = Examples(images, jnp.arange(4), images)
    loss = lambda phi: holomorphic.cross_entropy(lambda phi, e: lenet(phi, e.images))(phi, data)
    phi, way, h = init_lenet(jax.random.key(0), 16), init_lenet(jax.random.key(1), 16), 1e-12
    moved = jax.jit(lambda phi: holomorphic.slope(loss, phi))(jax.tree.map(lambda p, w: p + 1j * h * w, phi, way))
    curved = jax.jit(lambda phi: jax.jvp(jax.grad(loss), (phi,), (way,))[1])(phi)
    assert trees.norm(curved) > 1
    assert trees.relative_error(jax.tree.map(lambda g: jnp.imag(g) / h, moved), curved) < 1e-7


# Refusals


def test_what_is_refused():
    theta, task = golden()
    with pytest.raises(ValueError, match="divides by beta"):
        imaginary(LONG, LONG, 0.0)
    with pytest.raises(ValueError, match="even number"):
        contour(LONG, LONG, 0.1, 3)
    for transform in (optax.adam(0.01), optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)), optax.rmsprop(0.1)):
        with pytest.raises(TypeError, match="not analytic.*Adam"):
            gradient(imaginary(LONG, optimizer(transform, 3), 1e-4), theta, task)
    with pytest.raises(TypeError, match="not analytic"):
        gradient(imaginary(LONG, newton(dense(), 1), 1e-4), theta, task)
    sized = Problem(quadratic.inner, lambda phi, th, q: jnp.sum(jnp.abs(phi) ** 2), quadratic.init)
    with pytest.raises(TypeError, match="not holomorphic: it takes `abs`"):
        gradient(imaginary(LONG, LONG, 1e-4), theta, task, sized)


REAL = {
    "one-sided": contrastive(LONG, LONG, 0.1), "symmetric": symmetric(LONG, LONG, 0.1), "three-point": three_point(LONG, LONG, 0.1),
    "matched": matched(LONG, LONG, 0.1), "implicit": implicit(LONG, dense()), "unrolled": unrolled(LONG), "truncated": truncated(LONG, 3),
    "checkpointed": checkpointed(LONG), "forward mode": forward_mode(LONG), "first order": first_order(LONG), "Reptile": reptile(LONG),
    "tangent": tangent(LONG, LONG), "imaginary": imaginary(LONG, LONG, 0.1), "contour": contour(LONG, LONG, 0.1),
    "until": matched(until(optax.sgd(0.1), 1e-3, 9), LONG, 0.1), "newton": implicit(newton(dense(), 1), dense()),
}  # fmt: skip


@pytest.mark.parametrize("rule", REAL)
def test_no_estimator_starts_from_complex_parameters(rule):
    """Each takes a real start, and a complex one, or a complex theta, is refused by this package's own words."""
    theta, task = golden()
    assert trees.all_finite(gradient(REAL[rule], theta, task))
    with pytest.raises(TypeError, match="phi is complex, and a free phase learns real numbers"):
        gradient(REAL[rule], theta, task, quadratic._replace(init=lambda th, support: th.omega + 1j))
    if rule != "forward mode":  # there JAX refuses it before any phase begins
        with pytest.raises(TypeError, match="theta is complex, and a free phase"):
            gradient(REAL[rule], holomorphic.lifted(theta), task, quadratic._replace(init=lambda th, support: jnp.real(th.omega)))


@pytest.mark.usefixtures("x64")
def test_it_is_blind_to_the_start_only_where_the_rule_is():
    theta, task = golden()
    problem = Problem(lambda phi, th, s: quadratic.inner(phi, th[0], s), lambda phi, th, q: quadratic.outer(phi, th[0], q), lambda th, support: th[1])
    found = blind(problem, imaginary(SHORT, SHORT, 1e-6), unrolled(SHORT), (theta, jnp.zeros(1)), task)
    assert found.unseen == ("[1]",)
