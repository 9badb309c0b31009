"""The experiments with half of a training set held out: CIFAR-10 as at hand and MNIST, every rival with one budget of inner steps and one search.

A row is listed once its first strength and its outer rate were searched: `python -m cmlcore.runs.half_and_half_search`.
"""

from collections.abc import Callable
from typing import NamedTuple

from cmlcore.runs import halves
from cmlcore.runs.cost import counted
from cmlcore.runs.experiment import Experiment
from cmlcore.runs.halves import Halves
from cmlcore.runs.hyperparameters import CALLED, FIVE_LAYERS, LENET, PASSES, TEST_ACCURACY, Fixed, Weighed, World, cifar_lenet, mnist_mlp, weighing
from cmlcore.runs.searches import searched

SEEDS = (0, 1, 2)
COLD = "matched"  # the row whose end is compared with inner learning from the start
STRENGTHS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)  # of the row without meta-learning


class Source(NamedTuple):
    """title, in words; world: the data and the network; forward: operations of one image's forward pass; settings: what all rows share; rules: by method."""

    title: str
    world: Callable[[], World]
    forward: float
    settings: Halves
    rules: dict[str, dict]


_NUDGE = {"steps": 20, "rate": 0.01, "beta": 1.0, "look_at": 100}
_CIFAR = Halves(5_000, 5_000, 1e-4, "sgd", first_steps=400, free_steps=60, final_steps=800, free_rate=0.01, batch=100, outer_steps=20, outer_rate=0.3)
_MNIST = Halves(30_000, 30_000, 1e-5, "adam", first_steps=600, free_steps=100, final_steps=1500, free_rate=3e-4, batch=500, outer_steps=20, outer_rate=0.3)
# The linear solvers meet all training images in each product, so that few products cost as much as a nudged phase.
_SOLVERS = {"cg": {"steps": 3}, "neumann": {"steps": 3, "rate": 0.01}, "identity": {}, "truncated": {"steps": 20}}
SOURCES = {
    "cifar": Source("CIFAR-10, 5,000 + 5,000 photographs, LeNet", cifar_lenet, LENET, _CIFAR, {"matched": _NUDGE, "one-sided": _NUDGE} | _SOLVERS),
    "mnist": Source(
        "MNIST, 30,000 + 30,000 digits, 466,698 weights",
        mnist_mlp,
        FIVE_LAYERS,
        _MNIST,
        {"matched": _NUDGE | {"rate": 1e-4, "look_at": 500}, "one-sided": _NUDGE | {"rate": 1e-4, "look_at": 500}} | _SOLVERS,
    ),
}


def rows(source: str) -> dict[str, Halves]:
    """The settings of every method of a source, but for what was searched."""
    of = SOURCES[source]
    return {rule: of.settings._replace(cold=rule == COLD, **own) for rule, own in of.rules.items()}


def chosen(source: str, rule: str) -> dict | None:
    """The first strength and the outer rate that the search found best, by the held-out loss, or None."""
    tried = searched("half-and-half")["rows"].get(f"{source}-{rule}")
    return tried and {name: min(tried, key=lambda one: one["held_loss"])["settings"][name] for name in ("strength", "outer_rate")}


def operations(rule: str, settings: Halves, forward: float) -> float:
    """Operations of one seed, training and the last learning from both halves counted."""
    inner = settings.first_steps + settings.outer_steps * settings.free_steps + settings.final_steps
    return 3 * forward * (inner * settings.batch + settings.outer_steps * PASSES[rule](settings, settings.batch))


def _listed(source: str) -> tuple[Experiment, ...]:
    of, made = SOURCES[source], []
    for rule, settings in rows(source).items():
        if found := chosen(source, rule):
            about = f"{of.title}: {CALLED[rule]}, warm-started; retrained on both halves."
            made.append((rule, about, settings._replace(**found), halves.by_rule(rule, of.world), operations(rule, settings, of.forward)))
    if made:
        s = of.settings
        fixed = Fixed(s.train, s.held_out, STRENGTHS, s.final_steps, s.free_rate, s.batch)
        about = f"{of.title}: the best of {len(STRENGTHS)} strengths, one for all weights; retrained on both halves."
        made.append(("none", about, fixed, halves.by_search(s.learner, of.world), 3 * of.forward * (len(STRENGTHS) + 1) * s.final_steps * s.batch))
    scored = [(*row, SEEDS, TEST_ACCURACY) for row in made]
    if made:
        about = f"{of.title}: bytes of one meta-gradient, all held-out images at once for every method."
        weigh = lambda settings: weighing(settings, of.world(), rows(source), halves.LEARNERS[of.settings.learner])
        scored.append(("memory", about, Weighed(tuple(of.rules)), weigh, 0.0, SEEDS[:1], ("matched", "bytes")))
    return tuple(
        Experiment(f"halves-{source}-{rule}", about, settings, build, seeds, score, None, counted(cost))
        for rule, about, settings, build, cost, seeds, score in scored
    )


EXPERIMENTS = tuple(experiment for source in SOURCES for experiment in _listed(source))
