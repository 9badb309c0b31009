"""A chapter's plan for a lesson, from its part for teachers, laid over its slides; and the misconceptions it collects."""

import re
from typing import NamedTuple

from cmlcore.press.exercises import TEACHER, tagged

ROW = re.compile(r"^\| *(\d+) *\| *(.+?) *\|$", re.MULTILINE)
MISTAKEN = re.compile(r"\*{1,2}Misconceptions to expect\.\*{1,2} (.*?)(?:\n\n|\n:::|\Z)", re.DOTALL)
BELIEF = re.compile(r'"([^"]+?)[.,]?" \((.+?)\)[.;]?(?=\s+"|\s*\Z)', re.DOTALL)
WORDS = {"bet": 5, "loops": 3, "theorem": 3, "scratch": 4, "check": 4, "breaks": 5, "takeaways": 5, "experiment": 3, "table": 2, "exercises": 2}


class Step(NamedTuple):
    """One step of a plan: minutes, and what happens in them, MyST."""

    minutes: int
    what: str


def teachers_part(nb) -> str:
    """The text of the chapter's cell for teachers, "" where it has none."""
    return "\n\n".join(cell.source for cell in nb.cells if tagged(cell, TEACHER))


def plan(text: str) -> list[Step]:
    """The steps of the plan in a part for teachers, a table of minutes and what; empty where there is none."""
    return [Step(int(minutes), what) for minutes, what in ROW.findall(text)]


def misconceptions(text: str) -> list[tuple[str, str]]:
    """What students may believe, and what to say to it, both MyST, from a part for teachers.

    Raises ValueError where that paragraph holds anything that does not have the form "belief" (answer).
    """
    if not (found := MISTAKEN.search(text)):
        return []
    paragraph = found.group(1).strip()
    pairs = [(" ".join(belief.split()), " ".join(answer.split())) for belief, answer in BELIEF.findall(paragraph)]
    if rest := BELIEF.sub("", paragraph).strip():
        raise ValueError(f'a misconception is written as "belief" (answer); this is not: {rest[:120]!r}')
    return pairs


def fit(step: Step, slide) -> float:
    """How well a step of the plan describes a slide: equations and titles that it names count most, then words in common."""
    what = step.what.lower()
    labels = re.findall(r"\{eq\}`([\w-]+)`", step.what)
    named = [name.lower().strip(".,") for name in re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)|\"([^\"]+)\"", step.what) for name in name if name]
    title = f"{slide.title} {slide.caption}".lower()
    score = 6.0 * any(label in slide.labels for label in labels)
    score += 6.0 * any(name in title for name in named)
    score += sum(weight for word, weight in WORDS.items() if word in what and word in f"{title} {slide.kind}")
    score += 4.0 * (slide.kind == "figure" and any(word in what for word in ("explorable", "figure", "projector")))
    return score + 0.1 * len(set(re.findall(r"[a-z]{5,}", what)) & set(re.findall(r"[a-z]{5,}", f"{title} {slide.text.lower()}")))


def starts(steps: list[Step], slides: list) -> list[int]:
    """The slide at which each step begins: increasing, and the best fit in sum.

    Raises ValueError where there are fewer slides than steps.
    """
    if len(slides) < len(steps):
        raise ValueError(f"{len(steps)} steps of the plan, and only {len(slides)} slides.")
    best = [(0.0, [])] * (len(slides) + 1)  # of the steps so far, on the first so many slides
    for number, step in enumerate(steps):
        row = [(float("-inf"), [])] * (len(slides) + 1)
        for k in range(number, len(slides)):
            taken = best[k][0] + fit(step, slides[k])
            row[k + 1] = max(row[k], (taken, [*best[k][1], k]), key=lambda found: found[0])
        best = row
    return best[-1][1]
