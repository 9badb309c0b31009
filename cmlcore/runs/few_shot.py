"""Meta-training and tests on episodes of images: what all full runs of few-shot learning share, of whatever network; of this book."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from cmlcore.bilevel import Problem, free
from cmlcore.data.episodes import episode
from cmlcore.estimate import MetaGradient, unwatched
from cmlcore.meta import Averaged, averaged, in_turn, meta_start, meta_step, meta_steps, over_tasks
from cmlcore.runs.experiment import Training
from cmlcore.solve import Solver

# Keys of the episodes that choices are made on, and of those that are touched once, by the final test.
VALIDATION, TEST = 12345, 54321
TEST_QUERIES = 15  # of each class, as published
AT_ONCE = 50  # episodes of a test that an accelerator learns side by side


def batched(estimator: MetaGradient) -> MetaGradient:
    """An `over` of `meta_step`: a meta-batch in turn on a CPU, side by side elsewhere; without diagnostics, which cost gradients."""
    if jax.default_backend() == "cpu":
        return in_turn(estimator)
    return over_tasks(unwatched(estimator))


def examination(settings, problem: Problem, learner: Solver, score: Callable) -> Callable:
    """`(theta, images, key_number, count) -> (count,)`: `score(phi, theta, query)` in each episode, its support learned from theta."""

    def one(theta, images, key):
        task = episode(key, images, settings.ways, settings.shots, TEST_QUERIES)
        return score(learner(free(problem, theta), problem.init(theta, task.support), task).phi, theta, task.query)

    @jax.jit
    def all_of(theta, images, keys):
        at_once = None if jax.default_backend() == "cpu" else min(AT_ONCE, len(keys))
        return jax.lax.map(lambda key: one(theta, images, key), keys, batch_size=at_once)

    return lambda theta, images, number, count: all_of(theta, images, jax.random.split(jax.random.key(number), count))


def meta_training(
    settings,
    images: Callable,
    theta: Callable,
    problem: Problem,
    estimator: MetaGradient,
    learner: Solver,
    score: Callable,
    outer: optax.GradientTransformation,
    average_after: int,
    arrange: Callable = lambda task: task,
) -> Training:
    """Meta-training with `estimator`, and tests with `learner` and `score` (see `examination`), both of the mean of theta.

    settings: of either kind, `Characters` or `Images`.
    images: gives those to train, to validate and to test on, as `episode` takes them. theta: `seed -> theta`, where a run starts.
    average_after: the outer steps after which Polyak's average begins.
    arrange: what is done to a training episode before the estimator sees it.
    Raises ValueError where the outer steps do not fill the chunks.
    """
    if settings.outer_steps % settings.chunk:
        raise ValueError(f"outer_steps is {settings.outer_steps}, which chunks of {settings.chunk} do not fill.")
    train, validation, test = images()
    exam = examination(settings, problem, learner, score)

    @jax.jit  # the images are an argument: a constant of their size would be compiled in
    def learn(state, images):
        draw = lambda key: arrange(episode(key, images, settings.ways, settings.shots, settings.queries))
        step = meta_step(problem, estimator, outer, draw, settings.tasks, batched)
        return meta_steps(averaged(step, average_after), settings.chunk)(state)

    def start(seed):
        first = theta(seed)
        return Averaged(meta_start(first, outer, jax.random.key(2 * seed + 1)), first)

    def advance(state):
        state, info = learn(state, train)
        held_out = exam(state.mean, validation, VALIDATION, settings.validation_episodes)
        return state, {"outer_loss": jnp.mean(info.value), "grad_norm": jnp.mean(info.grad_norm), "validation": jnp.mean(held_out)}

    return Training(
        start=start,
        advance=advance,
        chunks=settings.outer_steps // settings.chunk,
        test=lambda seed, state: {"accuracy": exam(state.mean, test, TEST, settings.test_episodes)},
        keep=lambda state: state.mean,
    )
