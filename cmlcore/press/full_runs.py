"""The page of all full runs, made from their receipts while the site is built."""

import json
import textwrap

from cmlcore.press.notebooks import ROOT
from cmlcore.runs import cost, receipts
from cmlcore.runs.catalog import CHAPTERS
from cmlcore.runs.experiment import Experiment
from cmlcore.runs.tables import plus_minus

PLACE = "<!-- all full runs -->"  # what the page writes where they go


def title(chapter: str) -> str:
    """What a chapter is called on its page."""
    cells = json.loads((ROOT / "book" / f"{chapter}.ipynb").read_text())["cells"]
    lines = (line for cell in cells if cell["cell_type"] == "markdown" for line in "".join(cell["source"]).splitlines())
    return next(line.removeprefix("# ") for line in lines if line.startswith("# "))


def number(value: float) -> str:
    """A number as it stands on the page: four digits, without an exponent where it is large."""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def spread(value: float | None) -> str:
    """Half an interval, at two digits."""
    return f"{value:,.0f}" if value is not None and value >= 100 else f"{value or 0:.2g}"


def entry(experiment: Experiment, receipt: dict) -> str:
    """One run that was made: what it is and gave, and folded beneath, when, where and how."""
    result, figure, seeds = receipt["result"], experiment.figure, receipt["seeds"]
    over_seeds = f"± {spread(result['over_seeds'])} over {len(seeds)} seeds" if result["over_seeds"] is not None else "one seed"
    over_tasks = f"± {spread(result['over_tasks'])} over {result['tasks']:,} test tasks of one seed"
    published = "none" if figure is None else f"{plus_minus(figure['value'], figure['plus_minus'])} ({figure['source']})"
    versions = ", ".join(f"{name} {version}" for name, version in receipt["versions"].items())
    seconds = ", ".join(f"{each:,.0f}" for each in receipt["seconds"])
    together = ", a share each of the time of all together" if experiment.together else ""
    return "\n".join(
        [
            f"**{experiment.about}**\\",
            f"{number(result['mean'])} ({result['unit']}); {over_seeds}, {over_tasks}. Published: {published}.",
            "",
            f":::{{dropdown}} `{experiment.name}`",
            f"* Seeds: {', '.join(map(str, seeds))}; each gave {', '.join(map(number, result['each_seed']))}",
            f"* Date: {receipt.get('date', 'not recorded')}",
            f"* Device: {receipt['device']}",
            f"* Versions: {versions}",
            f"* Seconds a seed: {seconds}{together}",
            f"* Again: `python -m cmlcore.runs {experiment.name}`",
            ":::",
            "",
        ]
    )


def waiting(experiment: Experiment) -> str:
    """One run that was not made yet, or has to be made again."""
    hours = cost.on_gpu(experiment)
    gpu = "" if hours is None else f", {cost.duration(60 * hours)} on a GPU"
    return f"* `{experiment.name}`: {experiment.about} {cost.duration(cost.on_cores(experiment))} on two cores{gpu}."


def chapter(name: str, experiments: tuple[Experiment, ...]) -> str:
    """The runs that the tables of a chapter read, those that were made and those that wait."""
    made, wait = [], []
    for experiment in experiments:
        try:
            made.append(entry(experiment, receipts.read(experiment.name)))
        except (receipts.WaitingReceipt, receipts.StaleReceipt):
            wait.append(waiting(experiment))
    lines = [f"## {title(name)}", "", f"Read in {{doc}}`{name}`.", "", *made]
    return "\n".join([*lines, "Waiting for their runs:", "", *wait, ""] if wait else lines)


def markdown() -> str:
    """All full runs as MyST Markdown, by chapter; those that no table waits for at the end."""
    own = {name: tuple(e for e in experiments if not e.published) for name, experiments in CHAPTERS.items()}
    published = [waiting(e) for experiments in CHAPTERS.values() for e in experiments if e.published]
    words = textwrap.dedent(
        f"""
        ## Published settings, for who has a GPU

        No table of this book waits for these. Costs are of all seeds, reckoned with {cost.CORE:.0e} operations a second of a core and {cost.GPU:.0e} of a GPU.
        """
    )
    return "\n".join([*(chapter(name, experiments) for name, experiments in own.items() if experiments), words, *published, ""])


def fill(app, docname: str, source: list[str]) -> None:
    """Put the runs into the page that has a place for them (Sphinx's event `source-read`)."""
    if PLACE in source[0]:
        source[0] = source[0].replace(PLACE, markdown())
