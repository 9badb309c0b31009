"""A fast read-out on slow features: the chain rule of `through`, one pass of the network a task, distortions, and the runs on characters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_omniglot import needs_archive

from cmlcore import trees
from cmlcore.bilevel import Problem, Task
from cmlcore.data.distortion import distorted
from cmlcore.data.episodes import Examples
from cmlcore.estimators.contrastive import contrastive, matched, symmetric
from cmlcore.estimators.implicit import dense, implicit
from cmlcore.estimators.through import through
from cmlcore.estimators.unroll import unrolled
from cmlcore.models import readout
from cmlcore.models.conv4 import from_support, transductive
from cmlcore.runs import fast_weights, slow_features
from cmlcore.runs.fast_weights import Weights
from cmlcore.runs.slow_features import Features
from cmlcore.runs.sources import SOURCES
from cmlcore.solve import gradient_descent

WAYS = 3
TINY = dict(queries=1, size=16, filters=4, outer_steps=2, chunk=1, average_after=1, validation_episodes=2, test_episodes=2)
METHODS = {
    f"{module.__name__}.{name}": (build, settings)
    for module, settings in (
        (slow_features, Features(ways=4, **TINY)),
        (fast_weights, Weights(ways=20, pull=0.1, products=2, damping=1.0, **TINY)),
    )
    for name, build in vars(module).items()
    if name.startswith("train_")
}


def episode_of(key, ways=WAYS, queries=2, size=16) -> Task:
    images = jax.random.uniform(key, (ways * (1 + queries), size, size))
    support, query = images[:ways], images[ways:]
    return Task(Examples(support, jnp.arange(ways), support), Examples(query, jnp.repeat(jnp.arange(ways), queries), support))


def slow_and_task():
    return readout.init_slow(jax.random.key(0), filters=4, size=16, pull=0.1), episode_of(jax.random.key(1))


# --- through ----------------------------------------------------------------------------------------------------------


def test_through_is_the_chain_rule(x64):
    """The exact meta-gradient of the whole problem, whose losses run the slow network in every step, without `through`."""
    keys = jax.random.split(jax.random.key(0), 3)
    theta, *inputs = (jax.random.normal(key, shape) for key, shape in zip(keys, ((5, 4), (6, 5), (9, 5))))
    task = Task(*(Examples(x, jnp.arange(len(x)) % WAYS, x) for x in inputs))

    def represent(theta, task):
        made = (readout.of_length_one(jnp.tanh(part.images @ theta)) for part in task)
        return readout.Seen(*made, jnp.log(0.1), jnp.log(2.0))

    small = readout.fast_readout(WAYS)
    whole = Problem(
        lambda phi, theta, support: small.inner(phi, represent(theta, task), support),
        lambda phi, theta, query: small.outer(phi, represent(theta, task), query),
        lambda theta, support: small.init(represent(theta, task), support),
    )
    settled = gradient_descent(0.3, 400)
    exact = implicit(settled, dense())(whole, theta, task)
    for estimator, error in ((implicit(settled, dense()), 1e-9), (unrolled(settled), 1e-9), (symmetric(settled, settled, 1e-3), 1e-5)):
        found = through(represent, estimator)(small, theta, task)
        assert trees.relative_error(found.grad, exact.grad) < error
        assert abs(found.value - exact.value) < 1e-12


@pytest.mark.parametrize("rule", [contrastive, symmetric, matched])
def test_learning_never_touches_the_network(rule):
    """As many convolutions as one forward and one backward pass have, and none of them in a loop, however many steps learning takes."""
    theta, task = slow_and_task()

    def convolutions(jaxpr, inside=False):
        for equation in jaxpr.eqns:
            if equation.primitive.name in ("convolve", "correlate"):
                yield inside
            for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda value: hasattr(value, "jaxpr")):
                if hasattr(inner, "jaxpr"):
                    yield from convolutions(inner.jaxpr, inside or equation.primitive.name in ("scan", "while"))

    estimator = through(readout.seeing(), rule(gradient_descent(0.3, 20), gradient_descent(0.3, 10), 0.1))
    traced = jax.make_jaxpr(lambda theta: estimator(readout.fast_readout(WAYS), theta, task).grad)(theta)
    one_pass = jax.make_jaxpr(jax.grad(lambda theta: jnp.sum(readout.seeing()(theta, task).query)))(theta)
    found = list(convolutions(traced.jaxpr))
    assert len(found) == len(list(convolutions(one_pass.jaxpr))) and not any(found)


# --- the read-out -----------------------------------------------------------------------------------------------------


def test_features_have_length_one_and_the_read_out_says_nothing_at_first():
    theta, task = slow_and_task()
    seen, problem = readout.seeing()(theta, task), readout.fast_readout(WAYS)
    assert jnp.linalg.norm(seen.query, axis=1) == pytest.approx(np.ones(len(seen.query)), rel=1e-5)
    phi = problem.init(seen, task.support)
    assert problem.inner(phi, seen, task.support) == pytest.approx(WAYS * np.log(WAYS), rel=1e-6)
    assert problem.outer(phi, seen, task.query) == pytest.approx(np.log(WAYS), rel=1e-6)


@pytest.mark.parametrize("normalize, apart", [(transductive, True), (from_support, False)])
def test_by_the_statistics_of_the_support_a_query_stands_alone(normalize, apart):
    theta, task = slow_and_task()
    alone = task._replace(query=jax.tree.map(lambda x: x[:1], task.query)._replace(support=task.query.support))
    together, single = (readout.seeing(normalize)(theta, each).query[0] for each in (task, alone))
    assert bool(jnp.abs(together - single).max() > 1e-3) == apart


# --- distortions ------------------------------------------------------------------------------------------------------


def test_no_distortion_changes_nothing_and_some_keeps_most_of_the_ink():
    drawn = jnp.zeros((5, 28, 28)).at[:, 10:18, 12:16].set(1.0)
    assert jnp.abs(distorted(jax.random.key(0), drawn, 0.0) - drawn).max() < 1e-5
    changed = distorted(jax.random.key(0), drawn, 1.0)
    assert jnp.all(jnp.abs(changed - drawn).max((1, 2)) > 0.3) and jnp.abs(changed[0] - changed[1]).max() > 0.1
    ink = changed.sum((1, 2)) / drawn.sum((1, 2))
    assert jnp.all((ink > np.exp(-0.4) - 0.05) & (ink < np.exp(0.4) + 0.05))  # stretched by a fifth at most, each way


# --- the runs ---------------------------------------------------------------------------------------------------------


@needs_archive
@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_taught_and_examined_alike(name):
    """Traced, which finds what does not fit together: compiling fifteen networks would take minutes."""
    build, settings = METHODS[name]
    training = build(settings)
    start = training.start(0)
    assert training.chunks == (0 if name.endswith("scratch") else 2)
    after, curve = jax.eval_shape(training.advance, start)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, start) and {"outer_loss", "validation"} <= curve.keys()


@needs_archive
@pytest.mark.parametrize("name", ["cmlcore.runs.slow_features.train_prototypes", "cmlcore.runs.fast_weights.train_layers"])
def test_one_training_sits_all_exams(name):
    build, settings = METHODS[name]
    training = build(settings)
    scores = jax.eval_shape(lambda state: training.test(0, state), training.start(0))
    assert scores.keys() == {f"{exam}{kind}" for exam in ("20w1s", "20w5s", "5w1s", "5w5s") for kind in ("", "-support")}
    assert {score.shape for score in scores.values()} == {(2,)}


@needs_archive
def test_a_training_of_slow_features_moves_them_and_keeps_what_it_tests():
    training = slow_features.train_matched(Features(ways=4, **TINY | dict(test_episodes=1)))
    state = training.start(0)
    state, curve = training.advance(state)
    assert curve["grad_norm"] > 0 and trees.norm(trees.sub(training.keep(state).blocks, training.start(0).mean.blocks)) > 0


@needs_archive
def test_mirror_images_and_validation_characters_are_more_characters():
    plain, more = (SOURCES["omniglot"].images(each) for each in (Features(), Features(mirrored=True, whole=True)))
    assert len(plain[0]) == 4 * 792 and len(more[0]) == 2 * 4 * 964
    assert len(plain[2]) == len(more[2]) == 659 and (plain[2] == more[2]).all()
    assert (more[0][4 * 964] == more[0][0][..., ::-1]).all()


def test_a_read_out_is_cut_to_the_first_classes():
    theta = {"blocks": [], "w": jnp.arange(12.0).reshape(3, 4), "b": jnp.arange(4.0)}
    assert fast_weights.fewer(theta, 2)["w"].tolist() == [[0, 1], [4, 5], [8, 9]] and fast_weights.fewer(theta, 2)["b"].tolist() == [0, 1]
