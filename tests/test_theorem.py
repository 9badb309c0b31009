"""Both sides of the theorem at solved minimizers: a quadratic, a network with pulled synapses, a Hopfield energy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmlcore import trees
from cmlcore.bilevel import Problem, Task, augmented
from cmlcore.data.sine import mean_squared_error, sine_task
from cmlcore.models.hopfield import hopfield, init_synapses
from cmlcore.models.mlp import init_mlp, mlp
from cmlcore.models.synapse import Synapses, learned_pull
from cmlcore.solve import gradient_descent, optimizer
from cmlcore.theory.equilibrium import relax
from cmlcore.theory.quadratic import exact_gradient, from_seed, quadratic
from cmlcore.theory.theorem import both_sides

TOLERANCE = 1e-9


def pulled_network():
    """A 1-6-1 network whose slow parameters are consolidated weights and pulls: both enter the inner loss."""
    omega = init_mlp(jax.random.key(0), (1, 6, 1))
    pulls = jax.tree.map(lambda w: jnp.full(w.shape, -1.0), omega)
    problem = learned_pull(mean_squared_error(lambda phi, x: mlp(phi, x, jnp.tanh)))
    return problem, optimizer(optax.sgd(0.05, momentum=0.9), 1500), Synapses(omega, pulls), sine_task(jax.random.key(1))


def energy_network():
    synapses = init_synapses(jax.random.key(0), (4, 6, 3))
    task = Task(jax.random.uniform(jax.random.key(1), (5, 4)), jax.nn.one_hot(jnp.arange(5) % 3, 3))
    return hopfield(5), relax(0.4, 300), synapses, task


@pytest.mark.parametrize("build", [pulled_network, energy_network])
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_both_sides_agree_at_a_minimizer(x64, build, beta):
    problem, solver, theta, task = build()
    sides = jax.jit(lambda beta: both_sides(problem, solver, theta, task, beta))(beta)
    assert sides.residual < 1e-10
    assert trees.norm(sides.by_theta) > 1e-2
    assert trees.relative_error(sides.by_beta, sides.by_theta) < TOLERANCE


@pytest.mark.parametrize("build", [pulled_network, energy_network])
def test_both_sides_are_what_learning_again_says(x64, build):
    """Neither automatic derivative taken for granted: solve again at moved theta, and at moved beta."""
    problem, solver, theta, task = build()
    sides = jax.jit(lambda: both_sides(problem, solver, theta, task, 0.3))()
    way = jax.tree.map(lambda x: jax.random.normal(jax.random.key(x.size), x.shape), theta)

    @jax.jit
    def at(h, beta):
        moved = trees.add(theta, trees.scale(h, way))
        phi = solver(augmented(problem, moved, beta), problem.init(moved, task.support), task).phi
        slope = jax.grad(lambda th: augmented(problem, th, beta)(phi, task))(moved)
        return problem.outer(phi, moved, task.query), trees.dot(slope, way)

    h = 1e-4
    by_theta = (at(h, 0.3)[0] - at(-h, 0.3)[0]) / (2 * h)
    by_beta = (at(0.0, 0.3 + h)[1] - at(0.0, 0.3 - h)[1]) / (2 * h)
    np.testing.assert_allclose(by_theta, trees.dot(sides.by_theta, way), rtol=1e-5)
    np.testing.assert_allclose(by_beta, trees.dot(sides.by_beta, way), rtol=1e-5)


def test_at_beta_zero_both_are_the_closed_form_of_the_quadratic(x64):
    theta, task = from_seed(0)
    sides = both_sides(quadratic, gradient_descent(0.085, 1500), theta, task, 0.0)
    exact = exact_gradient(theta, task)
    assert max(trees.relative_error(side, exact) for side in (sides.by_theta, sides.by_beta)) < 1e-9


def test_away_from_a_minimizer_they_differ(x64):
    problem, _, theta, task = pulled_network()
    sides = both_sides(problem, gradient_descent(0.05, 5), theta, task, 0.0)
    assert sides.residual > 1e-2 and trees.relative_error(sides.by_beta, sides.by_theta) > 0.1


def test_a_slow_parameter_in_the_outer_loss_counts_on_both_sides(x64):
    """theta's direct term is part of both."""
    problem = Problem(lambda p, th, _: jnp.sum((p - th) ** 2) + p @ p, lambda p, th, _: jnp.sum(th * p**3))
    theta = jnp.array([0.7, -1.2])
    sides = both_sides(problem, gradient_descent(0.1, 300), theta, Task(), 0.0)
    np.testing.assert_allclose(sides.by_theta, 4 * theta**3 / 8, rtol=1e-9)  # phi* = theta / 2
    np.testing.assert_allclose(sides.by_beta, sides.by_theta, rtol=1e-9)
