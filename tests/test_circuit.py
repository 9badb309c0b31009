"""The error circuit: the gradient where its feedback is the transpose, feedback alignment where it is random."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmlcore import trees
from cmlcore.bilevel import Task
from cmlcore.data.sine import mean_squared_error, sine_task
from cmlcore.estimate import meta_gradient
from cmlcore.estimators.contrastive import matched
from cmlcore.estimators.unroll import unrolled
from cmlcore.models.circuit import changes, circuit, predict, random_feedback, send_down, transpose
from cmlcore.models.mlp import init_mlp, mlp
from cmlcore.models.synapse import fixed_pull
from cmlcore.solve import gradient_descent

MATCHED = {
    "linear, squared error": (lambda u: u, lambda u, y: jnp.sum((y - u) ** 2) / 2),
    "sigmoid, cross-entropy": (jax.nn.sigmoid, lambda u, y: jnp.sum(optax.sigmoid_binary_cross_entropy(u, y))),
    "softmax, cross-entropy": (jax.nn.softmax, lambda u, y: jnp.sum(optax.softmax_cross_entropy(u, y))),
}


def example(widths, examples=6):
    k = jax.random.split(jax.random.key(0), 4)
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(k[3], p.shape), init_mlp(k[0], widths))
    x = jax.random.normal(k[1], (examples, widths[0]))
    return params, x, jax.nn.softmax(jax.random.normal(k[2], (examples, widths[-1])))


@pytest.mark.parametrize(
    "name, rho, widths",
    [
        ("linear, squared error", jnp.tanh, (5, 7, 3)),
        ("sigmoid, cross-entropy", jax.nn.softplus, (5, 7, 3)),
        ("softmax, cross-entropy", jax.nn.relu, (5, 7, 6, 4, 3)),
    ],
)
def test_with_the_transpose_as_feedback_the_changes_are_the_gradient(x64, name, rho, widths):
    """e2 = y - r2, sent down and multiplied with the rates below, against jax.grad of an independent network."""
    readout, loss = MATCHED[name]
    params, x, y = example(widths)
    sweep = predict(params, x, rho)
    errors = send_down(transpose(params), sweep, y - readout(sweep.drives[-1]), rho)
    minus = jax.tree.map(jnp.negative, changes(sweep, errors))
    exact = jax.grad(lambda p: loss(mlp(p, x, rho), y))(params)
    assert trees.relative_error(minus, exact) < 1e-12
    assert trees.relative_error(jax.grad(lambda p: loss(circuit(transpose, rho)(p, x), y))(params), exact) < 1e-12


def test_the_talk_s_four_lines_for_one_example(x64):
    params, x, y = example((5, 7, 3), examples=1)
    params = [layer | {"b": jnp.zeros_like(layer["b"])} for layer in params]
    W1, W2, r0, target = params[0]["w"].T, params[1]["w"].T, x[0], y[0]
    r1 = jnp.tanh(W1 @ r0)
    e2 = target - W2 @ r1
    e1 = (1 - r1**2) * (W2.T @ e2)
    sweep = predict(params, x)
    found = changes(sweep, send_down(transpose(params), sweep, y - sweep.drives[-1]))
    np.testing.assert_allclose(found[1]["w"].T, jnp.outer(e2, r1), rtol=1e-12)
    np.testing.assert_allclose(found[0]["w"].T, jnp.outer(e1, r0), rtol=1e-12)


def test_input_derivative_and_second_derivatives_are_exact_too(x64):
    params, x, y = example((5, 7, 3))
    ours, plain = (lambda p, x, net=net: jnp.mean((net(p, x) - y) ** 2) for net in (circuit(), lambda p, x: mlp(p, x, jnp.tanh)))
    np.testing.assert_allclose(jax.grad(ours, 1)(params, x), jax.grad(plain, 1)(params, x), rtol=1e-12)
    twice = lambda f: jax.grad(lambda p: trees.dot(jax.grad(f)(p, x), params))(params)
    assert trees.relative_error(twice(ours), twice(plain)) < 1e-12


def test_random_feedback_changes_all_layers_but_the_last(x64):
    widths = (5, 7, 6, 3)
    params, x, y = example(widths)
    loss = lambda feedback: lambda p: jnp.sum((circuit(feedback)(p, x) - y) ** 2)
    exact, aligned = (jax.grad(loss(f))(params) for f in (transpose, random_feedback(jax.random.key(5), widths)))
    np.testing.assert_allclose(aligned[-1]["w"], exact[-1]["w"], rtol=1e-12)
    assert all(trees.relative_error(a, e) > 0.5 for a, e in zip(aligned[:-1], exact[:-1]))


def test_one_layer_has_no_feedback_to_choose():
    params, x, y = example((5, 3))
    assert random_feedback(jax.random.key(0), (5, 3))(params) == [] == transpose(params)


def test_a_pathway_that_does_not_fit_is_named():
    params, x, _ = example((5, 7, 3))
    with pytest.raises(ValueError, match=r"\(7, 3\).*needs \[\(3, 7\)\]"):
        jax.grad(lambda p: jnp.sum(circuit(lambda p: [p[1]["w"]])(p, x)))(params)


@pytest.fixture(scope="module")
def learned():
    """A network that learned a fixed nonlinear function by random feedback, and what it began with."""
    widths = (4, 20, 2)
    feedback = random_feedback(jax.random.key(1), widths)
    params = init_mlp(jax.random.key(2), widths)
    x = jax.random.normal(jax.random.key(3), (100, 4))
    y = jnp.sin(x[:, :2] + x[:, 2:])
    loss = lambda p, task: jnp.mean((circuit(feedback)(p, x) - y) ** 2)
    solved = jax.jit(lambda p: gradient_descent(0.1, 1000)(loss, p, Task()))(params)
    cosine = lambda p: trees.cosine(feedback(p)[0], transpose(p)[0])
    return loss(params, None), loss(solved.phi, None), cosine(params), cosine(solved.phi)


def test_feedback_alignment_learns_and_aligns(learned):
    """The forward weights turn towards the fixed feedback (Lillicrap et al. 2016)."""
    before, after, angle_before, angle_after = learned
    assert after < 0.3 * before
    assert abs(angle_before) < 0.3 and angle_after > 0.5


def sine_problem(feedback, strength=0.1):
    return fixed_pull(mean_squared_error(circuit(feedback)), strength)


def test_the_contrastive_rule_takes_its_first_derivatives_from_the_circuit(x64):
    """Exact feedback gives the rule of the plain network; random feedback another estimate."""
    widths = (1, 10, 1)
    omega, task = init_mlp(jax.random.key(0), widths), sine_task(jax.random.key(1))
    estimator = matched(gradient_descent(0.02, 100), gradient_descent(0.02, 50), 0.1)
    plain = fixed_pull(mean_squared_error(lambda p, x: mlp(p, x, jnp.tanh)), 0.1)
    wanted = meta_gradient(estimator, plain, omega, task).grad
    exact = meta_gradient(estimator, sine_problem(transpose), omega, task).grad
    aligned = meta_gradient(estimator, sine_problem(random_feedback(jax.random.key(2), widths)), omega, task).grad
    assert trees.relative_error(exact, wanted) < 1e-9
    assert trees.relative_error(aligned, wanted) > 0.1
    through = unrolled(gradient_descent(0.02, 20))
    same = [meta_gradient(through, problem, omega, task).grad for problem in (plain, sine_problem(transpose))]
    assert trees.relative_error(*same) < 1e-9
