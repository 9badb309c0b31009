"""The full experiments on spiking networks: sine waves from ten points, with first derivatives from three sources.

All seeds of a row are one compiled program, and every row meets the same test waves. The rows that are run here were sized for two cores: fewer
steps and tasks than published. Settings come from `cmlcore.runs.spikes_search`: validation waves, other seeds, as many trials for every row; and every
row learns from as many waves. The rows named `published` have the settings of the public code, and wait.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from cmlcore import trees
from cmlcore.bilevel import Problem, free
from cmlcore.data.spikes import NEURONS as INPUTS
from cmlcore.data.spikes import STEPS, spiking_task
from cmlcore.estimate import MetaGradient, unwatched
from cmlcore.estimators.contrastive import matched
from cmlcore.estimators.unroll import unrolled
from cmlcore.meta import meta_start, meta_step, meta_steps
from cmlcore.models import eprop
from cmlcore.models.eprop import Rate
from cmlcore.models.spiking import Cell, Weights, fast_sigmoid, init_weights, run, triangle
from cmlcore.models.synapse import fixed_pull
from cmlcore.runs.cost import Cost
from cmlcore.runs.experiment import Experiment, Training
from cmlcore.runs.searches import searched
from cmlcore.runs.sine import settled_adam
from cmlcore.solve import Solver, optimizer

CELL = Cell()
PSI = {"bptt": fast_sigmoid(), "e-prop": triangle()}
SHOTS, QUERIES, TEST_QUERIES, TEST_TASKS = 10, 10, 50, 100
VALIDATION, TEST = 12345, 54321
CHUNK = 20
NEURONS = 50  # of the rows that run here; published are 100


class Rule(NamedTuple):
    """Settings of the contrastive rule with a matched control on complex synapses; inner Adam, its rate settling in each phase."""

    free_steps: int
    nudged_steps: int
    inner_rate: float
    nudged_rate: float
    beta: float
    pull: float
    outer_steps: int
    tasks: int
    outer_rate: float
    clip: float
    firing_strength: float
    firing_target: float
    neurons: int = NEURONS


class Through(NamedTuple):
    """Settings of backpropagation through training, inner steps with Nesterov's momentum. last: how many of the inner steps it goes through."""

    inner_steps: int
    last: int
    inner_rate: float
    momentum: float
    outer_steps: int
    tasks: int
    outer_rate: float
    clip: float
    firing_strength: float
    firing_target: float
    neurons: int = NEURONS


class Scratch(NamedTuple):
    """Settings of learning from random synapses; Adam, its rate settling."""

    steps: int
    rate: float


# ---- losses ----------------------------------------------------------------------------------------------------------


def _firing(settings) -> Rate:
    return Rate(settings.firing_strength, settings.firing_target)


def feedback_of(weights: Weights) -> jax.Array:
    """A random feedback matrix shaped like `weights.out`, as strong as that is at the start; the same for all seeds and all times."""
    return init_weights(jax.random.key(99), *weights.into.shape, weights.out.shape[1]).out


def by_backprop(rate: Rate) -> Callable:
    """The loss whose derivative is backpropagation through time, with the surrogate that the rows of e-prop have."""
    return eprop.error(CELL, PSI["e-prop"], rate)


def by_published_backprop(rate: Rate) -> Callable:
    """The same with the surrogate of the public code."""
    return eprop.error(CELL, PSI["bptt"], rate)


def by_eprop(rate: Rate) -> Callable:
    """The loss whose derivative is e-prop's."""
    return eprop.plugged(eprop.stored(CELL, PSI["e-prop"], rate), "e-prop")


def by_random_feedback(rate: Rate) -> Callable:
    """The loss whose derivative is e-prop's, the error coming back through a fixed random matrix."""
    first = lambda weights, points: eprop.stored(CELL, PSI["e-prop"], rate, feedback_of(weights))(weights, points)
    return eprop.plugged(first, "e-prop with random feedback")


def by_open_eprop(rate: Rate) -> Callable:
    """The loss whose derivative is e-prop's, and is differentiated further through e-prop's own computations."""
    return eprop.opened(eprop.stored(CELL, PSI["e-prop"], rate))


def without_pull(loss: Callable) -> Problem:
    """Learning that starts at theta and is not held there."""
    return Problem(lambda phi, theta, support: loss(phi, support), lambda phi, theta, query: loss(phi, query))


