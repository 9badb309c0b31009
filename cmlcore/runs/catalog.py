"""Every full experiment of the book, by chapter, in the order of its tables; settings are chosen in this book."""

from cmlcore.runs import character_table, digits, full_scale, half_and_half, hippocampus, hyperparameters, modulation, modulation_images, rewards, sine, spikes
from cmlcore.runs.cost import Cost
from cmlcore.runs.experiment import Experiment

TALK = "Sacramento, talk on contrastive meta-learning (about 2021), few-shot regression table"
SEEDS = (0, 1, 2, 3, 4)
ERROR = ("error", "mean squared error on the query points")
ACCURACY = ("accuracy", "share of the 10,000 test digits that are right")


def _figure(value: float, plus_minus: float) -> dict:
    return {"value": value, "plus_minus": plus_minus, "source": TALK}


SINE = (
    Experiment(
        "sine-cml-full",
        "Sine waves: the contrastive rule with a matched control, full-batch inner learning.",
        sine.Contrastive(300, 150, 0.01, 1, 0, 0.1, 0.1, 1000, 25, 0.01, 1.0),
        sine.train_matched,
        SEEDS,
        ERROR,
        _figure(0.305, 0.101),
        Cost(2),
    ),
    Experiment(
        "sine-imaginary",
        "Sine waves: as the first row, nudged along the imaginary axis: learning once, in the complex plane.",
        sine.Contrastive(300, 150, 0.01, 1, 0, 0.001, 0.1, 1000, 25, 0.01, 1.0),
        sine.train_imaginary,
        SEEDS,
        ERROR,
        None,
        Cost(10),
    ),
    Experiment(
        "sine-cml-minibatch-momentum",
        "Sine waves: the contrastive rule with a matched control, mini-batch inner learning, momentum in the nudged phase.",
        sine.Minibatch(600, 150, 0.01, 0.002, 0.9, 10, 0.1, 0.1, 1000, 25, 0.01, 1.0),
        sine.train_minibatch,
        SEEDS,
        ERROR,
        _figure(0.258, 0.070),
        Cost(3),
    ),
    Experiment(
        "sine-cml-minibatch",
        "Sine waves: as above on mini-batches, Adam in every phase; the best nudge and pull found for it.",
        sine.Contrastive(300, 150, 0.01, 1, 10, 1.0, 0.3, 1000, 25, 0.01, 1.0),
        sine.train_matched,
        SEEDS,
        ERROR,
        _figure(0.258, 0.070),
        Cost(3),
    ),
    Experiment(
        "sine-one-sided",
        "Sine waves: as the first row, but the end of the free phase is the reference, as published.",
        sine.Contrastive(300, 150, 0.01, 1, 0, 0.1, 0.1, 1000, 25, 0.01, 1.0),
        sine.train_one_sided,
        SEEDS,
        ERROR,
        None,
        Cost(2),
    ),
    Experiment(
        "sine-one-sided-gentle",
        "Sine waves: the same reference with gentler outer steps and a constant inner rate.",
        sine.Contrastive(300, 150, 0.01, 0, 0, 0.1, 0.01, 1000, 25, 0.002, 1.0),
        sine.train_one_sided,
        SEEDS,
        ERROR,
        None,
        Cost(2),
    ),
    Experiment(
        "sine-maml",
        "Sine waves: MAML, backpropagation through twenty inner steps.",
        sine.Maml(20, 0.002, 1000, 25, 0.01, 10.0),
        sine.train_maml,
        SEEDS,
        ERROR,
        _figure(0.435, 0.039),
        Cost(1),
    ),
    Experiment(
        "sine-scratch",
        "Sine waves: training from scratch on the same ten points, no meta-learning.",
        sine.Scratch(1000, 0.01),
        sine.train_scratch,
        SEEDS,
        ERROR,
        _figure(1.999, 3.5),
        Cost(1),
    ),
)
DIGITS = (
    Experiment(
        "digits-eqprop",
        "MNIST: an energy network of 784-256-10 units by equilibrium propagation, nudged to either side.",
        digits.Relaxing(256, 20, 10, 0.5, 0.5, 100, 12, 0.001),
        digits.train_symmetric,
        SEEDS,
        ACCURACY,
        None,
        Cost(0.5),
    ),
    Experiment(
        "digits-one-sided",
        "MNIST: the same network by equilibrium propagation with one nudge, as first published.",
        digits.Relaxing(256, 20, 10, 0.5, 0.5, 100, 12, 0.001),
        digits.train_one_sided,
        SEEDS,
        ACCURACY,
        None,
        Cost(0.5),
    ),
    Experiment(
        "digits-hebbian",
        "MNIST: the same network by contrastive Hebbian learning, answers clamped.",
        digits.Relaxing(256, 20, 10, 0.5, 0.0, 100, 12, 0.001),
        digits.train_hebbian,
        SEEDS,
        ACCURACY,
        None,
        Cost(0.5),
    ),
    Experiment(
        "digits-backprop",
        "MNIST: the same network by backpropagation through the twenty steps of its free phase.",
        digits.Relaxing(256, 20, 0, 0.5, 0.0, 100, 12, 0.0001),
        digits.train_backprop,
        SEEDS,
        ACCURACY,
        None,
        Cost(3),
    ),
)
# Every experiment, by the chapter whose tables read it; a new kind is added here. Chapters stand in the order of the book.
CHAPTERS = {
    "equilibrium-propagation": DIGITS,
    "sine-waves": SINE,
    "characters": (*full_scale.CHARACTER_EXPERIMENTS, *character_table.EXPERIMENTS),
    "top-down-modulation": (*modulation.EXPERIMENTS, *full_scale.PHOTOGRAPH_EXPERIMENTS, *modulation_images.EXPERIMENTS),
    "hyperparameters": (*half_and_half.EXPERIMENTS, *hyperparameters.EXPERIMENTS),
    "spikes": spikes.EXPERIMENTS,
    "rewards": rewards.EXPERIMENTS,
    "whose-job": hippocampus.EXPERIMENTS,
}
CATALOG: tuple[Experiment, ...] = sum(CHAPTERS.values(), ())


def find(name: str) -> Experiment:
    """The experiment called `name`; raises KeyError that lists the names there are."""
    for experiment in CATALOG:
        if experiment.name == name:
            return experiment
    raise KeyError(f"there is no experiment called {name!r}; there are: {', '.join(e.name for e in CATALOG)}.")
