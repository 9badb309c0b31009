"""The full experiments on rewards: agents with and without a learned prior play the same wheels.

All seeds of a row are one compiled program. A seed learns its prior (where there is one), then plays every test wheel once; its
games are the same for all rows. Settings come from `cmlcore.runs.rewards_search`: validation wheels, other seeds, as many trials for
every row that learns a prior. Priors and games advance in chunks; a run that is killed in a game goes on in that game.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cmlcore.bandits import agents, bandit
from cmlcore.bandits.bandit import Agent, Game, Rules
from cmlcore.bilevel import Problem
from cmlcore.data.wheel import ARMS, Wheel, uniform_regret, wheel_task
from cmlcore.estimate import MetaGradient
from cmlcore.estimators.contrastive import matched
from cmlcore.estimators.first_order import first_order
from cmlcore.estimators.unroll import unrolled
from cmlcore.meta import meta_start, meta_step
from cmlcore.models.mlp import init_mlp, mlp
from cmlcore.models.modulated import dual, init_modulated, modulated
from cmlcore.models.synapse import Synapses, fixed_pull, learned_pull
from cmlcore.runs.cost import Cost
from cmlcore.runs.experiment import Experiment, Training
from cmlcore.runs.searches import searched
from cmlcore.solve import minibatch, subsample

WIDTHS = (2, 32, 32, ARMS)
DELTAS = (0.5, 0.7, 0.9, 0.95, 0.99)
TRIALS = 80_000
RULES = Rules(50, 4000, 2)
UPDATES, BATCH = 50, 64  # after every stretch of trials; the priors learn from mini-batches of that size, too
SUPPORT, QUERIES = 512, 50
CHUNK, STRETCHES = 20, 40  # outer steps, and stretches of a game, between two checkpoints
TEST = 54321
MARKS = (50, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 40_000, 80_000)  # trials at which a receipt keeps the regret so far


class Prior(NamedTuple):
    """Settings of a prior learned by the contrastive rule with a matched control, and of its games.

    inner_rate: of gradient descent on mini-batches, in every phase. game_rate: of Adam in the games. game_pull: the pull there, in
    units of that in the phases. turn: how far the wheels it learns from are turned (0: as those of the test). shuffled: 1 to shuffle
    each layer's numbers before the games.
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
    game_rate: float
    game_pull: float
    turn: int
    shuffled: int


class Start(NamedTuple):
    """Settings of a learned initialization, through `inner_steps` steps of gradient descent on mini-batches, and of its games (Adam)."""

    inner_steps: int
    inner_rate: float
    outer_steps: int
    tasks: int
    outer_rate: float
    clip: float
    game_rate: float


class Unprepared(NamedTuple):
    """Settings of an agent without a learned prior. game_rate: of its optimizer. epsilon: how often it explores at random."""

    game_rate: float
    epsilon: float


class Network(NamedTuple):
    """A network that plays. problem: what it learns; predict: `(phi, theta, contexts) -> (n, 5)`; init: `key -> theta`."""

    problem: Problem
    predict: Callable
    init: Callable


def _plain(phi, x):
    return mlp(phi, x, jnp.tanh)


def _alone(error: Callable) -> Problem:
    return Problem(lambda phi, theta, pulls: error(phi, pulls), lambda phi, theta, pulls: error(phi, pulls))


ERROR = agents.reward_error(_plain)
WITHOUT = Network(_alone(ERROR), lambda phi, theta, x: _plain(phi, x), lambda key: init_mlp(key, WIDTHS))


def omega(pull) -> Network:
    """Complex synapses with a fixed pull: theta is omega."""
    return WITHOUT._replace(problem=fixed_pull(ERROR, pull))


def synapses(pull, times=1.0) -> Network:
    """Complex synapses that learn their pull, which starts at `pull`; it counts `times` as much (1: as learned)."""

    def init(key):
        omega = init_mlp(key, WIDTHS)
        return Synapses(omega, jax.tree.map(lambda w: jnp.full_like(w, jnp.log(pull)), omega))

    learned = learned_pull(ERROR)
    scaled = lambda theta: theta._replace(log_lambda=jax.tree.map(lambda s: s + jnp.log(times), theta.log_lambda))
    problem = learned._replace(inner=lambda phi, theta, pulls: learned.inner(phi, scaled(theta), pulls))
    return WITHOUT._replace(problem=problem, init=init)


def top_down(pull) -> Network:
    """A modulated network, its gains, shifts and read-out pulled to where they start."""
    problem = dual(agents.reward_error(modulated), pull)
    return Network(problem, lambda phi, theta, x: modulated((phi, theta.body), x), lambda key: init_modulated(key, WIDTHS))


# ---- priors ----------------------------------------------------------------------------------------------------------


