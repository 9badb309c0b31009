"""Every experiment at full size, on characters and photographs: one budget of operations a source, one search for the outer rate of every row.

A row is listed once its rate was searched: `python -m cmlcore.runs.full_scale_search`. Inner rates, pulls and phases of the rows with all weights fast are those of the
small runs (`character_table`), which were chosen for all rows alike.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from cmlcore.runs import fast_weights, slow_features
from cmlcore.runs.cost import counted
from cmlcore.runs.experiment import Experiment
from cmlcore.runs.fast_weights import Weights
from cmlcore.runs.searches import searched
from cmlcore.runs.slow_features import Features


class Row(NamedTuple):
    """One row of a table: what it does, in words; how, with which settings but for the outer rate; and the row whose rate it takes, empty: its own."""

    about: str
    build: Callable
    settings: Any
    takes: str = ""


SEEDS = (0, 1, 2)
LONGER = 8  # times the budget, of the two rows that show how far time goes
FEATURES = {
    "symmetric": ("the contrastive rule nudged to either side", slow_features.train_symmetric, {}, ""),
    "matched": ("the contrastive rule with a matched control", slow_features.train_matched, {}, "symmetric"),
    "one-sided": ("the contrastive rule, one-sided, with a nudge of 1", slow_features.train_one_sided, {"beta": 1.0}, "symmetric"),
    "unrolled": ("backpropagation through learning (ANIL)", slow_features.train_unrolled, {}, ""),
    "implicit": ("implicit differentiation by conjugate gradients (iMAML)", slow_features.train_implicit, {}, "symmetric"),
    "direct": ("first order, what learning does dropped", slow_features.train_direct, {}, ""),
    "prototypes": ("the prototypical network, which learns nothing in a task", slow_features.train_prototypes, {}, ""),
    "scratch": ("random features, no meta-learning", slow_features.train_scratch, {}, "symmetric"),
}
_PULLED, _START, _SOLVED = {"pull": 0.03}, {"rate": 0.2}, {"pull": 0.1, "products": 3, "damping": 3.0}
_HESSIAN_FREE = _SOLVED | {"free_steps": 3, "test_steps": 3, "damping": 10.0}
WEIGHTS = {
    "matched": ("all weights fast, the contrastive rule with a matched control", fast_weights.train_matched, _PULLED, ""),
    "symmetric": ("all weights fast, the contrastive rule nudged to either side", fast_weights.train_symmetric, _PULLED, "matched"),
    "one-sided": ("all weights fast, the contrastive rule, one-sided", fast_weights.train_one_sided, _PULLED, "matched"),
    "layers": ("all weights fast, the matched rule, a strength learned for every layer", fast_weights.train_layers, _PULLED, "matched"),
    "maml": ("all weights fast, MAML: backpropagation through five inner steps", fast_weights.train_maml, _START, ""),
    "first-order": ("all weights fast, MAML without second derivatives", fast_weights.train_first_order, _START, ""),
    "reptile": ("all weights fast, Reptile", fast_weights.train_reptile, _START, ""),
    "imaml-gd": ("all weights fast, implicit MAML, gradient descent inside", fast_weights.train_imaml_gd, _SOLVED, ""),
    "imaml-hf": ("all weights fast, implicit MAML, Hessian-free inside", fast_weights.train_imaml_hf, _HESSIAN_FREE, ""),
    "scratch": ("all weights fast, random ones, no meta-learning", fast_weights.train_scratch, _START, "maml"),
    "channels": ("gains and shifts fast, the matched rule", fast_weights.train_matched, _PULLED | {"form": "channels"}, ""),
    "templates": ("mixes of templates fast, the matched rule", fast_weights.train_matched, _PULLED | {"form": "templates"}, ""),
}
# By source: tasks of a fast read-out that make the budget, the settings of either kind, the exam that the tables sort by.
CHARACTERS = (1250, Features(mirrored=True), Weights(mirrored=True), ("20w1s", "20 ways, 1 shot"))
PHOTOGRAPHS = {
    "cifar-fs": (600, Features(source="cifar-fs", ways=20, queries=5, size=32), Weights(source="cifar-fs", ways=5, queries=10, size=32), ("5w1s", "5 ways, 1 shot")),
    "mini-imagenet": (
        600, Features(source="mini-imagenet", ways=20, queries=5, size=42), Weights(source="mini-imagenet", ways=5, queries=10, size=42), ("5w1s", "5 ways, 1 shot")
    ),
}  # fmt: skip
BY_SOURCE = {"omniglot": CHARACTERS} | PHOTOGRAPHS


def _slow(settings: Features, tasks: int, chunks: int = 10) -> Features:
    return settings._replace(outer_steps=tasks, average_after=4 * tasks // 5, chunk=tasks // chunks)


def rows(source: str, tasks: int | None = None) -> dict[str, Row]:
    """The rows of one source by the name of their experiment; tasks: another budget than the source's, as tasks of a fast read-out."""
    budget, slow, weights, _ = BY_SOURCE[source]
    slow = _slow(slow, tasks or budget)
    of = "" if source == "omniglot" else f"{source}-"
    full = slow_features.operations(slow)
    made = {}
    for label, (about, build, own, takes) in FEATURES.items():
        made[f"features-{of}{label}"] = Row(f"a fast read-out on slow features, {about}", build, slow._replace(**own), takes and f"features-{of}{takes}")
    for label, (about, build, own, takes) in WEIGHTS.items():
        if source == "omniglot" and "form" in own:
            continue  # gains, shifts and templates are of the chapter on photographs
        settings = weights._replace(**own)
        if build in fast_weights.PASSES:
            settings = fast_weights.within(full, build, settings)
        made[f"weights-{of}{label}"] = Row(about, build, settings, takes and f"weights-{of}{takes}")
    return made


