"""Every full experiment of the book, in the order of its tables; settings are chosen in this book."""

from cmlcore.runs import sine
from cmlcore.runs.experiment import Experiment

TALK = "Sacramento, talk on contrastive meta-learning (about 2021), few-shot regression table"
SEEDS = (0, 1, 2, 3, 4)
ERROR = ("error", "mean squared error on the query points")


def _figure(value: float, plus_minus: float) -> dict:
    return {"value": value, "plus_minus": plus_minus, "source": TALK}


CATALOG = (
    Experiment(
        "sine-cml-full",
        "Sine waves: the contrastive rule with a matched control, full-batch inner learning.",
        sine.Contrastive(300, 150, 0.01, 1, 0, 0.1, 0.1, 1000, 25, 0.01, 1.0),
        sine.train_matched,
        SEEDS,
        ERROR,
        _figure(0.305, 0.101),
        "2 minutes a seed on one CPU core",
    ),
    Experiment(
        "sine-cml-minibatch",
        "Sine waves: the contrastive rule with a matched control, mini-batch inner learning.",
        sine.Contrastive(300, 150, 0.01, 1, 10, 1.0, 0.3, 1000, 25, 0.01, 1.0),
        sine.train_matched,
        SEEDS,
        ERROR,
        _figure(0.258, 0.070),
        "3 minutes a seed on one CPU core",
    ),
    Experiment(
        "sine-one-sided",
        "Sine waves: as the first row, but the end of the free phase is the reference, as published.",
        sine.Contrastive(300, 150, 0.01, 1, 0, 0.1, 0.1, 1000, 25, 0.01, 1.0),
        sine.train_one_sided,
        SEEDS,
        ERROR,
        None,
        "2 minutes a seed on one CPU core",
    ),
    Experiment(
        "sine-one-sided-gentle",
        "Sine waves: the same reference with gentler outer steps and a constant inner rate.",
        sine.Contrastive(300, 150, 0.01, 0, 0, 0.1, 0.01, 1000, 25, 0.002, 1.0),
        sine.train_one_sided,
        SEEDS,
        ERROR,
        None,
        "2 minutes a seed on one CPU core",
    ),
    Experiment(
        "sine-maml",
        "Sine waves: MAML, backpropagation through twenty inner steps.",
        sine.Maml(20, 0.002, 1000, 25, 0.01, 10.0),
        sine.train_maml,
        SEEDS,
        ERROR,
        _figure(0.435, 0.039),
        "1 minute a seed on one CPU core",
    ),
    Experiment(
        "sine-scratch",
        "Sine waves: training from scratch on the same ten points, no meta-learning.",
        sine.Scratch(1000, 0.01),
        sine.train_scratch,
        SEEDS,
        ERROR,
        _figure(1.999, 3.5),
        "1 minute a seed on one CPU core",
    ),
)


def find(name: str) -> Experiment:
    """The experiment called `name`; raises KeyError that lists the names there are."""
    for experiment in CATALOG:
        if experiment.name == name:
            return experiment
    raise KeyError(f"there is no experiment called {name!r}; there are: {', '.join(e.name for e in CATALOG)}.")
