"""The full experiments on characters, with the published figures beside them; those with published settings wait for who has a GPU.

Settings are the published ones where they are known (the commands of Zucchet et al. 2022, the appendices of Finn et al. 2017, Nichol
et al. 2018 and Rajeswaran et al. 2019), else chosen in this book, on validation characters.
"""

from cmlcore.runs.characters import (
    Characters,
    train_first_order,
    train_imaml_gd,
    train_imaml_hf,
    train_maml,
    train_matched,
    train_one_sided,
    train_pixels,
    train_reptile,
    train_scratch,
    train_symmetric,
    train_symmetric_carried,
)
from cmlcore.runs.cost import Cost, counted
from cmlcore.runs.experiment import Experiment
from cmlcore.runs.few_shot import TEST_QUERIES

TALK = "Sacramento, talk on contrastive meta-learning (about 2021), few-shot character table"
RIGHT = ("accuracy", "share of query drawings named right")
SEEDS = (0, 1, 2)


def operations(settings, passes: float, colors: int = 1) -> float:
    """Operations of a training, a number: products of the convolutions alone, a backward pass counted as two forward ones.

    passes: forward-and-backward passes of one image, of so many colors, that a task takes.
    """
    channels = [colors, *[settings.filters] * 3]
    forward = sum(2 * 9 * n * settings.filters * (settings.size // 2**k) ** 2 for k, n in enumerate(channels))
    return 3 * forward * passes * settings.tasks * settings.outer_steps


# Passes of one image a task, by method: s settings, n support and q query images. The derivative of a backward pass counts as two passes.
PASSES = {
    train_one_sided: lambda s, n, q: s.free_steps * n + s.nudged_steps * (n + q),
    train_symmetric: lambda s, n, q: s.free_steps * n + 2 * s.nudged_steps * (n + q),
    train_symmetric_carried: lambda s, n, q: s.free_steps * n + 2 * s.nudged_steps * (n + q),
    train_matched: lambda s, n, q: s.free_steps * n + s.nudged_steps * (2 * n + q),
    train_maml: lambda s, n, q: 3 * s.free_steps * n + q,
    train_first_order: lambda s, n, q: s.free_steps * n + q,
    train_reptile: lambda s, n, q: s.free_steps * (n + q),
    train_imaml_gd: lambda s, n, q: (s.free_steps + 2 * s.products) * n + q,
    train_imaml_hf: lambda s, n, q: (s.free_steps * (1 + 2 * s.products) + 2 * s.products) * n + q,
}


def cost(build, settings, colors: int = 1) -> Cost:
    """What a seed costs, its training counted, or its test where there is no training; settings of either kind, `Characters` or `Images`."""
    n, q = settings.ways * settings.shots, settings.ways * settings.queries
    if build in PASSES:
        return counted(operations(settings, PASSES[build](settings, n, q), colors))
    episodes = settings._replace(outer_steps=1, tasks=settings.test_episodes)
    return counted(operations(episodes, settings.test_steps * n + settings.ways * TEST_QUERIES / 3, colors))


def _figure(percent: float, plus_minus: float, source: str = TALK) -> dict:
    return {"value": percent / 100, "plus_minus": plus_minus / 100, "source": source}


def _full(exam: tuple[int, int], label: str, build, about: str, figure: dict | None, **settings) -> Experiment:
    ways, shots = exam
    chosen = Characters(ways, shots, **settings)
    name, kind = f"omniglot-{ways}w{shots}s-{label}", f"{ways}-way, {shots}-shot, {chosen.normalization} normalization"
    return Experiment(name, f"Characters, {kind}: {about}", chosen, build, SEEDS, RIGHT, figure, cost(build, chosen), published=True)


# As published: SGD with Nesterov's momentum, 30 epochs of 125 outer steps, the average from the sixth epoch on.
PUBLISHED = dict(free_steps=200, test_steps=200, rate=0.01, momentum=0.9, outer_rate=0.01, outer_steps=3750, average_after=625)
# wd_fast / 2, the nudge and its steps, tasks, and where the published rate was halved, as the published commands have them.
CML = {
    (5, 1): dict(pull=0.25, beta=0.1, nudged_steps=100, tasks=32),
    (5, 5): dict(pull=0.05, beta=0.1, nudged_steps=100, tasks=32),
    (20, 1): dict(pull=0.25, beta=0.03, nudged_steps=100, tasks=16, halve_every=625),
    (20, 5): dict(pull=0.125, beta=0.1, nudged_steps=200, tasks=16),
}
# MAML's published 20-way settings. iMAML's steps, lambda = 2, products and rates; its number of Newton steps and damping are this book's.
# Reptile: its steps and tasks; full-batch gradient descent at MAML's rate where the authors have Adam on mini-batches.
MAML = dict(free_steps=5, test_steps=5, rate=0.1, outer_steps=60_000, tasks=16, outer_rate=0.001, average_after=50_000, chunk=1000)
IMAML = dict(pull=1.0, products=5, rate=0.1, outer_steps=20_000, tasks=32, outer_rate=0.001, average_after=16_000, chunk=500)
REPTILE = dict(free_steps=10, test_steps=50, rate=0.1, outer_steps=100_000, tasks=5, outer_rate=1.0, average_after=90_000, chunk=1000)
TALK_FIGURES = {
    "cml": {(20, 1): (94.16, 0.12), (20, 5): (98.06, 0.26)},
    "maml": {(20, 1): (95.8, 0.3), (20, 5): (98.9, 0.2)},
    "first-order": {(20, 1): (89.4, 0.5), (20, 5): (97.9, 0.1)},
    "reptile": {(20, 1): (89.43, 0.14), (20, 5): (97.12, 0.32)},
    "imaml-gd": {(20, 1): (94.46, 0.42), (20, 5): (98.69, 0.1)},
    "imaml-hf": {(20, 1): (96.18, 0.36), (20, 5): (99.14, 0.1)},
}


def _talk(label: str, exam: tuple[int, int]) -> dict | None:
    found = TALK_FIGURES.get(label, {}).get(exam)
    return found and _figure(*found)


def _rivals(exam: tuple[int, int]) -> list[Experiment]:
    """The other methods' full runs on 20 ways."""
    rows = [
        ("maml", train_maml, "MAML, backpropagation through five inner steps.", MAML),
        ("first-order", train_first_order, "MAML without second derivatives.", MAML),
        ("reptile", train_reptile, "Reptile on ten drawings of each character.", REPTILE | dict(queries=10 - exam[1])),
        ("imaml-gd", train_imaml_gd, "implicit MAML, gradient descent inside.", IMAML | dict(free_steps=25, test_steps=25, damping=1.0)),
        ("imaml-hf", train_imaml_hf, "implicit MAML, Hessian-free inside.", IMAML | dict(free_steps=3, test_steps=3, damping=1.0)),
        ("scratch", train_scratch, "training from scratch, no meta-learning.", dict(free_steps=0, test_steps=200, rate=0.01, momentum=0.9)),
    ]
    return [_full(exam, label, build, about, _talk(label, exam), **s) for label, build, about, s in rows]


TWENTY = PUBLISHED | CML[20, 1]
AS_PUBLISHED = "the contrastive rule nudged to either side, as published."
EXPERIMENTS = (
    *[_full(exam, "cml", train_symmetric, AS_PUBLISHED, _talk("cml", exam), **PUBLISHED | own) for exam, own in CML.items()],
    _full((20, 1), "cml-vinyals", train_symmetric, AS_PUBLISHED[:-1] + ", on the other split.", None, split="vinyals", **TWENTY),
    _full((20, 1), "one-sided", train_one_sided, "the contrastive rule, the free phase's end as reference.", None, **TWENTY),
    _full((20, 1), "matched", train_matched, "the contrastive rule with a matched control.", None, **TWENTY),
    _full((20, 1), "carried", train_symmetric_carried, AS_PUBLISHED[:-1] + " for larger images: momentum outlives a phase.", None, **TWENTY),
    *_rivals((20, 1)),
    *_rivals((20, 5)),
)

# Small runs, which a laptop does: 16 x 16 pixels, a quarter of the width, 1,600 episodes for every method.
SMALL = dict(
    ways=5, shots=1, size=16, filters=16, queries=5, tasks=8, chunk=40, outer_steps=200, halve_every=50, average_after=160,
    validation_episodes=40, free_steps=5, test_steps=5, rate=0.3, outer_rate=0.01,
)  # fmt: skip
INITIAL = dict(rate=0.2, outer_rate=0.02, test_steps=10)
NUDGED = dict(pull=0.03, nudged_steps=3, beta=0.2, outer_rate=0.03, test_steps=10)


def _small(label: str, build, about: str, seeds=SEEDS[:2], **settings) -> Experiment:
    chosen = Characters(**SMALL | settings)
    text = f"Characters, small (16 x 16 pixels, 16 filters), 5-way, 1-shot, {chosen.normalization} normalization: {about}"
    return Experiment(f"omniglot-small-{label}", text, chosen, build, seeds, RIGHT, None, Cost(1))


SMALL_EXPERIMENTS = (
    _small("matched", train_matched, "the contrastive rule with a matched control.", **NUDGED),
    _small("one-sided", train_one_sided, "the contrastive rule, the free phase's end as reference.", **NUDGED),
    _small("one-sided-wide", train_one_sided, "the same with a nudge fifteen times as wide.", **NUDGED | dict(beta=3.0, outer_rate=0.01)),
    _small("symmetric", train_symmetric, "the contrastive rule nudged to either side.", **NUDGED),
    _small("maml", train_maml, "MAML, backpropagation through five inner steps.", **INITIAL),
    _small("first-order", train_first_order, "MAML without second derivatives.", **INITIAL),
    _small("reptile", train_reptile, "Reptile.", outer_rate=0.5),
    _small("imaml-gd", train_imaml_gd, "implicit MAML, gradient descent inside.", pull=0.1, products=3, damping=3.0, test_steps=10),
    _small("imaml-hf", train_imaml_hf, "implicit MAML, Hessian-free inside.", pull=0.1, products=3, damping=10.0, outer_rate=0.03, test_steps=10),
    _small("strong-pull", train_matched, "the contrastive rule, a pull ten times as strong.", **NUDGED | dict(pull=0.3)),
    _small("scratch", train_scratch, "training from scratch, no meta-learning.", outer_steps=0, test_steps=20),
    _small("pixels", train_pixels, "the nearest drawing, no learning at all.", SEEDS[:1], outer_steps=0),
)
EXPERIMENTS += SMALL_EXPERIMENTS
