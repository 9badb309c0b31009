"""The full experiments on rewards: agents with and without a learned prior play the same wheels.

All seeds of a row are one compiled program. A seed learns its prior (where there is one), then plays every test wheel once; its
games are the same for all rows. No outer setting was tuned on wheels: those of the rule and of MAML are what the sine waves of this book chose.
Every row that learns chooses its inner rate among `RATES` on validation wheels: two trials each.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cmlcore.bandits import agents, bandit
from cmlcore.bandits.bandit import Agent, Rules
from cmlcore.bilevel import Problem
from cmlcore.data.wheel import ARMS, Wheel, uniform_regret, wheel_task
from cmlcore.estimate import MetaGradient
from cmlcore.estimators.contrastive import matched
from cmlcore.estimators.first_order import first_order
from cmlcore.estimators.unroll import unrolled
from cmlcore.meta import meta_start, meta_step, meta_steps
from cmlcore.models.mlp import init_mlp, mlp
from cmlcore.models.modulated import dual, init_modulated, modulated
from cmlcore.models.synapse import Synapses, fixed_pull, learned_pull
from cmlcore.runs.experiment import Experiment, Training
from cmlcore.runs.sine import Maml, settling
from cmlcore.solve import optimizer

WIDTHS = (2, 32, 32, ARMS)
DELTAS = (0.5, 0.7, 0.9, 0.95, 0.99)
VALIDATION_DELTAS = (0.6, 0.85, 0.97)
TRIALS = 2000
RULES = Rules(50, TRIALS, 2)
UPDATES, BATCH = 100, 64  # after every stretch of trials
RATES = (0.001, 0.01)
SUPPORT, QUERIES = 64, 50
CHUNK = 20
VALIDATION, TEST = 12345, 54321


class Prior(NamedTuple):
    """Settings of a prior learned by the contrastive rule with a matched control; inner Adam, its rate settling in each phase.

    turn: how far the wheels it learns from are turned (0: as those of the test). shuffled: 1 to shuffle each layer's numbers afterwards.
    """

    free_steps: int
    nudged_steps: int
    inner_rate: float
    beta: float
    pull: float
    outer_steps: int
    tasks: int
    outer_rate: float
    clip: float
    turn: int
    shuffled: int


class Unprepared(NamedTuple):
    """Settings of an agent without a learned prior. epsilon: how often it explores at random."""

    epsilon: float


class Network(NamedTuple):
    """A network that plays. problem: what it learns; predict: `(phi, theta, contexts) -> (n, 5)`; init: `key -> theta`."""

    problem: Problem
    predict: Callable
    init: Callable


def _plain(phi, x):
    return mlp(phi, x, jnp.tanh)


ERROR = agents.reward_error(_plain)
WITHOUT = Network(
    Problem(lambda phi, theta, pulls: ERROR(phi, pulls), lambda phi, theta, pulls: ERROR(phi, pulls)),
    lambda phi, theta, x: _plain(phi, x),
    lambda key: init_mlp(key, WIDTHS),
)


def _omega(pull: float) -> Network:
    return WITHOUT._replace(problem=fixed_pull(ERROR, pull))


def _synapses(pull: float) -> Network:
    def init(key):
        omega = init_mlp(key, WIDTHS)
        return Synapses(omega, jax.tree.map(lambda w: jnp.full_like(w, np.log(pull)), omega))

    return WITHOUT._replace(problem=learned_pull(ERROR), init=init)


def _modulated(pull: float) -> Network:
    return Network(
        dual(agents.reward_error(modulated), pull),
        lambda phi, theta, x: modulated((phi, theta.body), x),
        lambda key: init_modulated(key, WIDTHS),
    )


# ---- games -----------------------------------------------------------------------------------------------------------


def percent(make: Callable, thetas, seeds, number: int, deltas, trials: int) -> jax.Array:
    """Regret in % of the uniform policy's expected regret, after every stretch: (seeds, deltas, stretches).

    make: `theta -> Agent`. thetas: a tree with a leading axis of the seeds. seeds: (seeds,). number: which key deals the games.
    """
    deltas = jnp.asarray(deltas, jnp.float32)
    stretches = trials // RULES.every

    def one(theta, seed, delta):
        key = jax.random.fold_in(jax.random.key(number), seed)
        return bandit.play(make(theta), Wheel(delta), key, stretches, RULES)[1]

    regret = jax.vmap(jax.vmap(one, (None, None, 0)), (0, 0, None))(thetas, seeds, deltas)
    played = RULES.every * jnp.arange(1, stretches + 1)
    return 100 * regret / (uniform_regret(deltas)[:, None] * played)


def judged(make: Callable, thetas, seeds, rates=RATES) -> dict[str, np.ndarray]:
    """The scores of a row: its inner rate chosen on validation wheels, then one game on every test wheel a seed.

    make: `(theta, rate) -> Agent`. Every score has the shape (seeds, n): "regret" has one number a delta, the others have one.
    """
    play = jax.jit(
        lambda rate, thetas, number, deltas: percent(lambda theta: make(theta, rate), thetas, seeds, number, deltas, TRIALS),
        static_argnums=2,
    )
    held_out = [float(jnp.mean(play(rate, thetas, VALIDATION, VALIDATION_DELTAS)[..., -1])) for rate in rates]
    rate = rates[int(np.argmin(held_out))]
    found = np.asarray(play(rate, thetas, TEST, DELTAS), np.float64)
    column = lambda value: np.full((len(seeds), 1), value)
    scores = {"regret": found[..., -1], "rate": column(rate)}
    scores |= {f"validation at {r}": column(v) for r, v in zip(rates, held_out)}
    for i, delta in enumerate(DELTAS):
        scores[f"delta {delta}"] = found[:, i, -1:]
        for stretch in (1, 2, 4, 8, 12, 16, 24, 32, 40):
            scores[f"delta {delta} after {stretch * RULES.every}"] = found[:, i, stretch - 1 : stretch]
    return scores


def _network_agent(network: Network, theta, rate, epsilon=0.0) -> Agent:
    agent = agents.greedy(network.problem, theta, network.predict, optax.adam(rate), UPDATES, BATCH)
    return bandit.noisy(agent, epsilon) if epsilon else agent


# ---- priors ----------------------------------------------------------------------------------------------------------


def _trained(network: Network, estimator: MetaGradient, settings, turn: int = 0, afterwards: Callable = lambda key, theta: theta) -> Training:
    """Learn a prior on random wheels, all seeds side by side; then play. settings: names outer_steps, tasks, outer_rate, clip."""
    schedule = optax.cosine_decay_schedule(settings.outer_rate, settings.outer_steps)
    outer = optax.chain(optax.clip_by_global_norm(settings.clip), optax.adam(schedule))
    draw = lambda key: wheel_task(key, SUPPORT, QUERIES, turn)
    many = jax.jit(jax.vmap(meta_steps(meta_step(network.problem, estimator, outer, draw, settings.tasks), CHUNK)))

    def begin(seed):
        return meta_start(network.init(jax.random.fold_in(jax.random.key(0), seed)), outer, jax.random.fold_in(jax.random.key(1), seed))

    def advance(state):
        state, info = many(state)
        return state, {"outer_loss": jnp.mean(info.value, 1), "grad_norm": jnp.mean(info.grad_norm, 1)}

    def test(seeds, state):
        keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(2), seed))(seeds)
        return judged(lambda theta, rate: _network_agent(network, theta, rate), jax.vmap(afterwards)(keys, state.theta), seeds)

    return Training(jax.vmap(begin), advance, settings.outer_steps // CHUNK, test, lambda state: state.theta)


def shuffled(key, theta):
    """`theta`, a tree, with the numbers of every leaf in random order: the same distribution of weights, nothing of what they know."""
    leaves, shape = jax.tree.flatten(theta)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(shape, [jax.random.permutation(k, x.ravel()).reshape(x.shape) for k, x in zip(keys, leaves)])


def _by_the_rule(network: Network, settings: Prior) -> Training:
    phase = lambda steps: optimizer(optax.adam(settling(settings.inner_rate, steps)), steps)
    rule = matched(phase(settings.free_steps), phase(settings.nudged_steps), settings.beta)
    return _trained(network, rule, settings, settings.turn, shuffled if settings.shuffled else lambda key, theta: theta)


def train_omega(settings: Prior) -> Training:
    """The complex synapse with a fixed pull: the rule learns omega."""
    return _by_the_rule(_omega(settings.pull), settings)


def train_synapses(settings: Prior) -> Training:
    """The complex synapse whose omega and lambda the rule learns both."""
    return _by_the_rule(_synapses(settings.pull), settings)


def train_modulated(settings: Prior) -> Training:
    """The modulated network: the rule learns its body, and through the pull where gains, shifts and read-out start."""
    return _by_the_rule(_modulated(settings.pull), settings)


def _by_maml(estimator: Callable, settings: Maml) -> Training:
    return _trained(WITHOUT, estimator(optimizer(optax.sgd(settings.inner_rate), settings.inner_steps)), settings)


def train_maml(settings: Maml) -> Training:
    """MAML: the initialization is learned by backpropagation through the inner steps."""
    return _by_maml(unrolled, settings)


def train_first_order(settings: Maml) -> Training:
    """The same without second derivatives."""
    return _by_maml(first_order, settings)


# ---- without a learned prior -----------------------------------------------------------------------------------------


def _playing(make: Callable, rates=RATES, double: bool = False) -> Training:
    """A row without meta-learning; make: `(seed's key, rate) -> Agent`."""

    def test(seeds, state):
        with jax.enable_x64(double):
            keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(0), seed))(seeds)
            return judged(make, keys, seeds, rates)

    return Training(lambda seeds: (), lambda state: (state, {}), 0, test, lambda state: state)


def train_scratch(settings: Unprepared) -> Training:
    """The same network and learner from random weights."""
    return _playing(lambda key, rate: _network_agent(WITHOUT, WITHOUT.init(key), rate, settings.epsilon))


def train_neural_greedy(settings: Unprepared) -> Training:
    """NeuralGreedy: RMSprop with clipped gradients, rectifiers, from random weights."""
    predict = lambda phi, theta, x: mlp(phi, x)
    error = agents.reward_error(mlp)
    problem = Problem(lambda phi, theta, pulls: error(phi, pulls), lambda phi, theta, pulls: error(phi, pulls))
    return _playing(lambda key, rate: agents.greedy(problem, init_mlp(key, WIDTHS), predict, _rmsprop(rate), UPDATES, BATCH))


def _rmsprop(rate):
    return optax.chain(optax.clip_by_global_norm(5.0), optax.rmsprop(rate))


def train_neural_linear(settings: Unprepared) -> Training:
    """NeuralLinear: Thompson sampling on the features of such a network."""
    make = lambda key, rate: agents.neural_linear(lambda _: init_mlp(key, WIDTHS), jax.nn.relu, _rmsprop(rate), UPDATES, BATCH)
    return _playing(make, double=True)


def train_lin_greedy(settings: Unprepared) -> Training:
    """LinGreedy: linear regression on the raw context."""
    return _playing(lambda key, rate: agents.lin_greedy(), (0.0,))


def train_lin_full_post(settings: Unprepared) -> Training:
    """LinFullPost: Thompson sampling with the full posterior of that regression, in double precision."""
    return _playing(lambda key, rate: agents.lin_full_post(), (0.0,), double=True)


def train_uniform(settings: Unprepared) -> Training:
    """Any arm, each as often."""
    return _playing(lambda key, rate: bandit.uniform(), (0.0,))


def train_bold(settings: Unprepared) -> Training:
    """Always the quadrant's arm: a prior that never learns."""
    return _playing(lambda key, rate: bandit.bold(), (0.0,))


