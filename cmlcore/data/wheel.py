"""The contextual wheel bandit (Riquelme et al. 2018), and sets of pulls on random wheels to meta-learn from (Zucchet et al. 2022).

A context is a point of the unit disc, drawn evenly; there are five arms. Within the radius delta of the hub, arm 5 pays 1.2 on average and
the others 1.0. Outside, the arm of the context's quadrant pays 50, and the others what they pay inside. Arms count from 0 here: the
arms of the quadrants are 0 (x > 0, y > 0), 1 (x > 0, y <= 0), 2 (x <= 0, y > 0) and 3; the arm that is safe everywhere is 4.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cmlcore.bilevel import Task

ARMS = 5
SAFE = 4
POOR, STEADY, RICH = 1.0, 1.2, 50.0
NOISE, RICH_NOISE = 0.05, 0.01


class Wheel(NamedTuple):
    """One wheel.

    delta: the radius within which no arm is rich, a scalar in [0, 1]; may be traced.
    turn:  how far the rich arms are turned: the rich arm of quadrant q is (q + turn) mod 4. The published wheels have 0.
    """

    delta: jax.Array | float
    turn: jax.Array | int = 0


class Pulls(NamedTuple):
    """Arms that were pulled: contexts (n, 2), arms (n,) counted from 0, and the rewards that came, (n,)."""

    context: jax.Array
    arm: jax.Array
    reward: jax.Array


def require_delta(delta) -> None:
    """Raise ValueError for a delta that is known, a scalar or an array, and outside [0, 1]."""
    if not isinstance(delta, jax.core.Tracer) and not np.all((np.asarray(delta) >= 0) & (np.asarray(delta) <= 1)):
        raise ValueError(f"delta is {delta}; it is a radius in the unit disc. Choose a number from 0 (rich everywhere) to 1 (rich nowhere).")


def _require_contexts(context) -> None:
    if jnp.shape(context)[-1:] != (2,):
        raise ValueError(f"the contexts have shape {jnp.shape(context)}; a context is a point (x, y), so the last axis must have length 2.")


def _require_arms(arm) -> None:
    if isinstance(arm, jax.core.Tracer):
        return
    if not np.issubdtype(np.asarray(arm).dtype, np.integer):
        raise ValueError(f"arms are whole numbers from 0 to {ARMS - 1}, and these have dtype {np.asarray(arm).dtype}: use .astype(int).")
    if np.any((np.asarray(arm) < 0) | (np.asarray(arm) >= ARMS)):
        raise ValueError(f"an arm is {np.ravel(arm)[np.argmax((np.ravel(arm) < 0) | (np.ravel(arm) >= ARMS))]}; arms count from 0 to {ARMS - 1}.")


def contexts(key, count: int) -> jax.Array:
    """`count` points of the unit disc, drawn evenly: (count, 2), single precision."""
    r, a = jax.random.uniform(key, (2, count), jnp.float32)
    angle = 2 * jnp.float32(jnp.pi) * a
    return jnp.sqrt(r)[:, None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)


def quadrant(context) -> jax.Array:
    """The quadrant of contexts (..., 2), numbered 0 to 3 as in the module's text: (...,) whole numbers. Raises ValueError for another shape."""
    _require_contexts(context)
    return 2 * (context[..., 0] <= 0) + (context[..., 1] <= 0)


def rich_arm(wheel: Wheel, context) -> jax.Array:
    """The arm that is rich outside of delta, in the quadrants of contexts, shaped (..., 2); an array without the last axis."""
    return (quadrant(context) + wheel.turn) % SAFE


def outside(wheel: Wheel, context) -> jax.Array:
    """Whether contexts, shaped (..., 2), lie outside of delta; an array without the last axis. Raises ValueError for a wrong delta."""
    require_delta(wheel.delta)
    return jnp.sum(context**2, -1) > wheel.delta**2


def means(wheel: Wheel, context) -> jax.Array:
    """The mean reward of every arm in contexts (..., 2): (..., 5). Raises ValueError for a wrong delta or shape."""
    arms = jnp.arange(ARMS)
    rich = (arms == rich_arm(wheel, context)[..., None]) & outside(wheel, context)[..., None]
    return jnp.where(rich, RICH, jnp.where(arms == SAFE, STEADY, POOR))


def rewards(wheel: Wheel, context, noise) -> jax.Array:
    """What every arm would pay, shaped (..., 5), in contexts shaped (..., 2) with standard normal `noise` shaped (..., 5)."""
    mean = means(wheel, context)
    return mean + jnp.where(mean == RICH, RICH_NOISE, NOISE) * noise


def regret(wheel: Wheel, context, arm) -> jax.Array:
    """What choosing `arm` (...,) in contexts (..., 2) costs on average, against the best arm: (...,).

    Raises ValueError for a wrong delta, arm or shape.
    """
    _require_arms(arm)
    return policy_regret(wheel, context, jax.nn.one_hot(arm, ARMS))


def policy_regret(wheel: Wheel, context, probabilities) -> jax.Array:
    """The expected regret (...,) of a policy that pulls arms with `probabilities` (..., 5) in contexts (..., 2).

    Raises ValueError for a wrong delta or shape.
    """
    if jnp.shape(probabilities)[-1:] != (ARMS,):
        raise ValueError(f"the probabilities have shape {jnp.shape(probabilities)}; a policy has one for each of {ARMS} arms, along the last axis.")
    mean = means(wheel, context)
    return jnp.max(mean, -1) - jnp.sum(probabilities * mean, -1)


def uniform_regret(delta) -> jax.Array:
    """The expected regret per trial of pulling arms at random, in closed form, a scalar or shaped like delta:

        delta^2 0.8 * 0.2 + (1 - delta^2) (0.2 * 48.8 + 0.6 * 49)

    Raises ValueError for a wrong delta.
    """
    require_delta(delta)
    inside = (1 - 1 / ARMS) * (STEADY - POOR)
    out = (RICH - STEADY) / ARMS + (1 - 2 / ARMS) * (RICH - POOR)
    return delta**2 * inside + (1 - delta**2) * out


def bold_regret(delta) -> jax.Array:
    """The expected regret per trial of always pulling the quadrant's arm, which needs a prior and learns nothing: a scalar, `0.2 delta^2`; of this book."""
    require_delta(delta)
    return delta**2 * (STEADY - POOR)


def pulls(wheel: Wheel, key, count: int) -> Pulls:
    """`count` arms pulled at random in random contexts of a wheel: `Pulls` with a leading axis of `count`. Raises ValueError for a wrong delta or a count below 1."""
    if count < 1:
        raise ValueError(f"count is {count}; a set of pulls holds at least one.")
    where, which, luck = jax.random.split(key, 3)
    context, arm = contexts(where, count), jax.random.randint(which, (count,), 0, ARMS)
    paid = rewards(wheel, context, jax.random.normal(luck, (count, ARMS), jnp.float32))
    return Pulls(context, arm, jnp.take_along_axis(paid, arm[:, None], 1)[:, 0])


def wheel_task(key, support: int = 512, queries: int = 50, turn: int = 0) -> Task:
    """A random wheel, delta ~ U[0, 1], as sets of random pulls to learn from and to be judged on (Zucchet et al. 2022): `key, ... -> Task` of `Pulls`."""
    size, first, second = jax.random.split(key, 3)
    wheel = Wheel(jax.random.uniform(size, (), jnp.float32), turn)
    return Task(pulls(wheel, first, support), pulls(wheel, second, queries))
