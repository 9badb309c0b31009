"""The full experiments on top-down modulation of sine waves, against the complex synapse on the same waves."""

from typing import NamedTuple

import jax.numpy as jnp
import optax

from cmlcore.data.sine import WIDTHS, mean_squared_error
from cmlcore.estimators.contrastive import matched
from cmlcore.estimators.first_order import first_order
from cmlcore.estimators.unroll import unrolled
from cmlcore.models.mlp import init_mlp, mlp
from cmlcore.models.modulated import Slow, divided, dual, init_modulated, modulated
from cmlcore.runs.cost import Cost
from cmlcore.runs.experiment import Experiment, Training
from cmlcore.runs.sine import Maml, meta_training, settled_adam
from cmlcore.solve import optimizer

LOSS = mean_squared_error(modulated)


class Modulated(NamedTuple):
    """Settings of a contrastive run on the modulated network; inner Adam, its rate decaying as a cosine in each phase."""

    free_steps: int
    nudged_steps: int
    inner_rate: float
    beta: float
    pull: float
    outer_steps: int
    tasks: int
    outer_rate: float
    clip: float


def random_start(key) -> Slow:
    """The random modulated network of the sine waves, a `Slow`, that every row of that table starts from."""
    return init_modulated(key, WIDTHS)


def _contrastive(settings: Modulated, complete=lambda rule, learner: rule) -> Training:
    learner = settled_adam(settings.inner_rate, settings.free_steps)
    rule = complete(matched(learner, settled_adam(settings.inner_rate, settings.nudged_steps), settings.beta), learner)
    return meta_training(dual(LOSS, settings.pull), rule, learner, settings, random_start)


def train_contrastive(settings: Modulated) -> Training:
    """The contrastive rule with the matched control. With a pull it learns the start too; without one the start stays as it is."""
    return _contrastive(settings)


def train_helped(settings: Modulated) -> Training:
    """The contrastive rule for the body, first-order MAML for the start that it cannot see."""
    return _contrastive(settings, lambda rule, learner: divided(rule, first_order(learner)))


def _descent(settings: Maml):
    return optimizer(optax.sgd(settings.inner_rate), settings.inner_steps)


def train_unrolled(settings: Maml) -> Training:
    """MAML on the modulated network: body and start learned by backpropagation through the inner steps."""
    solver = _descent(settings)
    return meta_training(dual(LOSS), unrolled(solver), solver, settings, random_start)


def train_first_order(settings: Maml) -> Training:
    """The same without second derivatives."""
    solver = _descent(settings)
    return meta_training(dual(LOSS), first_order(solver), solver, settings, random_start)


def head_only(parameters, x):
    """The plain network with a fast read-out only: `(phi, body), (examples, 1) -> (examples, 1)`."""
    readout, body = parameters
    return mlp([*body, readout], x, jnp.tanh)


def train_anil(settings: Maml) -> Training:
    """ANIL (Raghu et al. 2020): only the read-out is fast; body and read-out's start by backpropagation through the inner steps."""
    solver = _descent(settings)

    def start(key):
        *body, readout = init_mlp(key, WIDTHS)
        return Slow(body, readout)

    return meta_training(dual(mean_squared_error(head_only)), unrolled(solver), solver, settings, start)


# ---- The experiments -------------------------------------------------------------------------------------------------

ERROR = ("error", "mean squared error on the query points")
FIVE = (0, 1, 2, 3, 4)

EXPERIMENTS = (
    Experiment(
        "modulation-sine",
        "Sine waves, modulated network: the contrastive rule, the start learned through a pull.",
        Modulated(300, 150, 0.01, 0.1, 0.1, 1000, 25, 0.01, 1.0),
        train_contrastive,
        FIVE,
        ERROR,
        None,
        Cost(2),
    ),
    Experiment(
        "modulation-sine-fixed",
        "Sine waves, modulated network: the contrastive rule without a pull, so the random start stays as it is.",
        Modulated(300, 150, 0.01, 0.1, 0.0, 1000, 25, 0.01, 1.0),
        train_contrastive,
        FIVE[:3],
        ERROR,
        None,
        Cost(2),
    ),
    Experiment(
        "modulation-sine-helped",
        "Sine waves, modulated network: the contrastive rule for the body, first-order MAML for the start.",
        Modulated(300, 150, 0.01, 0.1, 0.0, 1000, 25, 0.01, 1.0),
        train_helped,
        FIVE[:3],
        ERROR,
        None,
        Cost(3),
    ),
    Experiment(
        "modulation-sine-maml",
        "Sine waves, modulated network: body and start by backpropagation through twenty inner steps.",
        Maml(20, 0.01, 1000, 25, 0.01, 10.0),
        train_unrolled,
        FIVE,
        ERROR,
        None,
        Cost(0.5),
    ),
    Experiment(
        "modulation-sine-first-order",
        "Sine waves, modulated network: the same without second derivatives.",
        Maml(20, 0.01, 1000, 25, 0.01, 10.0),
        train_first_order,
        FIVE,
        ERROR,
        None,
        Cost(0.5),
    ),
    Experiment(
        "modulation-sine-anil",
        "Sine waves: ANIL, only the read-out fast, by backpropagation through twenty inner steps.",
        Maml(20, 0.01, 1000, 25, 0.01, 10.0),
        train_anil,
        FIVE,
        ERROR,
        None,
        Cost(0.5),
    ),
)
