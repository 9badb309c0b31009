"""Agents that learn to play a wheel: networks with or without a learned prior, and the linear ones (Riquelme et al. 2018).

All are `cmlcore.bandits.bandit.Agent`s. A network predicts the five rewards of a context; its learner knows nothing of bandits: the error on
pulls is the loss `L` of a bilevel problem, and what a prior is comes from that problem's inner loss.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from cmlcore.bandits.bandit import Agent, Memory
from cmlcore.bilevel import Problem
from cmlcore.data.wheel import ARMS, Pulls
from cmlcore.models import linear
from cmlcore.models.mlp import mlp

SCALE = 10.0  # rewards of up to 50 are learned in these units, so that a network's outputs are of order one


def reward_error(predict: Callable) -> Callable:
    """`predict(phi, contexts (n, 2)) -> (n, 5)`, in units of SCALE, to a loss `(phi, Pulls) -> scalar`: mean squared error of the arms pulled."""

    def error(phi, pulls: Pulls):
        chosen = jnp.sum(predict(phi, pulls.context) * jax.nn.one_hot(pulls.arm, ARMS, dtype=pulls.reward.dtype), -1)
        return jnp.mean((chosen - pulls.reward / SCALE) ** 2)

    return error


def remembered(memory: Memory, key, size: int) -> Pulls:
    """`size` pulls drawn from a memory, with replacement: `Pulls` with that many along the leading axis."""
    rows = jax.random.randint(key, (size,), 0, jnp.maximum(memory.count, 1))
    return jax.tree.map(lambda kept: kept[rows], memory.pulls)


def _steps(objective: Callable, transform, steps: int, batch: int) -> Callable:
    """`((phi, optimizer's state), memory, key) -> the same later`: updates on mini-batches of the memory."""

    def learn(beliefs, memory, key):
        def step(carry, k):
            phi, state = carry
            updates, state = transform.update(jax.grad(objective)(phi, remembered(memory, k, batch)), state, phi)
            return (optax.apply_updates(phi, updates), state), None

        return jax.lax.scan(step, beliefs, jax.random.split(key, steps))[0]

    return learn


def greedy(problem: Problem, theta, predict: Callable, transform: optax.GradientTransformation, steps: int, batch: int) -> Agent:
    """Pulls the arm whose predicted reward is highest; the network learns the inner loss of `problem` from its memory.

    theta: slow parameters, which stay as they are: where learning starts and, if the problem says so, where it is pulled.
    predict: `(phi, theta, contexts (n, 2)) -> (n, 5)`. transform: the inner optimizer; its state lives as long as the game.
    steps, batch: updates after every stretch of trials, and pulls in each.
    """
    learn = _steps(lambda phi, pulls: problem.inner(phi, theta, pulls), transform, steps, batch)

    def begin(key):
        phi = problem.init(theta, None)
        return phi, transform.init(phi)

    return Agent(begin, lambda beliefs, context, key: predict(beliefs[0], theta, context[None])[0], learn=learn)


# ---- linear agents ---------------------------------------------------------------------------------------------------


def _linear_features(context):
    return jnp.concatenate([context, jnp.ones(1, context.dtype)])


def _posteriors(beliefs, prior):
    return jax.vmap(lambda sums: linear.posterior(sums, prior))(beliefs)


def _empty(features: int):
    return jax.tree.map(lambda a: jnp.broadcast_to(a, (ARMS, *a.shape)), linear.no_rows(features))


def _linear(prefer: Callable) -> Agent:
    def observe(beliefs, context, arm, reward):
        row = linear.add_rows(linear.no_rows(3), _linear_features(context)[None], reward[None])
        return jax.tree.map(lambda old, new: old.at[arm].add(new), beliefs, row)

    return Agent(lambda key: _empty(3), prefer, observe)


def lin_greedy(prior: linear.Prior = linear.Prior()) -> Agent:
    """LinGreedy: one linear regression an arm, on (x, y, 1); the arm whose mean prediction is highest."""
    return _linear(lambda beliefs, context, key: _posteriors(beliefs, prior).mean @ _linear_features(context))


def lin_full_post(prior: linear.Prior = linear.Prior()) -> Agent:
    """LinFullPost: Thompson sampling. Draws the weights of every arm, (5, 3), from their posterior, pulls the arm that is best if the draw is true.

    Play it in double precision, `with jax.enable_x64(True)`. Raises ValueError where JAX computes in single.
    """
    _require_double("lin_full_post")

    def prefer(beliefs, context, key):
        weights = jax.vmap(linear.sample)(_posteriors(beliefs, prior), jax.random.split(key, ARMS))
        return weights @ _linear_features(context)

    return _linear(prefer)


def neural_linear(begin: Callable, activation: Callable, transform, steps: int, batch: int, prior: linear.Prior = linear.Prior(23.0, 12.0, 30.0)) -> Agent:
    """NeuralLinear: Thompson sampling on the last hidden layer of a network that learns by itself, from scratch.

    begin: `key -> params` of `cmlcore.models.mlp`. After every stretch the network learns, and then the posteriors are computed anew from
    the whole memory; between two stretches they stay. The network is in single precision, the posteriors are in double: play it
    `with jax.enable_x64(True)`. Raises ValueError where JAX computes in single.
    """
    _require_double("neural_linear")
    learn_network = _steps(reward_error(lambda phi, x: mlp(phi, x, activation)), transform, steps, batch)

    def features(phi, context):
        hidden = mlp([*phi[:-1], {"w": jnp.eye(phi[-1]["w"].shape[0], dtype=context.dtype), "b": jnp.zeros((), context.dtype)}], context, activation)
        return jnp.concatenate([hidden, jnp.ones_like(hidden[:, :1])], -1)

    def start(key):
        phi = jax.tree.map(lambda a: a.astype(jnp.float32), begin(key))
        return (phi, transform.init(phi)), _posteriors(_empty(phi[-1]["w"].shape[0] + 1), prior)

    def prefer(beliefs, context, key):
        weights = jax.vmap(linear.sample)(beliefs[1], jax.random.split(key, ARMS))
        return weights @ features(beliefs[0][0], context[None])[0]

    def learn(beliefs, memory, key):
        network = learn_network(beliefs[0], memory, key)
        x, y = features(network[0], memory.pulls.context), memory.pulls.reward / SCALE
        known = jnp.arange(y.shape[0]) < memory.count
        each = jax.vmap(lambda arm: linear.add_rows(linear.no_rows(x.shape[1]), x, y, known & (memory.pulls.arm == arm)))
        return network, _posteriors(each(jnp.arange(ARMS)), prior)

    return Agent(start, prefer, learn=learn)


def _require_double(name: str) -> None:
    if not jax.config.read("jax_enable_x64"):
        raise ValueError(f"{name} computes a small difference of large sums, which single precision loses: call it `with jax.enable_x64(True):`.")
