"""What stands in the catalogue, as text for a terminal of 80 columns; of this book."""

import textwrap

from cmlcore.runs import cost, receipts
from cmlcore.runs.catalog import CHAPTERS, find
from cmlcore.runs.experiment import Experiment

WIDTH = 80
COLUMNS = (35, 19, 12, 8)  # name, result, two cores, GPU; two spaces between them
NOTE = (
    "Costs are of all seeds: on two cores measured where there is a receipt, else reckoned; on a GPU reckoned with "
    f"{cost.GPU:.0e} operations a second. small: short steps in a row, in which a GPU has too little to do."
)


def standing(name: str) -> tuple[str, dict | None]:
    """What stands of an experiment, in a word or as a number with its interval over seeds, and its receipt if that is good."""
    try:
        receipt = receipts.read(name)
    except receipts.WaitingReceipt:
        return "waiting", None
    except receipts.StaleReceipt:
        return "stale", None
    except ValueError:
        return "damaged", None
    result = receipt["result"]
    return f"{result['mean']:.4g}" + (f" ± {result['over_seeds']:.2g}" if result["over_seeds"] else ""), receipt


def _line(name: str, *cells: str) -> str:
    """One line, or two where the name is too long for its column."""
    texts = [cell.ljust(width) for cell, width in zip(cells, COLUMNS[1:])]
    gap = f"\n{'':{COLUMNS[0]}}" if len(name) > COLUMNS[0] else ""
    return (f"{name:{COLUMNS[0]}}{gap}  " + "  ".join(texts)).rstrip()


def _row(experiment: Experiment) -> str:
    stands, receipt = standing(experiment.name)
    hours = cost.on_gpu(experiment)
    return _line(experiment.name, stands, cost.duration(cost.on_cores(experiment, receipt)), "small" if hours is None else cost.duration(60 * hours))


def _table(title: str, published: bool) -> list[str]:
    lines = [title, "", _line("", "result", "two cores", "a GPU")]
    for chapter, experiments in CHAPTERS.items():
        if rows := [_row(experiment) for experiment in experiments if experiment.published == published]:
            lines += [f"[{chapter}]", *rows]
    return [*lines, ""]


def catalogue() -> str:
    """Two tables: the experiments that tables of the book read, and those with published settings, for who has a GPU."""
    own = _table("Of the book: mean ± 95 % over seeds, and what it costs.", False)
    others = _table("Published settings, for who has a GPU: no table of the book waits for them.", True)
    more = "More on one: python -m cmlcore.runs NAME --about"
    return "\n".join([*own, *others, textwrap.fill(NOTE, WIDTH), more])


def about(name: str) -> str:
    """All there is to say of one experiment: what it is, its settings, what it costs, what stands, and how to run it. Raises KeyError for no name."""
    experiment = find(name)
    stands, receipt = standing(name)
    unit = "all seeds together" if experiment.together else f"each of {len(experiment.seeds)} seeds"
    settings = ", ".join(f"{key} {value}" for key, value in experiment.settings._asdict().items())
    figure = experiment.figure
    lines = [
        experiment.about,
        f"Result: {stands}" + (f" ({receipt['result']['unit']})." if receipt else "."),
        f"Published: {figure['value']:.4g} ± {figure['plus_minus']:.2g} ({figure['source']})." if figure else "Published: nothing to set it beside.",
        f"Cost of {unit}: {experiment.cost}.",
        f"Measured: {cost.duration(cost.on_cores(experiment, receipt))} for all, had they run on two cores; on {receipt['device']}." if receipt else "",
        f"Settings: {settings}.",
        f"Run it: python -m cmlcore.runs {name}",
    ]
    return "\n".join(textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in (name, *filter(None, lines)))
