"""Meta-training and tests on episodes of images: what all full runs of few-shot learning share, of whatever network; of this book."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

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


class Exam(NamedTuple):
    """A test: episodes of so many `ways` and `shots`.

    score: `(theta, task) -> {name: scalar}`, which learns the task from its support and judges what was learned, in one way or several.
    """

    ways: int
    shots: int
    score: Callable


def learned(problem: Problem, learner: Solver, scores: dict[str, Callable]) -> Callable:
    """The `score` of an `Exam`: each of `scores`, `(phi, theta, query) -> scalar`, of what `learner` makes of a task's support, from theta."""

    def score(theta, task):
        phi = learner(free(problem, theta), problem.init(theta, task.support), task).phi
        return {name: one(phi, theta, task.query) for name, one in scores.items()}

    return score


def examination(exam: Exam) -> Callable:
    """`(theta, images, key_number, count) -> {name: (count,)}`: the exam's scores in each of so many episodes."""

    def one(theta, images, key):
        return exam.score(theta, episode(key, images, exam.ways, exam.shots, TEST_QUERIES))

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
    exams: Sequence[Exam],
    outer: optax.GradientTransformation,
    average_after: int,
    arrange: Callable = lambda key, task: task,
) -> Training:
    """Meta-training with `estimator`, and `exams` of the mean of theta; the first score of the first is taken on validation classes, too.

    settings: of any kind that has ways, shots, queries, tasks, outer_steps, chunk, validation_episodes and test_episodes.
    images: gives those to train, to validate and to test on, as `episode` takes them. theta: `seed -> theta`, where a run starts.
    average_after: the outer steps after which Polyak's average begins.
    arrange: `(key, task) -> task`, what is done to a training episode before the estimator sees it.
    Raises ValueError where the outer steps do not fill the chunks.
    """
    if settings.outer_steps % settings.chunk:
        raise ValueError(f"outer_steps is {settings.outer_steps}, which chunks of {settings.chunk} do not fill.")
    train, validation, test = images()
    papers = [examination(exam) for exam in exams]

    @jax.jit  # the images are an argument: a constant of their size would be compiled in
    def learn(state, images):
        draw = lambda key: arrange(jax.random.fold_in(key, 1), episode(key, images, settings.ways, settings.shots, settings.queries))
        step = meta_step(problem, estimator, outer, draw, settings.tasks, batched)
        return meta_steps(averaged(step, average_after), settings.chunk)(state)

    def start(seed):
        begin = theta(seed)
        return Averaged(meta_start(begin, outer, jax.random.key(2 * seed + 1)), begin)

    def advance(state):
        state, info = learn(state, train)
        curve = {"outer_loss": jnp.mean(info.value), "grad_norm": jnp.mean(info.grad_norm)}
        if settings.validation_episodes:
            found = papers[0](state.mean, validation, VALIDATION, settings.validation_episodes)
            curve["validation"] = jnp.mean(next(iter(found.values())))
        return state, curve

    return Training(
        start=start,
        advance=advance,
        chunks=settings.outer_steps // settings.chunk,
        test=lambda seed, state: {name: each for paper in papers for name, each in paper(state.mean, test, TEST, settings.test_episodes).items()},
        keep=lambda state: state.mean,
    )