# ---- The experiments -------------------------------------------------------------------------------------------------

SCORE = ("regret", "% of the uniform policy's expected regret, mean of five wheels")
RULE = Prior(100, 50, 0.01, 0.1, 0.1, 100, 5, 0.01, 1.0, 0, 0)
MAML = Maml(20, 0.01, 240, 5, 0.01, 10.0)


def _row(name: str, about: str, settings: Any, build: Callable, cost: str) -> Experiment:
    return Experiment(f"rewards-{name}", f"Wheels: {about}.", settings, build, tuple(range(10)), SCORE, None, cost, together=True)


LEARNED, PLAYED = "4 minutes on one CPU core", "1 minute on one CPU core"

EXPERIMENTS = (
    _row("omega", "the rule learns omega of complex synapses", RULE, train_omega, LEARNED),
    _row("scratch", "the same network from random weights", Unprepared(0.0), train_scratch, PLAYED),
    _row("maml", "MAML, the initialization learned through twenty inner steps", MAML, train_maml, LEARNED),
    _row("modulated", "the rule learns a modulated network", RULE, train_modulated, LEARNED),
    _row("uniform", "any arm, each as often", Unprepared(1.0), train_uniform, PLAYED),
    _row("bold", "always the arm of the quadrant", Unprepared(0.0), train_bold, PLAYED),
    _row("lin-greedy", "linear regression, greedy", Unprepared(0.0), train_lin_greedy, PLAYED),
    _row("lin-full-post", "linear regression, Thompson sampling", Unprepared(0.0), train_lin_full_post, PLAYED),
    _row("noise", "from random weights, one trial in ten at random", Unprepared(0.1), train_scratch, PLAYED),
    _row("first-order", "MAML without second derivatives", MAML._replace(outer_steps=1000), train_first_order, LEARNED),
    _row("other-wheels", "omega learned on wheels turned by one quadrant", RULE._replace(turn=1), train_omega, LEARNED),
    _row("shuffled", "omega, each layer's numbers shuffled before the games", RULE._replace(shuffled=1), train_omega, LEARNED),
    _row("synapses", "the rule learns omega and lambda of complex synapses", RULE, train_synapses, LEARNED),
    _row("neural-greedy", "a network with rectifiers and RMSprop, greedy", Unprepared(0.0), train_neural_greedy, PLAYED),
    _row("neural-linear", "Thompson sampling on that network's features", Unprepared(0.0), train_neural_linear, PLAYED),
)