def adam(rate, steps: int) -> Solver:
    """`steps` of Adam, its rate settling; the root is kept off zero, where silent synapses have it."""
    return settled_adam(rate, steps, unroll=1, eps_root=1e-12)


# ---- training --------------------------------------------------------------------------------------------------------


def answers(weights: Weights, x) -> tuple[jax.Array, jax.Array]:
    """The outputs (examples, outputs) for spikes `x` (examples, T, inputs), and the mean firing rate."""
    record = jax.vmap(lambda one: run(weights, CELL, PSI["e-prop"], one))(x)
    return jnp.mean(record.readout, 1), jnp.mean(record.spikes)


def examined(problem: Problem, learner: Solver, theta, number: int, count: int) -> dict[str, jax.Array]:
    """Scores of `count` waves dealt by `number`, each (count,): error and firing rate on 50 query points, after learning and before."""

    def one(key):
        task = spiking_task(key, SHOTS, TEST_QUERIES)
        found = learner(free(problem, theta), problem.init(theta, task.support), task).phi

        def score(weights):
            output, firing = answers(weights, task.query.x)
            return jnp.mean((output - task.query.y) ** 2), firing

        return dict(zip(("error", "firing", "error before", "firing before"), (*score(found), *score(theta))))

    return jax.lax.map(one, jax.random.split(jax.random.key(number), count), batch_size=min(count, 25))


def start_of(seed, neurons: int = NEURONS) -> Weights:
    """The random synapses of a seed: 100 inputs, `neurons` that spike, one output."""
    return init_weights(jax.random.fold_in(jax.random.key(0), seed), neurons=neurons)


def advancing(problem: Problem, estimator: MetaGradient, settings) -> tuple[Callable, Callable]:
    """How one seed begins, `seed -> state`, and `chunk` outer steps, `state -> (state, info)`."""
    schedule = optax.cosine_decay_schedule(settings.outer_rate, settings.outer_steps)
    outer = optax.chain(optax.clip_by_global_norm(settings.clip), optax.adam(schedule))
    draw = lambda key: spiking_task(key, SHOTS, QUERIES)
    begin = lambda seed: meta_start(start_of(seed, settings.neurons), outer, jax.random.fold_in(jax.random.key(1), seed))
    return begin, meta_steps(meta_step(problem, estimator, outer, draw, settings.tasks), CHUNK)


