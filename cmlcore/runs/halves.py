"""One L2 strength for every weight, learned on half of the training images, with inner learning that goes on where it was.

Published inner learning starts anew in each of 100 outer steps and takes 2,000 to 5,000 steps. Here the fast weights of the last outer step are kept and
take a few more (the warm start of Lorraine et al. 2020): a fraction of the cost. What that changes is measured once, at the end of one run. The strengths
are then used for learning once more, from the start and from both halves, as published, and the test images are shown.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cmlcore import trees
from cmlcore.bilevel import free
from cmlcore.meta import MetaState, meta_start
from cmlcore.models.decay import learned_decay, per_weight
from cmlcore.runs.experiment import Training
from cmlcore.runs.hyperparameters import RULES, Fixed, World, adam, retrain, setup, sgd, without
from cmlcore.theory.diagnostics import compiled_memory

LEARNERS = {"sgd": sgd, "adam": adam}


class Halves(NamedTuple):
    """Settings of one run.

    train, held_out: images in the two halves of the training set. strength: lambda of every weight at the start.
    learner:      a key of LEARNERS, with `free_rate` and `batch` images a step.
    first_steps:  inner steps before the first outer step; free_steps: in every outer step; final_steps: on both halves, in the end.
    outer_steps, outer_rate: Adam on the logarithms of the strengths.
    steps, rate, beta, look_at: as in `cmlcore.runs.hyperparameters.Learning`.
    cold:         whether the end of the run is compared with inner learning of `final_steps` from the start.
    """

    train: int
    held_out: int
    strength: float
    learner: str
    first_steps: int
    free_steps: int
    final_steps: int
    free_rate: float
    batch: int
    outer_steps: int
    outer_rate: float
    steps: int = 0
    rate: float = 0.0
    beta: float = 0.0
    look_at: int = 0
    cold: bool = False


class Warm(NamedTuple):
    """state: of the outer loop; phi: where inner learning goes on, a tree of the network's weights."""

    state: MetaState
    phi: Any


def training(rule: Callable, settings: Halves, world: World) -> Training:
    """Learn one strength per weight with the estimator `rule(settings, learner)`, one outer step a chunk, inner learning kept warm.

    The curve is measured at the strengths before each step, on the free solution that the estimator finds anyway.
    """
    here, learner, outer = setup(world, settings), LEARNERS[settings.learner], optax.adam(settings.outer_rate)
    estimator, train = rule(settings, learner), jax.tree.map(jnp.asarray, world.train)
    longer = settings._replace(free_steps=settings.final_steps)

    @jax.jit
    def begin(key, train):
        """The seed's random weights, after `first_steps`."""
        state = meta_start(per_weight(jax.eval_shape(world.init, key), settings.strength), outer, key)
        problem, task = here.problem(key), here.task(key, train)
        solver = learner(settings.free_rate, settings.first_steps, settings.batch)
        end = solver(free(problem, state.theta), problem.init(state.theta, task.support), task, jax.random.fold_in(key, 2))
        return Warm(state, end.phi)

    def estimate(warm: Warm, task):
        state = warm.state
        return estimator(learned_decay(here.loss, warm.phi), state.theta, task, jax.random.fold_in(state.key, 3 + state.step))

    @jax.jit
    def step(warm: Warm, train):
        state, task = warm.state, here.task(warm.state.key, train)
        result = estimate(warm, task)
        updates, moments = outer.update(result.grad, state.optimizer)
        info = {
            "train_loss": here.loss(result.phi, task.support),
            "train_accuracy": here.score(result.phi, task.support),
            "held_loss": result.value,
            "held_accuracy": here.score(result.phi, task.query),
            "grad_norm": trees.norm(result.grad),
        }
        return Warm(MetaState(optax.apply_updates(state.theta, updates), moments, state.step + 1, state.key), result.phi), info

    @jax.jit
    def against_cold(warm: Warm, train):
        """The meta-gradient of the warm weights beside that of weights learned from the start, and both held-out losses."""
        task = here.task(warm.state.key, train)
        one = estimate(warm, task)
        other = rule(longer, learner)(here.problem(warm.state.key), warm.state.theta, task, jax.random.fold_in(warm.state.key, 2))
        return {"cosine": trees.cosine(one.grad, other.grad), "warm_loss": one.value, "cold_loss": other.value}

    def test(seed, warm):
        task = jax.jit(here.task)(warm.state.key, train)
        held = compiled_memory(jax.jit(lambda warm, task: estimate(warm, task).grad).lower(warm, task).compile()).temporary
        scores = retrain(here, longer, learner, warm.state.key, warm.state.theta, train, world) | {"bytes": np.array([held])}
        if settings.cold:
            scores |= {name: np.array([value]) for name, value in against_cold(warm, train).items()}
        return scores

    return Training(lambda seed: begin(jax.random.key(seed), train), lambda warm: step(warm, train), settings.outer_steps, test, lambda warm: ())


def by_rule(name: str, world: Callable[[], World]) -> Callable[[Halves], Training]:
    """`settings -> Training` with an estimator of `cmlcore.runs.hyperparameters.RULES`."""
    return lambda settings: training(RULES[name], settings, world())


def by_search(learner: str, world: Callable[[], World]) -> Callable[[Fixed], Training]:
    """`settings -> Training` without meta-learning: the best of a few strengths, one for all weights, each learned from the start."""
    return lambda settings: without(settings, world(), retrain, LEARNERS[learner])