def _descent(rate, steps: int):
    return minibatch(optax.sgd(rate), steps, subsample(BATCH, 0))


def by_the_rule(settings: Prior) -> MetaGradient:
    """The contrastive rule with a matched control: the same mini-batches in the nudged phase and in the control."""
    phase = lambda steps: _descent(settings.inner_rate, steps)
    return matched(phase(settings.free_steps), phase(settings.nudged_steps), settings.beta)


def outer_loop(network: Network, estimator: MetaGradient, settings) -> tuple[Callable, Callable]:
    """How one seed learns a prior on random wheels: `(seed -> MetaState, MetaState -> (MetaState, MetaInfo))`, the second one outer step.

    settings: names outer_steps, tasks, outer_rate, clip, and maybe turn. Numbers but counts may be traced.
    """
    schedule = optax.cosine_decay_schedule(settings.outer_rate, settings.outer_steps)
    outer = optax.chain(optax.clip_by_global_norm(settings.clip), optax.adam(schedule))
    draw = lambda key: wheel_task(key, SUPPORT, QUERIES, getattr(settings, "turn", 0))

    def begin(seed):
        return meta_start(network.init(jax.random.fold_in(jax.random.key(0), seed)), outer, jax.random.fold_in(jax.random.key(1), seed))

    return begin, meta_step(network.problem, estimator, outer, draw, settings.tasks)


def shuffled(key, theta):
    """`theta`, a tree, with the numbers of every leaf in random order: the same distribution of weights, nothing of what they know."""
    leaves, shape = jax.tree.flatten(theta)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(shape, [jax.random.permutation(k, x.ravel()).reshape(x.shape) for k, x in zip(keys, leaves)])


# ---- games -----------------------------------------------------------------------------------------------------------


def network_agent(network: Network, theta, rate, epsilon=0.0) -> Agent:
    """The network that learns by Adam, from theta, greedy but for a share `epsilon` of the trials."""
    agent = agents.greedy(network.problem, theta, network.predict, optax.adam(rate), UPDATES, BATCH)
    return bandit.noisy(agent, epsilon) if epsilon else agent


def each_game(play: Callable) -> Callable:
    """`(theta, seed or game, delta, ...)` for one game, to all: theta has a leading axis of seeds, and a result has two, (seeds, deltas)."""
    inner = lambda theta, game, delta: play(theta, game, delta)
    return jax.vmap(jax.vmap(inner, (None, 0, 0)), (0, 0, None))


def opened(make: Callable, thetas, seeds, deltas, number: int) -> Game:
    """All games before their first trial, (seeds, deltas) leading; make: `theta -> Agent`; number: which key deals them."""
    key = lambda seed: jax.random.fold_in(jax.random.key(number), seed)
    many = jnp.broadcast_to(seeds[:, None], (len(seeds), len(deltas)))
    return each_game(lambda theta, seed, delta: bandit.start(make(theta), key(seed), RULES))(thetas, many, jnp.asarray(deltas, jnp.float32))


def played_on(make: Callable, thetas, games: Game, deltas, stretches: int) -> tuple[Game, jax.Array]:
    """All games `stretches` later, and the regret so far after each: (seeds, deltas, stretches)."""
    go_on = lambda theta, game, delta: bandit.go_on(make(theta), Wheel(delta), game, stretches, RULES)
    return each_game(go_on)(thetas, games, jnp.asarray(deltas, jnp.float32))


def percent(regret, deltas) -> np.ndarray:
    """Regret so far after every stretch, (..., deltas, stretches), in % of the uniform policy's expected regret."""
    played = RULES.every * np.arange(1, regret.shape[-1] + 1)
    return 100 * np.asarray(regret, np.float64) / (np.asarray(uniform_regret(np.asarray(deltas)), np.float64)[:, None] * played)


class Stage(NamedTuple):
    """Where all seeds of a row stand: who learns or has learned, (seeds,) leading; the games, (seeds, deltas) leading; their regret after
    every stretch, (seeds, deltas, stretches), 0 where not yet played; stretches played, a scalar."""

    prior: Any
    games: Game
    regret: jax.Array
    stretch: jax.Array