def _training(problem: Problem, estimator: MetaGradient, learner: Solver, settings) -> Training:
    begin, chunk = advancing(problem, unwatched(estimator), settings)
    many = jax.jit(jax.vmap(chunk))
    exam = jax.jit(jax.vmap(lambda theta: examined(problem, learner, theta, TEST, TEST_TASKS)))

    def advance(state):
        state, info = many(state)
        return state, {"outer_loss": jnp.mean(info.value, 1), "grad_norm": jnp.mean(info.grad_norm, 1)}

    return Training(jax.vmap(begin), advance, settings.outer_steps // CHUNK, lambda seeds, state: exam(state.theta), lambda state: state.theta)


def rule_of(settings: Rule, source: Callable) -> tuple[Problem, MetaGradient, Solver]:
    """The problem, the contrastive rule, and its free phase, with first derivatives from `source`."""
    problem = fixed_pull(source(_firing(settings)), settings.pull)
    learner = adam(settings.inner_rate, settings.free_steps)
    return problem, matched(learner, adam(settings.nudged_rate, settings.nudged_steps), settings.beta), learner


def through_of(settings: Through, source: Callable) -> tuple[Problem, MetaGradient, Solver]:
    """The problem, backpropagation through its learner's last steps, and that learner, with first derivatives from `source`."""
    descent = lambda steps: optimizer(optax.sgd(settings.inner_rate, settings.momentum, nesterov=True), steps)
    learner = descent(settings.inner_steps)
    whole = settings.last >= settings.inner_steps
    rule = unrolled(learner) if whole else as_if_started_there(descent(settings.inner_steps - settings.last), descent(settings.last))
    return without_pull(source(_firing(settings))), rule, learner


def scratch_of(settings: Scratch) -> tuple[Problem, Solver]:
    """The problem, and the learner, of a network without slow weights."""
    return without_pull(by_eprop(Rate())), adam(settings.rate, settings.steps)


def as_if_started_there(early: Solver, late: Solver) -> MetaGradient:
    """Backpropagation through the `late` steps, the point where they begin taken for the initialization, as the public code does. (Cut there, the
    derivative in an initialization is zero.)"""

    def estimate(problem, theta, task, key=None):
        begun = early(free(problem, theta), problem.init(theta, task.support), task).phi
        return unrolled(late)(problem, begun, task)

    return estimate


def train_rule_eprop(settings: Rule) -> Training:
    """The contrastive rule, first derivatives by e-prop."""
    return _training(*rule_of(settings, by_eprop), settings)


def train_rule_backprop(settings: Rule) -> Training:
    """The contrastive rule, first derivatives by backpropagation through time."""
    return _training(*rule_of(settings, by_backprop), settings)


def train_rule_random(settings: Rule) -> Training:
    """The contrastive rule, first derivatives by e-prop with random feedback."""
    return _training(*rule_of(settings, by_random_feedback), settings)


def train_through_backprop(settings: Through) -> Training:
    """Backpropagation through training, first derivatives by backpropagation through time."""
    return _training(*through_of(settings, by_backprop), settings)


def train_published_backprop(settings: Through) -> Training:
    """The same with the surrogate of the public code."""
    return _training(*through_of(settings, by_published_backprop), settings)


def train_through_eprop(settings: Through) -> Training:
    """Backpropagation through training, whole or its last steps, first derivatives by e-prop."""
    return _training(*through_of(settings, by_open_eprop), settings)


def train_scratch(settings: Scratch) -> Training:
    """No meta-learning: each wave is learned from the seed's random synapses, by e-prop."""
    problem, learner = scratch_of(settings)
    exam = jax.jit(jax.vmap(lambda seed: examined(problem, learner, start_of(seed), TEST, TEST_TASKS)))
    return Training(lambda seeds: (), lambda state: (state, {}), 0, lambda seeds, state: exam(seeds), lambda state: state)


# ---- what stands between the rule and the best gradient ---------------------------------------------------------------


class Causes(NamedTuple):
    """Settings of three comparisons of meta-gradients: one nudge against a tenth of it, these phases against four times as long, e-prop
    against backpropagation through time with the same surrogate."""

    free_steps: int
    nudged_steps: int
    inner_rate: float
    nudged_rate: float
    beta: float
    pull: float
    waves: int


def compare_causes(settings: Causes) -> Training:
    """The rule's meta-gradient with e-prop, on the random synapses of each seed, beside what it would be if one thing were better."""

    def estimate(source, theta, task, factor=1, divide=1):
        free_steps, nudged_steps = factor * settings.free_steps, factor * settings.nudged_steps
        phases = adam(settings.inner_rate, free_steps), adam(settings.nudged_rate, nudged_steps)
        return matched(*phases, settings.beta / divide)(fixed_pull(source, settings.pull), theta, task).grad

    local, same = by_eprop(Rate()), eprop.error(CELL, PSI["e-prop"])

    def one(seed, key):
        theta, task = start_of(seed), spiking_task(key, SHOTS, QUERIES)
        ours = estimate(local, theta, task)
        first = [jax.grad(loss)(theta, task.support) for loss in (local, same)]
        return {
            "one gradient": trees.cosine(*first),
            "e-prop": trees.cosine(ours, estimate(same, theta, task)),
            "nudge": trees.cosine(ours, estimate(local, theta, task, divide=10)),
            "phases": trees.cosine(ours, estimate(local, theta, task, factor=4)),
        }

    def test(seeds, state):
        keys = jax.random.split(jax.random.key(VALIDATION), settings.waves)
        return jax.jit(jax.vmap(lambda seed: jax.lax.map(lambda key: one(seed, key), keys)))(seeds)

    return Training(lambda seeds: (), lambda state: (state, {}), 0, test, lambda state: state)


# ---- the experiments -------------------------------------------------------------------------------------------------

ERROR = ("error", "mean squared error on the query points")
COSINE = ("e-prop", "cosine of two meta-gradients")
RULE = Rule(20, 10, 0.01, 0.003, 1.0, 0.1, 240, 5, 0.01, 1.0, 1e-5, 0.2)
THROUGH = Through(10, 10, 0.001, 0.9, 240, 5, 0.003, 1.0, 1e-5, 0.2)
LAST = THROUGH._replace(inner_steps=20, last=5)
# Of the public code: phases 500 and 100, nudge 3, 25 or 10 waves a step, 1,000 steps, 100 neurons.
PUBLISHED = Rule(500, 100, 0.001, 0.003, 3.0, 0.001, 1000, 25, 0.003, 1e9, 1e-5, 0.2, 100)
PUBLISHED_THROUGH = Through(10, 10, 0.0003, 0.9, 1000, 10, 0.0003, 1e9, 1e-6, 0.1, 100)


SEEDS = (0, 1, 2, 3, 4)


def _row(name: str, about: str, settings: Any, build: Callable, cost: Cost, score=ERROR, published: bool = False) -> Experiment:
    return Experiment(f"spikes-{name}", f"Spikes: {about}.", settings, build, SEEDS, score, None, cost, together=True, published=published)


def _published(name: str, about: str, settings: Any, build: Callable, passes: float, in_turn: int) -> Experiment:
    """passes: forward-and-backward passes of one example that a task takes; in_turn: inner steps that wait for each other."""
    one_pass = 3 * 2 * STEPS * settings.neurons * (INPUTS + settings.neurons)
    operations = one_pass * passes * settings.tasks * settings.outer_steps * len(SEEDS)
    # On a GPU the time steps, there and back, take longer than what is computed in them.
    cost = Cost(operations / RATE / 60, settings.outer_steps * in_turn * 2 * STEPS * LAUNCH / 3600, operations)
    return _row(f"published-{name}", f"{about}, published settings", settings, build, cost, published=True)


QUICK, LONGER = Cost(3), Cost(10)
RATE = 1e10  # operations a second of one core in the rows that run here; less than in `cost`, for most of the time goes into small arrays
LAUNCH = 5e-5  # seconds of a GPU's time step, assumed
SEARCHED = searched("spikes")  # what `cmlcore.runs.spikes_search` tried


def chosen(row: str, default):
    """The settings of a row's best trial, with the outer steps of `default`; `default` where it was not searched."""
    if row not in SEARCHED["rows"]:
        return default
    best = min(SEARCHED["rows"][row], key=lambda trial: trial["error"])["settings"]
    return default._replace(**{name: value for name, value in best.items() if name != "outer_steps"})


EXPERIMENTS = (
    _row("rule-eprop", "the contrastive rule, e-prop inside", chosen("rule-eprop", RULE), train_rule_eprop, LONGER),
    _row("rule-bptt", "the contrastive rule, backpropagation through time inside", chosen("rule-bptt", RULE), train_rule_backprop, LONGER),
    _row("rule-random", "the contrastive rule, e-prop with random feedback inside", chosen("rule-random", RULE), train_rule_random, LONGER),
    _row(
        "through-bptt", "backpropagation through training, backpropagation through time inside", chosen("through-bptt", THROUGH), train_through_backprop, LONGER
    ),
    _row("through-eprop", "backpropagation through training, e-prop inside", chosen("through-eprop", THROUGH), train_through_eprop, LONGER),
    _row("truncated-eprop", "backpropagation through the last steps of training, e-prop inside", chosen("truncated-eprop", LAST), train_through_eprop, LONGER),
    _row("scratch", "from random synapses by e-prop, no meta-learning", chosen("scratch", Scratch(60, 0.003)), train_scratch, QUICK),
    _row(
        "causes",
        "what a better source, nudge or phase would change in the rule's meta-gradient",
        Causes(*chosen("rule-eprop", RULE)[:6], waves=8),
        compare_causes,
        QUICK,
        COSINE,
    ),
    _published("rule-eprop", "the contrastive rule, e-prop inside", PUBLISHED, train_rule_eprop, 500 * SHOTS + 100 * (2 * SHOTS + QUERIES), 600),
    _published("through-bptt", "backpropagation through training and time", PUBLISHED_THROUGH, train_published_backprop, 3 * 10 * SHOTS + QUERIES, 30),
    _published(
        "through-eprop",
        "backpropagation through training, e-prop inside",
        PUBLISHED_THROUGH._replace(inner_rate=1e-4, firing_strength=0.01, firing_target=0.05),
        train_through_eprop,
        3 * 10 * SHOTS + QUERIES,
        30,
    ),
    _published(
        "truncated-eprop",
        "the last 100 of 500 steps, e-prop inside",
        PUBLISHED_THROUGH._replace(inner_steps=500, last=100, inner_rate=1e-4, firing_strength=0.01, firing_target=0.05),
        train_through_eprop,
        (400 + 3 * 100) * SHOTS + QUERIES,
        700,
    ),
)
