"""Playing a contextual bandit: one loop for all agents, compiled once, many games side by side; of this book.

An agent is a `NamedTuple` of pure functions. A game is dealt by its key alone: contexts and rewards are the same whoever plays. Games that
differ in their key, their wheel or their agent's beliefs go side by side under `jax.vmap`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cmlcore.data import wheel as wheels
from cmlcore.data.wheel import ARMS, Pulls, Wheel


class Agent(NamedTuple):
    """Who plays. `beliefs` is any tree of arrays.

    begin:   `key -> beliefs`.
    prefer:  `(beliefs, context (2,), key) -> (5,)`, how much the agent likes each arm; it pulls the one it likes best.
    observe: `(beliefs, context (2,), arm, reward) -> beliefs`, after every trial.
    learn:   `(beliefs, memory, key) -> beliefs`, after every so many trials, from the agent's `Memory`.
    """

    begin: Callable
    prefer: Callable
    observe: Callable = lambda beliefs, context, arm, reward: beliefs
    learn: Callable = lambda beliefs, memory, key: beliefs


class Memory(NamedTuple):
    """The last pulls: `pulls` with a leading axis of the memory's capacity, of which the first `count` are filled, a scalar."""

    pulls: Pulls
    count: jax.Array  # type: ignore[assignment]  # hides tuple.count


class Game(NamedTuple):
    """Where a game stands: all that it takes to go on to the same numbers. trial, regret: scalars; regret is the expected one, summed."""

    beliefs: Any
    memory: Memory
    trial: jax.Array
    regret: jax.Array
    key: jax.Array


class Rules(NamedTuple):
    """How a game is played; all whole numbers.

    every:    trials between two calls of `learn`.
    capacity: how many pulls the memory holds; the oldest go first.
    opening:  times that each arm is pulled at the beginning, whatever the agent likes.
    """

    every: int = 50
    capacity: int = 2000
    opening: int = 2


def _require_rules(rules: Rules) -> None:
    if rules.every < 1 or rules.capacity < 1 or rules.opening < 0:
        raise ValueError(f"{rules}: `every` and `capacity` must be 1 or more, `opening` 0 or more. Usual are Rules(every=50, capacity=2000, opening=2).")


def deal(key, trial) -> tuple[jax.Array, jax.Array]:
    """The context (2,) and the standard normal noise of the five rewards (5,) in a trial: a function of the game's key alone."""
    where, luck = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, 0), trial))
    return wheels.contexts(where, 1)[0], jax.random.normal(luck, (ARMS,), jnp.float32)


def start(agent: Agent, key, rules: Rules = Rules()) -> Game:
    """A new game, dealt by `key`; its regret is a scalar, its memory has `rules.capacity` rows along the leading axis. Raises ValueError for rules that cannot be played."""
    _require_rules(rules)
    n = rules.capacity
    empty = Pulls(jnp.zeros((n, 2), jnp.float32), jnp.zeros(n, int), jnp.zeros(n, jnp.float32))
    zero = jnp.zeros((), jnp.float32)
    return Game(agent.begin(jax.random.fold_in(key, 1)), Memory(empty, jnp.asarray(0)), jnp.asarray(0), zero, key)


def trial(agent: Agent, wheel: Wheel, rules: Rules, game: Game) -> Game:
    """One trial: look at the context (2,), pull the arm with the largest of five preferences (5,), take the reward, a scalar."""
    context, noise = deal(game.key, game.trial)
    liked = agent.prefer(game.beliefs, context, jax.random.fold_in(jax.random.fold_in(game.key, 2), game.trial))
    arm = jnp.where(game.trial < ARMS * rules.opening, game.trial % ARMS, jnp.argmax(liked))
    reward = wheels.rewards(wheel, context, noise)[arm]
    slot = game.trial % rules.capacity
    pulled = jax.tree.map(lambda kept, new: kept.at[slot].set(new), game.memory.pulls, Pulls(context, arm, reward))
    return Game(
        agent.observe(game.beliefs, context, arm, reward),
        Memory(pulled, jnp.minimum(game.memory.count + 1, rules.capacity)),
        game.trial + 1,
        game.regret + wheels.regret(wheel, context, arm).astype(game.regret.dtype),
        game.key,
    )


def go_on(agent: Agent, wheel: Wheel, game: Game, stretches: int, rules: Rules = Rules()) -> tuple[Game, jax.Array]:
    """Play `stretches` times `rules.every` trials and learn after each; the game, and its regret so far after each, (stretches,).

    One `lax.scan` in another: learning is no branch of a trial, so it costs nothing where it does not happen, under `vmap` too.
    """
    _require_rules(rules)

    def stretch(game, _):
        game = jax.lax.fori_loop(0, rules.every, lambda _, g: trial(agent, wheel, rules, g), game)
        learned = agent.learn(game.beliefs, game.memory, jax.random.fold_in(jax.random.fold_in(game.key, 3), game.trial))
        return game._replace(beliefs=learned), game.regret

    return jax.lax.scan(stretch, game, length=stretches)


def play(agent: Agent, wheel: Wheel, key, stretches: int, rules: Rules = Rules()) -> tuple[Game, jax.Array]:
    """A whole game from its start: `start`, then `go_on`; the game, and its regret after each stretch, (stretches,)."""
    return go_on(agent, wheel, start(agent, key, rules), stretches, rules)


# ---- agents that do not learn ----------------------------------------------------------------------------------------


def uniform() -> Agent:
    """Pulls any arm, each as often: its preferences (5,) are drawn anew in every trial."""
    return Agent(lambda key: (), lambda beliefs, context, key: jax.random.uniform(key, (ARMS,), jnp.float32))


def oracle(wheel: Wheel) -> Agent:
    """Knows the wheel: its preferences (5,) are the arms' true means, so it has no regret but that of the opening."""
    return Agent(lambda key: (), lambda beliefs, context, key: wheels.means(wheel, context))


def bold() -> Agent:
    """Prefers, of five arms (5,), always that of the context's quadrant, as if every context were outside: what a prior knows before it learns; of this book."""
    return oracle(Wheel(0.0))


def noisy(agent: Agent, epsilon) -> Agent:
    """`agent` with exploration noise: with the probability `epsilon` it pulls any arm. epsilon: a scalar from 0 to 1.

    Raises ValueError for an epsilon outside of that.
    """
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon is {epsilon:g}; it is a probability, from 0 (never explore at random) to 1 (always).")

    def prefer(beliefs, context, key):
        coin, any_arm, own = jax.random.split(key, 3)
        at_random = jax.random.uniform(any_arm, (ARMS,), jnp.float32)
        return jnp.where(jax.random.uniform(coin, (), jnp.float32) < epsilon, at_random, agent.prefer(beliefs, context, own))

    return agent._replace(prefer=prefer)
