"""What holds for every figure of the book, as its notebooks store it: one color for a role, and words for a reader."""

import ast
import json
import re
from collections import Counter

import nbformat
import numpy as np
import pytest

from cmlcore import explore
from cmlcore.explore import drawing, picture
from cmlcore.explore.drawing import COLORS, ROLES
from cmlcore.press.notebooks import code_of, notebooks

STORED = [
    (path.stem, payload["name"], json.loads(payload["figure"]))
    for path in notebooks()
    for cell in nbformat.read(path, as_version=4).cells
    for output in cell.get("outputs", [])
    if (payload := output.get("data", {}).get(explore.MIME))
]
every_figure = pytest.mark.parametrize("figure", [figure for *_, figure in STORED], ids=[f"{chapter}-{name}" for chapter, name, _ in STORED])
# What a label says, and the role that it has then. A panel's title speaks for a label that says no more than "learned".
SAID = {
    r"^the wave$|^(the )?truth$": "truth",
    r"^from scratch\b": "scratch",
    r"^outer loss": "outer loss",
    r"^on the query set|^query$": "query",
    r"^inner loss$": "inner loss",
    r"^free$": "free",
    r"^nudged\b": "nudged",
    r"^consolidated ω$": "omega",
    r"^pull λ$": "lambda",
    r"^held out$": "held out",
    r"^training$": "inner loss",
    r"\bexact\b": "exact",
    r"^one-sided": "one-sided",
    r"^symmetric": "symmetric",
    r"^matched": "matched",
    r"^support$": "support",
}


def role_of(label: str, title: str):
    """The role that a mark of this label has, or None."""
    if label == "learned" and title == "From scratch":
        return "scratch"
    return next((role for said, role in SAID.items() if re.search(said, label)), None)


def test_a_role_is_a_color_of_the_book():
    assert set(ROLES.values()) <= {*COLORS, "ink"}
    assert explore.Line([0, 1], [0, 1], color="scratch").primitives(None)[0]["color"] == COLORS[ROLES["scratch"]]
    with pytest.raises(ValueError, match="no role"):
        explore.Line([0, 1], [0, 1], color="scratched").primitives(None)


@every_figure
def test_a_role_has_its_one_color(figure):
    for panel in figure["drawing"]["panels"]:
        for mark in panel["marks"]:
            if role := role_of(mark["label"], panel["title"]):
                assert mark["color"] == COLORS.get(ROLES[role], "ink"), (panel["title"], mark["label"])


@every_figure
def test_a_drawn_color_is_that_of_a_role(figure):
    drawn = {mark["color"] for panel in figure["drawing"]["panels"] for mark in panel["marks"]}
    assert drawn <= {COLORS.get(color, color) for color in ROLES.values()}


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_what_is_judged_is_named_by_its_role(path):
    """Purple is the outer loss, a query, what is held out. A cell names the role, so that no other curve takes the color because it is free."""
    strings = (node for code in code_of(nbformat.read(path, as_version=4)) for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant))
    assert [node.lineno for node in strings if node.value == "purple"] == []


def test_headings_are_a_chapter_s_own():
    """What a heading says happens in its chapter alone; those at a chapter's end are the same everywhere."""
    heads = Counter()
    for path in notebooks():
        cells = nbformat.read(path, as_version=4).cells
        texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
        texts += [output.get("data", {}).get("text/markdown", "") for cell in cells for output in cell.get("outputs", [])]
        heads.update({head for text in texts for head in re.findall(r"^##+ (.*)", text, re.MULTILINE)})
    assert {head for head, count in heads.items() if count > 1} == {"Three takeaways", "Exercises", "Sources"}


@every_figure
def test_a_table_speaks_to_a_reader(figure):
    """No name of a variable: a label of several words is not the variable's own, underscores taken out."""
    assert [label for name, label, _ in figure["table"] if "_" in name and label == name.replace("_", " ")] == []
    assert [label for _, label, _ in figure["table"] if label in ("half", "best", "least", "floor", "where", "promised")] == []


@every_figure
def test_a_legend_has_at_most_four_entries(figure):
    assert all(len({mark["label"] for mark in panel["marks"] if mark["label"]}) <= 4 for panel in figure["drawing"]["panels"])


def test_a_clamped_line_leaves_the_picture():
    """A line that a program holds at the end of a log axis is no measured plateau: both renderers let it leave."""
    clamped = np.array([1e-3, 1e-4, 1e-5, 1e-5, 1e-5])
    panel = explore.Panel([explore.Line(np.arange(5.0), clamped)], x=explore.Axis("t", range=(0, 4)), y=explore.Axis("error", log=True, range=(1e-5, 1)))
    lowered = drawing.lower(explore.Drawing([panel]), [{}])
    heights = [float(y) for y in re.findall(r"(?<=M)[\d. -]+", picture.svg(lowered["panels"][0], {}, 300))[-1].split()[1::2]]
    assert heights[1] < 254 < min(heights[2:])  # 254: where the axis ends
