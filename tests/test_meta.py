"""The outer loop, the sine tasks and the complex synapse."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmlcore import trees
from cmlcore.bilevel import Problem, Task
from cmlcore.data.sine import AMPLITUDE, INPUT, WIDTHS, mean_squared_error, sine_task, wave
from cmlcore.estimate import meta_gradient
from cmlcore.estimators.contrastive import contrastive, matched
from cmlcore.estimators.first_order import first_order, reptile
from cmlcore.estimators.imaginary import imaginary
from cmlcore.estimators.implicit import dense, implicit
from cmlcore.estimators.unroll import forward_mode, truncated, unrolled
from cmlcore.meta import evaluate, in_turn, meta_start, meta_step, meta_steps, over_tasks
from cmlcore.models.mlp import init_mlp, mlp
from cmlcore.models.synapse import Synapses, fixed_pull, learned_pull
from cmlcore.solve import gradient_descent, minibatch, optimizer, subsample

LOSS = mean_squared_error(mlp)
SMALL = (1, 5, 1)


@partial(jax.jit, static_argnums=0)
def tasks(count, seed=0):
    return jax.vmap(sine_task)(jax.random.split(jax.random.key(seed), count))


def test_a_meta_batch_gradient_is_the_mean_over_tasks_not_the_last():
    problem, theta = fixed_pull(LOSS, 0.1), init_mlp(jax.random.key(1), SMALL)
    estimator = matched(gradient_descent(0.01, 20), gradient_descent(0.01, 10), 0.1)
    batch = tasks(3)
    each = [meta_gradient(estimator, problem, theta, jax.tree.map(lambda x: x[i], batch)).grad for i in range(3)]
    together = jax.jit(over_tasks(estimator), static_argnums=0)(problem, theta, batch).grad
    mean = jax.tree.map(lambda *g: sum(g) / 3, *each)
    assert float(trees.relative_error(together, mean)) < 1e-4
    assert float(trees.relative_error(together, each[-1])) > 1e-2


def test_tasks_in_turn_have_the_same_mean_each_with_its_own_key():
    problem, theta, batch = fixed_pull(LOSS, 0.1), init_mlp(jax.random.key(1), SMALL), tasks(3)
    noisy = minibatch(optax.sgd(0.01), 5, subsample(4))
    estimator = matched(noisy, noisy, 0.1)
    for key in (jax.random.key(0), jax.random.key(1)):
        together, apart = (jax.jit(over(estimator), static_argnums=0)(problem, theta, batch, key) for over in (over_tasks, in_turn))
        assert float(trees.relative_error(apart.grad, together.grad)) < 1e-4 and apart.info == {}
        np.testing.assert_allclose(apart.value, together.value, rtol=1e-5)
    steady = contrastive(gradient_descent(0.01, 2), gradient_descent(0.01, 2), 0.1)
    together, apart = (jax.jit(over(steady), static_argnums=0)(problem, theta, batch) for over in (over_tasks, in_turn))
    assert float(trees.relative_error(apart.grad, together.grad)) < 1e-4  # without a key, too


def test_steps_in_one_call_equal_single_steps_and_depend_on_the_key():
    problem, theta = fixed_pull(LOSS, 0.1), init_mlp(jax.random.key(1), SMALL)
    estimator = matched(gradient_descent(0.01, 10), gradient_descent(0.01, 5), 0.1)
    outer = optax.adam(0.01)
    step = meta_step(problem, estimator, outer, sine_task, 4)
    start = meta_start(theta, outer, jax.random.key(3))
    three = meta_steps(step, 3)
    together, info = three(start)
    one, single = start, jax.jit(step)
    for _ in range(3):
        one, _ = single(one)
    assert float(trees.relative_error(together.theta, one.theta)) < 1e-5
    assert info.value.shape == (3,) and int(together.step) == 3
    other, _ = three(start._replace(key=jax.random.key(4)))
    assert float(trees.relative_error(together.theta, other.theta)) > 1e-4


def test_steps_that_are_built_in_a_loop_are_compiled_once():
    """Also inside of a loop, and whatever was made anew; an array among the settings identifies nothing."""
    outer, draw = optax.sgd(0.01), lambda key: traced.append(1) or sine_task(key)
    built = lambda beta: meta_steps(meta_step(fixed_pull(LOSS, 0.1), matched(*[gradient_descent(0.01, 3)] * 2, beta), outer, draw, 2), 2)
    state, traced = meta_start(init_mlp(jax.random.key(1), SMALL), outer, jax.random.key(3)), []
    state, _ = built(0.1)(state)
    first = len(traced)
    for _ in range(2):
        state, _ = built(0.1)(state)
    assert len(traced) == first and int(state.step) == 6 and built(0.1) is built(0.1) and built(0.1) is not built(0.2)
    again, _ = built(jnp.asarray(0.1))(state)
    assert len(traced) > first and int(again.step) == 8


def test_meta_training_reduces_the_error_on_tasks_never_seen():
    problem, theta = fixed_pull(LOSS, 0.03), init_mlp(jax.random.key(0), (1, 20, 20, 1))
    problem = fixed_pull(mean_squared_error(lambda p, x: mlp(p, x, jnp.tanh)), 0.03)
    adam = optax.adam(0.02)
    solver = optimizer(adam, 50)
    outer = optax.adam(0.01)
    steps = meta_steps(meta_step(problem, matched(solver, optimizer(adam, 25), 0.1), outer, sine_task, 10), 60)
    # Four lives: Adam's first steps follow signs, so that rounding alone can make one of them a bad one.
    lives = [steps(meta_start(theta, outer, jax.random.key(seed)))[0].theta for seed in range(1, 5)]
    score = lambda phi, theta, query: problem.outer(phi, theta, query)
    measure = jax.jit(lambda theta: evaluate(problem, solver, theta, tasks(50, 9), score).mean())
    assert sum(map(measure, lives)) / 4 < 0.75 * measure(theta)


def test_an_outer_loop_gains_nothing_from_no_gradient_and_nothing_from_swapped_queries():
    """The control that must fail: with meta-gradients of zero the error stays, to the bit; with the queries of another task, what was gained goes."""
    square = lambda phi, seen: jnp.mean((phi - seen) ** 2)
    problem = learned_pull(square)  # right weights scatter around 0; an example shows them with a little noise
    solver, outer = gradient_descent(0.2, 60), optax.adam(0.1)
    rule = matched(solver, solver, 0.01)

    def draw(key):
        right, first, second = (jax.random.normal(k, (5,)) for k in jax.random.split(key, 3))
        return Task(right + 0.3 * first, right + 0.3 * second)

    def swapped(key):
        mine, other = jax.random.split(key)
        return Task(draw(mine).support, draw(other).query)

    def nothing(problem, theta, task, key=None):
        found = rule(problem, theta, task, key)
        return found._replace(grad=jax.tree.map(jnp.zeros_like, found.grad))

    start = Synapses(jnp.zeros(5), jnp.zeros(5))
    unseen = jax.vmap(draw)(jax.random.split(jax.random.key(9), 500))
    score = jax.jit(lambda theta: evaluate(problem, solver, theta, unseen, lambda phi, theta, query: square(phi, query)).mean())
    lived = lambda estimator, draw: meta_steps(meta_step(problem, estimator, outer, draw, 20), 60)(meta_start(start, outer, jax.random.key(1)))[0].theta
    before, sound = float(score(start)), float(score(lived(rule, draw)))
    assert sound < 0.6 * before
    assert float(score(lived(nothing, draw))) == before
    assert float(score(lived(rule, swapped))) > before


def test_evaluate_gives_one_number_a_task():
    problem, theta = fixed_pull(LOSS, 0.1), init_mlp(jax.random.key(1), SMALL)
    solver = minibatch(optax.sgd(0.01), 5, subsample(4))
    score = lambda phi, theta, query: LOSS(phi, query)
    scores = jax.jit(lambda theta: evaluate(problem, solver, theta, tasks(7), score, jax.random.key(0)))(theta)
    assert scores.shape == (7,)


def test_sine_tasks_have_the_ranges_of_the_talk():
    many = jax.vmap(lambda k: sine_task(k, 10, 15))(jax.random.split(jax.random.key(0), 4000))
    assert many.support.x.shape == (4000, 10, 1) and many.query.y.shape == (4000, 15, 1)
    assert INPUT[0] <= many.support.x.min() < -4.99 and 4.99 < many.support.x.max() <= INPUT[1]
    height = jnp.abs(many.query.y).max()
    assert 4.9 < height <= AMPLITUDE[1]


def test_support_and_query_lie_on_one_wave():
    x = jnp.linspace(-5, 5, 11)[:, None]
    np.testing.assert_allclose(wave(2.0, 0.5, x).y, 2 * np.sin(np.asarray(x) + 0.5), rtol=1e-5)
    task = sine_task(jax.random.key(5), 300, 300)
    # y = a sin x + b cos x: the same two numbers must explain both sets.
    solve = lambda p: jnp.linalg.lstsq(jnp.hstack([jnp.sin(p.x), jnp.cos(p.x)]), p.y)[0]
    np.testing.assert_allclose(solve(task.support), solve(task.query), atol=1e-4)


@pytest.mark.parametrize("shots, queries", [(0, 10), (10, 0)])
def test_an_empty_task_is_refused(shots, queries):
    with pytest.raises(ValueError, match="at least one of each"):
        sine_task(jax.random.key(0), shots, queries)


def test_the_network_of_the_talk_has_1761_parameters():
    params = init_mlp(jax.random.key(0), WIDTHS)
    assert sum(x.size for x in jax.tree.leaves(params)) == 1761
    assert mlp(params, jnp.zeros((10, 1))).shape == (10, 1)


def test_the_pull_is_summed_over_synapses_without_a_half():
    problem = fixed_pull(lambda phi, data: 0.0, 0.5)
    phi, omega = {"a": jnp.array([1.0, 2.0])}, {"a": jnp.array([0.0, 0.0])}
    assert float(problem.inner(phi, omega, None)) == 0.5 * (1 + 4)
    learned = learned_pull(lambda phi, data: 0.0)
    theta = Synapses(omega, {"a": jnp.log(jnp.array([0.5, 3.0]))})
    assert float(learned.inner(phi, theta, None)) == pytest.approx(0.5 * 1 + 3 * 4)


def test_a_negative_pull_is_refused():
    with pytest.raises(ValueError, match="lambda is -0.1.*must not be negative"):
        fixed_pull(LOSS, -0.1)


def test_a_strength_may_be_traced():
    theta, phi = [jnp.ones(3)], [jnp.zeros(3)]
    of = jax.jit(lambda s: fixed_pull(lambda phi, data: 0.0, s).inner(phi, theta, None))
    assert float(of(2.0)) == 6.0


def test_where_phi_starts_is_the_problems_business():
    problem = Problem(lambda p, t, s: p**2, lambda p, t, q: p, init=lambda theta, support: theta["start"])
    theta = {"start": jnp.asarray(3.0)}
    assert float(gradient_descent(0.1, 0)(lambda p, t: p**2, problem.init(theta, None), Task()).phi) == 3.0


RULES = {
    "matched": lambda s: matched(s, s, 1e-3), "imaginary": lambda s: imaginary(s, s, 1e-3), "implicit": lambda s: implicit(s, dense()),
    "unrolled": unrolled, "forward_mode": forward_mode, "truncated": lambda s: truncated(s, 1), "first_order": first_order, "reptile": reptile,
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_learning_may_start_from_something_that_depends_on_the_task(name):
    """A warm start: after no steps at all every estimator stands where the task's own data say."""
    problem = Problem(
        lambda phi, theta, support: jnp.sum((phi - theta) ** 2),
        lambda phi, theta, query: jnp.sum(phi**2),
        init=lambda theta, support: theta + support["last"],
    )
    task = Task(support={"last": jnp.full(2, 3.0)})
    found = RULES[name](gradient_descent(0.1, 0))(problem, jnp.ones(2), task)
    np.testing.assert_allclose(found.phi, 4.0)
    np.testing.assert_allclose(found.value, 32.0)
