"""The full sine-wave experiments: the contrastive rule, MAML and training from scratch on the same tasks."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from cmlcore.bilevel import Problem
from cmlcore.data.sine import WIDTHS, mean_squared_error, sine_task
from cmlcore.estimators import holomorphic
from cmlcore.estimators.contrastive import contrastive, matched
from cmlcore.estimators.imaginary import imaginary
from cmlcore.estimators.unroll import unrolled
from cmlcore.meta import evaluate, meta_start, meta_step, meta_steps
from cmlcore.models.mlp import init_mlp, mlp
from cmlcore.models.synapse import fixed_pull
from cmlcore.runs.experiment import Training
from cmlcore.solve import Solver, minibatch, optimizer, subsample
from cmlcore.speed import fast


def network(phi, x):
    """The regressor of every row: 1-40-40-1 with tanh, which is smooth, as the theory asks (the talk does not say)."""
    return mlp(phi, x, jnp.tanh)


LOSS = mean_squared_error(network)
PLAIN = Problem(lambda phi, theta, support: LOSS(phi, support), lambda phi, theta, query: LOSS(phi, query))
CHUNK = 50
BY_HAND = {contrastive: fast.contrastive, matched: fast.matched}
# Keys of the tasks that choices are made on, and of those that are touched once, by the final test.
VALIDATION, TEST = 12345, 54321


def fresh_tasks(key_number: int, count: int):
    """`count` tasks that depend on `key_number` only: 10 support points, 100 query points."""
    return jax.vmap(lambda key: sine_task(key, 10, 100))(jax.random.split(jax.random.key(key_number), count))


class Contrastive(NamedTuple):
    """Settings of a contrastive run; inner Adam, its rate decaying as a cosine in each phase if `settle` is 1."""

    free_steps: int
    nudged_steps: int
    inner_rate: float
    settle: int
    batch: int
    beta: float
    pull: float
    outer_steps: int
    tasks: int
    outer_rate: float
    clip: float


class Minibatch(NamedTuple):
    """Settings of a contrastive run on mini-batches: free phase Adam, nudged phase and control SGD with momentum.

    Both rates decay as a cosine. Under Adam the nudge would change the rate of every synapse, so the noise of the
    mini-batches would differ between the nudged run and its control, and would not cancel.
    """

    free_steps: int
    nudged_steps: int
    free_rate: float
    nudged_rate: float
    momentum: float
    batch: int
    beta: float
    pull: float
    outer_steps: int
    tasks: int
    outer_rate: float
    clip: float


class Maml(NamedTuple):
    """Settings of a MAML run: the initialization is learned through `inner_steps` steps of gradient descent."""

    inner_steps: int
    inner_rate: float
    outer_steps: int
    tasks: int
    outer_rate: float
    clip: float


class Scratch(NamedTuple):
    """Settings of training from scratch: Adam from a random initialization, without any meta-learning."""

    inner_steps: int
    inner_rate: float


def meta_training(problem: Problem, estimator, solver: Solver, settings, init=lambda key: init_mlp(key, WIDTHS)) -> Training:
    """The outer loop that all meta-learned rows share; `settings` names outer_steps, tasks, outer_rate and clip.

    init: `key -> theta`, what a seed starts from.
    """
    schedule = optax.cosine_decay_schedule(settings.outer_rate, settings.outer_steps)
    outer = optax.chain(optax.clip_by_global_norm(settings.clip), optax.adam(schedule))
    many = meta_steps(meta_step(problem, estimator, outer, sine_task, settings.tasks), CHUNK)

    def error(theta, tasks, key):
        return evaluate(problem, solver, theta, tasks, problem.outer, key)

    measure = jax.jit(error)

    def advance(state):
        state, info = many(state)
        held_out = measure(state.theta, fresh_tasks(VALIDATION, 200), jax.random.key(VALIDATION))
        return state, {
            "outer_loss": jnp.mean(info.value),
            "grad_norm": jnp.mean(info.grad_norm),
            "validation": jnp.mean(held_out),
            "validation_median": jnp.median(held_out),
        }

    return Training(
        start=lambda seed: meta_start(init(jax.random.key(2 * seed)), outer, jax.random.key(2 * seed + 1)),
        advance=advance,
        chunks=settings.outer_steps // CHUNK,
        test=lambda seed, state: {"error": measure(state.theta, fresh_tasks(TEST, 1000), jax.random.key(TEST + seed))},
        keep=lambda state: state.theta,
    )


def settling(rate: float, steps: int):
    """A rate that falls to a hundredth of `rate` as a cosine: what is left of the noise at the end is small."""
    return optax.cosine_decay_schedule(rate, steps, 0.01)


def settled_adam(rate: float, steps: int, unroll: int = 2, eps_root: float = 0.0) -> Solver:
    """`steps` updates with Adam whose rate settles."""
    return optimizer(optax.adam(settling(rate, steps), eps_root=eps_root), steps, unroll=unroll)


def _learner(transform: optax.GradientTransformation, steps: int, batch: int) -> Solver:
    """`steps` updates on mini-batches of `batch` examples, or on the whole task if that is 0."""
    return minibatch(transform, steps, subsample(batch), unroll=2) if batch else optimizer(transform, steps, unroll=2)


def _contrastive_training(rule, settings: Contrastive) -> Training:
    """The rule `matched` or `contrastive`: by hand on full batches (see `cmlcore.speed.fast`), the general one on mini-batches."""

    def rate(steps):
        return settling(settings.inner_rate, steps) if settings.settle else settings.inner_rate

    def phase(steps):
        return _learner(optax.adam(rate(steps)), steps, settings.batch)

    counts = settings.free_steps, settings.nudged_steps
    problem = fast.pulled_regression(settings.pull)
    if settings.batch:
        estimator = rule(*map(phase, counts), settings.beta)
    else:
        estimator = BY_HAND[rule](*(fast.Adam(rate(steps), steps) for steps in counts), settings.beta)
    return meta_training(problem, estimator, phase(settings.free_steps), settings)


def train_minibatch(settings: Minibatch) -> Training:
    """The contrastive rule with the matched control, every phase on mini-batches."""
    free = optax.adam(settling(settings.free_rate, settings.free_steps))
    nudged = optax.sgd(settling(settings.nudged_rate, settings.nudged_steps), settings.momentum)
    learn = _learner(free, settings.free_steps, settings.batch)
    rule = matched(learn, _learner(nudged, settings.nudged_steps, settings.batch), settings.beta)
    return meta_training(fixed_pull(LOSS, settings.pull), rule, learn, settings)


def train_matched(settings: Contrastive) -> Training:
    """The contrastive rule with the matched control as reference."""
    return _contrastive_training(matched, settings)


def train_one_sided(settings: Contrastive) -> Training:
    """The contrastive rule with the end of the free phase as reference, as published."""
    return _contrastive_training(contrastive, settings)


def train_imaginary(settings: Contrastive) -> Training:
    """The nudge along the imaginary axis on full batches, with Adam continued into the complex plane: the limit of `matched` at a small nudge."""

    def rate(steps):
        return settling(settings.inner_rate, steps) if settings.settle else settings.inner_rate

    learn = _learner(optax.adam(rate(settings.free_steps)), settings.free_steps, 0)
    nudged = _learner(holomorphic.adam(rate(settings.nudged_steps)), settings.nudged_steps, 0)
    return meta_training(fixed_pull(LOSS, settings.pull), imaginary(learn, nudged, settings.beta), learn, settings)


def train_maml(settings: Maml) -> Training:
    """MAML: back-propagation through training, the initialization learned."""
    solver = optimizer(optax.sgd(settings.inner_rate), settings.inner_steps)
    return meta_training(PLAIN, unrolled(solver), solver, settings)


def train_scratch(settings: Scratch) -> Training:
    """No meta-learning: each test task is learned from the seed's random initialization."""
    solver = optimizer(optax.adam(settings.inner_rate), settings.inner_steps)
    measure = jax.jit(lambda theta: evaluate(PLAIN, solver, theta, fresh_tasks(TEST, 1000), lambda phi, _, query: LOSS(phi, query)))
    return Training(
        start=lambda seed: init_mlp(jax.random.key(2 * seed), WIDTHS),
        advance=lambda state: (state, {}),
        chunks=0,
        test=lambda seed, state: {"error": measure(state)},
        keep=lambda state: state,
    )