def chosen(name: str) -> float | None:
    """The outer rate that the search found best on validation classes for the row of this name, or None."""
    tried = searched("full-scale")["rows"].get(name)
    return tried and max(tried, key=lambda one: one["accuracy"])["settings"]["outer_rate"]


# Whose trained parameters stay with the receipt, a quarter of a megabyte each: pages compute with them. None are of photographs.
KEPT = {"features-symmetric", "features-long-symmetric", "weights-matched", "weights-layers"}
TITLES = {"omniglot": "Characters", "cifar-fs": "CIFAR-FS, subset", "mini-imagenet": "miniImageNet, subset"}


def _cost(row: Row):
    if isinstance(row.settings, Features):
        return counted(slow_features.operations(row.settings))
    return counted(fast_weights.operations(row.build, row.settings) if row.build in fast_weights.PASSES else 0.0)


def _experiment(source: str, name: str, row: Row, rate: float) -> Experiment:
    score, exam = BY_SOURCE[source][3]
    pixels = f"{row.settings.size} x {row.settings.size} pixels"
    return Experiment(
        name,
        f"{TITLES[source]}, {pixels}: {row.about}.",
        row.settings._replace(outer_rate=rate),
        row.build if name in KEPT else lambda settings: row.build(settings)._replace(keep=lambda state: ()),
        SEEDS,
        (score, f"share of query images named right, {exam}, transductive"),
        None,
        _cost(row),
    )


def _listed(source: str) -> tuple[Experiment, ...]:
    """The rows of a source whose rate was searched."""
    rated = ((name, row, chosen(row.takes or name)) for name, row in rows(source).items())
    return tuple(_experiment(source, name, row, rate) for name, row, rate in rated if rate)


def _longer() -> tuple[Experiment, ...]:
    """Two rows on the whole background set, once all choices are made."""
    budget, slow, *_ = CHARACTERS
    settings = _slow(slow, LONGER * budget, 20)._replace(whole=True, validation_episodes=0)
    named = {label: f"features-{label}" for label in ("symmetric", "prototypes")}
    made = (
        (label, Row(f"{rows('omniglot')[of].about}, {LONGER} times as long, the whole background set", FEATURES[label][1], settings), chosen(of))
        for label, of in named.items()
    )
    return tuple(_experiment("omniglot", f"features-long-{label}", row, rate) for label, row, rate in made if rate)


CHARACTER_EXPERIMENTS = (*_listed("omniglot"), *_longer())
PHOTOGRAPH_EXPERIMENTS = tuple(experiment for source in PHOTOGRAPHS for experiment in _listed(source))
