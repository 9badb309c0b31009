"""Where a lesion of the circuit takes omega and lambda of a complex synapse, in closed form (derived in this book).

The world is that of `cmlcore.models.gaussian`, seen synapse by synapse; the circuit and its lesions are those of
`cmlcore.models.hippocampus`; the free phase is finished. Let a_0 and a_1 be the means of the support examples replayed in the
free and in the nudged phase, and b that of the query examples. With x = a_0 - omega, z = a_1 - omega, y = b - omega,

    u_0 = phi_0 - omega = x / (1 + lambda),        u_1 = phi_beta - omega = (z + beta y) / (1 + lambda + beta),

and on average over tasks a synapse writes, per task and for a learning rate of 1,

    omega:  2 lambda / beta (p E u_1 - q E u_0),         log lambda:  -lambda / beta (p E u_1^2 - q E u_0^2)

where (p, q) is what the phase signal and the trace leave of (1, 1).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from cmlcore.bilevel import concrete, require_nonzero_beta
from cmlcore.models.gaussian import World
from cmlcore.models.hippocampus import Lesions, require_lesions
from cmlcore.models.synapse import Synapses


class Night(NamedTuple):
    """How the circuit is used: support and query examples of a task, the nudge, the inner learning rate (for `interrupted`)."""

    shots: int
    queries: int
    beta: float
    rate: float = 0.05


class Moments(NamedTuple):
    """Over tasks, (d,) each: variances of a_0, a_1 and b, covariances of a_1 with b, a_0 with a_1 and a_0 with b."""

    first: jax.Array
    second: jax.Array
    query: jax.Array
    second_query: jax.Array
    first_second: jax.Array
    first_query: jax.Array


class Settled(NamedTuple):
    """Where the slow variables go, (d,) each. `nan`: nothing moves it on average; `inf`: it runs away; a lambda of 0: the pull is lost."""

    omega: jax.Array
    lam: jax.Array


def moments(world: World, night: Night, lesions: Lesions = Lesions()) -> Moments:
    """The second moments, about the prior's mean, of what a lesioned store replays.

    A capacity c leaves min(n, c) support examples to the free phase and the last c - q of these to the nudged one. Noise adds to
    sigma^2. A query example that is wrong with probability p has the covariance (1 - p) v with the support.
    """
    require_lesions(lesions)
    n, q, v, s = night.shots, night.queries, world.variance, world.noise + lesions.noise
    room = n + q if lesions.capacity is None else lesions.capacity
    if room <= q:
        raise ValueError(f"the store holds {room} examples, and the query set alone has {q}; give it {q + 1} or more.")
    before, after, right = min(n, room), min(n, room - q), 1 - lesions.wrong
    first, second, shared = v + s / before, v + s / after, v + world.noise / before
    if lesions.query == "support":
        return Moments(first, second, second, second, shared, shared)
    same = right**2 + lesions.wrong**2  # the chance that two query examples are of one task
    query = (v + s) / q + (1 - 1 / q) * same * v
    return Moments(first, second, query, right * v, shared, right * v)


def mean_change(world: World, night: Night, lesions: Lesions, theta: Synapses) -> Synapses:
    """What a synapse at `theta` writes on average over all tasks, (d,) each, at a learning rate of 1; any omega, any lambda.

    Raises ValueError for synapses that know the sign alone (of them only the resting point is known: `settled`), and for beta = 0.
    """
    require_nonzero_beta(night.beta)
    if not lesions.magnitude:
        raise ValueError("the mean of a sign is not known in closed form; `settled` knows where it vanishes.")
    lam, away = jnp.exp(theta.log_lambda), world.mean - theta.omega
    (mean_0, square_0), (mean_1, square_1) = _photographs(world, night, lesions, lam, away)
    p, q = _signs(lesions)
    return Synapses(2 * lam / night.beta * (p * mean_1 - q * mean_0), -lam / night.beta * (p * square_1 - q * square_0))


def settled(world: World, night: Night, lesions: Lesions = Lesions()) -> Settled:
    """Where omega and lambda go under `lesions`, over many tasks (at a learning rate that is small).

    With r^2 = E (z + beta y)^2 / (trace E x^2), both about the prior's mean, the change of lambda vanishes where
    1 + lambda + beta = r (1 + lambda):

        lambda = beta / (r - 1) - 1        0 where that is negative, and without bound where r <= 1.

    Intact, this is `cmlcore.models.gaussian.settled_pull`. Broken-off replay reaches a known part of the way, which depends on
    lambda; there the root is found by bisection. Synapses that know the sign alone rest where the others do: u_1^2 - u_0^2 is the
    product of two Gaussian variables, as often positive as negative where they are uncorrelated (for a trace of 1).
    With wrong examples the mean of a query is a mixture, and this does not hold: refused.

    Raises ValueError for beta = 0, and for signs alone together with wrong examples.
    """
    require_nonzero_beta(night.beta)
    if not lesions.magnitude and concrete(lesions.wrong) != 0:
        raise ValueError("where synapses rest that know the sign alone is derived for Gaussian queries; with wrong examples they are a mixture. Simulate it.")
    known = moments(world, night, lesions)
    missing, beta = lesions.query == "missing", night.beta
    nothing, endless, lost = (jnp.full_like(known.first, x) for x in (jnp.nan, jnp.inf, 0.0))
    if lesions.stuck:
        return Settled(world.mean, lost) if lesions.stuck > 0 else Settled(endless, endless)
    intact = jnp.asarray(lesions.trace) == 1
    omega = jnp.where(missing & intact, nothing, world.mean)
    scale = jnp.asarray(known.first * lesions.trace)
    if missing:
        gap = known.second - scale
        lam = jnp.where(gap == 0, nothing, jnp.where(gap > 0, lost, endless))
        return Settled(omega, lam)
    if lesions.interrupted is not None:
        return Settled(omega, _bisected(world, night, lesions))
    r = jnp.sqrt((known.second + 2 * beta * known.second_query + beta**2 * known.query) / scale)
    return Settled(omega, jnp.where(r > 1, jnp.maximum(beta / (r - 1) - 1, 0.0), endless))


def _signs(lesions: Lesions):
    """What is left of the factors +1 after the nudged phase and -1 after the free one: (p, q) of p w_1 - q w_0."""
    says = lesions.stuck
    return (says or 1), (-says or 1) * lesions.trace


def _photographs(world, night, lesions, lam, away):
    """Mean and mean square, about omega, of the fast weight at the end of each phase."""
    known = Moments(*(x + away**2 for x in moments(world, night, lesions)))
    beta = 0.0 if lesions.query == "missing" else night.beta
    stiff, loose = 1 + lam + beta, 1 + lam
    first, second = away / loose, away * (1 + beta) / stiff
    square = known.first / loose**2
    finished = (known.second + 2 * beta * known.second_query + beta**2 * known.query) / stiff**2
    if lesions.interrupted is None:
        return (first, square), (second, finished)
    left = (1 - 2 * night.rate * stiff) ** lesions.interrupted  # of the way from phi_0 to phi_beta
    both = (known.first_second + beta * known.first_query) / (loose * stiff)
    broken = left**2 * square + 2 * left * (1 - left) * both + (1 - left) ** 2 * finished
    return (first, square), (left * first + (1 - left) * second, broken)


def _bisected(world, night, lesions):
    """The lambda at which the mean change of log lambda turns from positive to negative; 0 or inf where it has one sign."""
    free_of_sign = lesions._replace(magnitude=True)
    rise = lambda s: mean_change(world, night, free_of_sign, Synapses(world.mean, s)).log_lambda > 0
    highest = jnp.log(1 / night.rate - 1 - night.beta)  # beyond it, steps of this size run away
    low, high = jnp.full_like(world.mean, -12.0), jnp.full_like(world.mean, 1.0) * highest
    never, always = ~rise(low), rise(high)

    def halve(_, ends):
        low, high = ends
        middle = (low + high) / 2
        up = rise(middle)
        return jnp.where(up, middle, low), jnp.where(up, high, middle)

    low, high = jax.lax.fori_loop(0, 60, halve, (low, high))
    return jnp.where(never, 0.0, jnp.where(always, jnp.inf, jnp.exp((low + high) / 2)))