def _row_training(begin: Callable, learn: Callable | None, chunks: int, theta_of: Callable, make: Callable, double: bool = False) -> Training:
    """Learn (if anything) in chunks, then play every test wheel in chunks.

    begin: `seed -> prior`; learn: `priors -> (priors, info)`, all seeds, a chunk; theta_of: `(prior, seed) -> what make(theta) -> Agent wants`.
    double: the games in double precision.
    """
    stretches = TRIALS // RULES.every
    precision = lambda: jax.enable_x64(double)
    with precision():
        play = jax.jit(lambda thetas, games: played_on(make, thetas, games, DELTAS, STRETCHES))
        thetas = jax.jit(lambda prior, seeds: jax.vmap(theta_of)(prior, seeds))

    def start(seeds):
        prior = jax.vmap(begin)(seeds)
        with precision():
            games = opened(make, thetas(prior, seeds), seeds, DELTAS, TEST)
            return Stage(prior, games, jnp.zeros((len(seeds), len(DELTAS), stretches), jnp.float32), jnp.asarray(0)), seeds

    def advance(state):
        stage, seeds = state
        if learn is not None and int(stage.prior.step[0]) < chunks * CHUNK:
            prior, info = learn(stage.prior)
            return (stage._replace(prior=prior), seeds), info
        with precision():
            theta, at = thetas(stage.prior, seeds), int(stage.stretch)
            games, more = play(theta, stage.games if at else opened(make, theta, seeds, DELTAS, TEST))
            regret = stage.regret.at[..., at : at + STRETCHES].set(more)
            stage = Stage(stage.prior, games, regret, stage.stretch + STRETCHES)
        return (stage, seeds), {"game": jnp.mean(percent(more[..., -1:] * RULES.every / games.trial[..., None], DELTAS), (1, 2))}

    def test(seeds, state):
        found = percent(state[0].regret, DELTAS)
        scores = {"regret": found[..., -1]}
        for i, delta in enumerate(DELTAS):
            scores[f"delta {delta}"] = found[:, i, -1:]
            scores |= {f"delta {delta} after {mark}": found[:, i, mark // RULES.every - 1][:, None] for mark in MARKS if mark <= TRIALS}
        return scores

    keep = (lambda state: state[0].prior.theta) if learn else lambda state: ()
    return Training(start, advance, chunks + stretches // STRETCHES, test, keep)


def _prepared(network: Network, estimator: MetaGradient, settings, player: Network, mix: bool = False) -> Training:
    begin, step = outer_loop(network, estimator, settings)

    def learn(state):
        state, info = jax.lax.scan(lambda s, _: step(s), state, length=CHUNK)
        return state, {"outer_loss": jnp.mean(info.value), "grad_norm": jnp.mean(info.grad_norm)}

    def theta_of(state, seed):
        return shuffled(jax.random.fold_in(jax.random.key(2), seed), state.theta) if mix else state.theta

    make = lambda theta: network_agent(player, theta, settings.game_rate)
    return _row_training(begin, jax.jit(jax.vmap(learn)), settings.outer_steps // CHUNK, theta_of, make)


def train_omega(settings: Prior) -> Training:
    """The complex synapse with a fixed pull: the rule learns omega."""
    player = omega(settings.pull * settings.game_pull)
    return _prepared(omega(settings.pull), by_the_rule(settings), settings, player, bool(settings.shuffled))


def train_synapses(settings: Prior) -> Training:
    """The complex synapse whose omega and lambda the rule learns both."""
    return _prepared(synapses(settings.pull), by_the_rule(settings), settings, synapses(settings.pull, settings.game_pull))


def train_modulated(settings: Prior) -> Training:
    """The modulated network: the rule learns its body, and through the pull where gains, shifts and read-out start."""
    return _prepared(top_down(settings.pull), by_the_rule(settings), settings, top_down(settings.pull * settings.game_pull))


def train_maml(settings: Start) -> Training:
    """MAML: the initialization is learned by backpropagation through the inner steps."""
    return _prepared(WITHOUT, unrolled(_descent(settings.inner_rate, settings.inner_steps)), settings, WITHOUT)


def train_first_order(settings: Start) -> Training:
    """The same without second derivatives."""
    return _prepared(WITHOUT, first_order(_descent(settings.inner_rate, settings.inner_steps)), settings, WITHOUT)


# ---- without a learned prior -----------------------------------------------------------------------------------------


def _unprepared(make: Callable, double: bool = False) -> Training:
    """A row without meta-learning; make: `seed's key -> Agent`."""
    key = lambda prior, seed: jax.random.fold_in(jax.random.key(0), seed)
    return _row_training(lambda seed: seed, None, 0, key, make, double)


def scratch(key, rate, epsilon=0.0) -> Agent:
    """The network and the learner of the prepared rows, from random weights."""
    return network_agent(WITHOUT, WITHOUT.init(key), rate, epsilon)


def _rmsprop(rate):
    return optax.chain(optax.clip_by_global_norm(5.0), optax.rmsprop(rate))


def neural_greedy(key, rate, epsilon=0.0) -> Agent:
    """NeuralGreedy: RMSprop with clipped gradients, rectifiers, from random weights."""
    network = _alone(agents.reward_error(mlp))
    agent = agents.greedy(network, init_mlp(key, WIDTHS), lambda phi, theta, x: mlp(phi, x), _rmsprop(rate), UPDATES, BATCH)
    return bandit.noisy(agent, epsilon) if epsilon else agent


def neural_linear(key, rate, epsilon=0.0) -> Agent:
    """NeuralLinear: Thompson sampling on the features of such a network."""
    agent = agents.neural_linear(lambda _: init_mlp(key, WIDTHS), jax.nn.relu, _rmsprop(rate), UPDATES, BATCH)
    return bandit.noisy(agent, epsilon) if epsilon else agent


def train_scratch(settings: Unprepared) -> Training:
    """The same network and learner from random weights."""
    return _unprepared(lambda key: scratch(key, *settings))


def train_neural_greedy(settings: Unprepared) -> Training:
    """NeuralGreedy."""
    return _unprepared(lambda key: neural_greedy(key, *settings))


def train_neural_linear(settings: Unprepared) -> Training:
    """NeuralLinear."""
    return _unprepared(lambda key: neural_linear(key, *settings), double=True)


def train_lin_greedy(settings: Unprepared) -> Training:
    """LinGreedy: linear regression on the raw context."""
    return _unprepared(lambda key: agents.lin_greedy())


def train_lin_full_post(settings: Unprepared) -> Training:
    """LinFullPost: Thompson sampling with the full posterior of that regression, in double precision."""
    return _unprepared(lambda key: agents.lin_full_post(), double=True)


def train_uniform(settings: Unprepared) -> Training:
    """Any arm, each as often."""
    return _unprepared(lambda key: bandit.uniform())


def train_bold(settings: Unprepared) -> Training:
    """Always the quadrant's arm: a prior that never learns."""
    return _unprepared(lambda key: bandit.bold())


# ---- The experiments -------------------------------------------------------------------------------------------------

SCORE = ("regret", "% of the uniform policy's expected regret, mean of five wheels")
SEARCHED = searched("rewards")  # what `cmlcore.runs.rewards_search` tried


def chosen(row: str, default):
    """The settings that the search chose for a row: those of its best long game on validation wheels; `default` where it was not searched."""
    return default._replace(**min(SEARCHED["rows"][row]["finals"], key=lambda final: final["regret"])["settings"]) if row in SEARCHED["rows"] else default


RULE = chosen("omega", Prior(5, 5, 0.2, 0.1, 1.0, 750, 5, 0.03, 10.0, 0.001, 0.1, 0, 0))
START = Start(3, 0.1, 900, 5, 0.01, 10.0, 3e-4)
SCRATCH = chosen("scratch", Unprepared(0.001, 0.0))


def _row(name: str, about: str, settings: Any, build: Callable, cost: Cost) -> Experiment:
    return Experiment(f"rewards-{name}", f"Wheels: {about}.", settings, build, tuple(range(10)), SCORE, None, cost, 2, together=True)


LEARNED, PLAYED = Cost(15), Cost(10)

EXPERIMENTS = (
    _row("omega", "the rule learns omega of complex synapses", RULE, train_omega, LEARNED),
    _row("scratch", "the same network from random weights", SCRATCH, train_scratch, PLAYED),
    _row("maml", "MAML, the initialization learned through its inner steps", chosen("maml", START), train_maml, LEARNED),
    _row("modulated", "the rule learns a modulated network", chosen("modulated", RULE), train_modulated, LEARNED),
    _row("uniform", "any arm, each as often", Unprepared(0.0, 1.0), train_uniform, PLAYED),
    _row("bold", "always the arm of the quadrant", Unprepared(0.0, 0.0), train_bold, PLAYED),
    _row("lin-greedy", "linear regression, greedy", Unprepared(0.0, 0.0), train_lin_greedy, PLAYED),
    _row("lin-full-post", "linear regression, Thompson sampling", Unprepared(0.0, 0.0), train_lin_full_post, PLAYED),
    _row("noise", "from random weights, one trial in ten at random", SCRATCH._replace(epsilon=0.1), train_scratch, PLAYED),
    _row("first-order", "MAML without second derivatives", chosen("first-order", START._replace(outer_steps=3000)), train_first_order, LEARNED),
    _row("other-wheels", "omega learned on wheels turned by one quadrant", RULE._replace(turn=1), train_omega, LEARNED),
    _row("shuffled", "omega, each layer's numbers shuffled before the games", RULE._replace(shuffled=1), train_omega, LEARNED),
    _row("let-go", "omega where the network starts, and no pull in the games", RULE._replace(game_pull=0.0), train_omega, LEARNED),
    _row("synapses", "the rule learns omega and lambda of complex synapses", chosen("synapses", RULE), train_synapses, LEARNED),
    _row("neural-greedy", "a network with rectifiers and RMSprop, greedy", chosen("neural-greedy", SCRATCH), train_neural_greedy, PLAYED),
    _row("neural-linear", "Thompson sampling on that network's features", chosen("neural-linear", SCRATCH), train_neural_linear, PLAYED),
)
