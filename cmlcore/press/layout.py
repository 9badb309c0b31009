"""Where code stands on a page: behind one small link on its figure, so that a reader meets the figure first; of this book.

Sphinx loads this module as an extension. A notebook keeps its cells in the order in which they run; on the page

* the code of a figure, and the set-up cells before it, are one fold below the figure;
* a cell that only prints that something is True is folded: a check is for who doubts, not for who reads;
* an exercise's cell shows no output, since nobody has answered it there;
* a table of very many rows is folded, and a number stays on one line with its interval;
* a bet and a warm-up get the form that answers them (bets.py), and the paragraph that settles the bet is marked.
"""

import re
from html import escape

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform

from cmlcore.press import bets
from cmlcore.press.exercises import EXERCISE

FIGURE, SETUP, CODE, CHECK, STUB = "Code of this figure", "Set-up", "Code", "A check, and what it says", "The cell of this exercise, for a notebook"
WIDE = 3  # a figure of so many panels takes the margin as well
MANY = 24  # rows: more are looked up, not read
# Spaces that no line ends at: in "0.086 ± 0.013", "± 0.9" and, of two seeds, "73.4 and 71.6".
TOGETHER = re.compile(r"(?<=[\d%]) (?=± \d)|(?<=±) (?=\d)|(?<=\d) (?=and \d)|(?<=\d and) (?=\d)")
PANEL = re.compile(r'<figure class="cml-panel')


class Fold(nodes.General, nodes.Element):
    """A `<details>`, with the words of its `summary`."""


def visit_fold(translator, node):
    translator.body.append(f'<details class="{" ".join(["cml-fold", *node["classes"]])}"><summary>{escape(node["summary"])}</summary>\n')


def depart_fold(translator, node):
    translator.body.append("</details>\n")


def fold(summary: str, *parts, printed: bool = False) -> Fold:
    """The parts behind a small link. What is only for the screen has the theme's class for folded code, which a print leaves out."""
    made = Fold("", summary=summary, classes=[] if printed else ["above-input"])
    made.extend(parts)
    return made


class FigureFirst(SphinxPostTransform):
    """Brings the code cells of a page into the order of its reader; after MyST-NB has folded what its tags name."""

    default_priority = 210
    formats = ("html",)

    def run(self, **_):
        self.cells()
        for table in [table for table in self.document.findall(nodes.table) if rows(table) > MANY]:
            table.replace_self(fold(f"The whole table, {rows(table)} rows", table.deepcopy(), printed=True))
        for text in [text for text in self.document.findall(nodes.Text) if TOGETHER.search(text)]:
            text.parent.replace(text, nodes.Text(TOGETHER.sub("\u00a0", text)))
        chapter = self.env.docname.rpartition("/")[2]
        if bets.asked(chapter, "bet"):
            self.ask(chapter)

    def ask(self, chapter):
        """Put the forms behind the bet and above the cell of the warm-up."""
        paragraphs = list(self.document.findall(nodes.paragraph))
        bet = next(node for node in paragraphs if node.astext().startswith("Your bet."))
        begins = bets.asked(chapter, "bet")["settled"].replace("*", "")
        settled = next(node for node in paragraphs if node is not bet and node.astext().startswith(begins))
        settled["classes"].append("cml-settled")
        settled["ids"].append("bet-settled")
        put(bet, 1, bets.form(chapter, "bet"))
        if bets.asked(chapter, "warm-up"):
            cell = next(node for node in self.document.findall(nodes.container) if f"tag_{EXERCISE}" in node["classes"])
            put(cell, 0, bets.form(chapter, "warm-up"))

    def cells(self):
        waiting = []  # set-up whose figure comes later: its fold, and its code
        for cell in [node for node in self.document.findall(nodes.container) if node.get("nb_element") == "cell_code"]:
            source = next((node for node in cell.findall(nodes.container) if node.get("nb_element") == "cell_code_source"), None)
            output = next((node for node in cell.children if isinstance(node, nodes.container) and node.get("nb_element") == "cell_code_output"), None)
            if figure := pictures(output):
                if source is not None:
                    cell.children = [output, fold(FIGURE, *(code for _, code in waiting), source)]
                    for empty, _ in waiting:
                        empty.parent.remove(empty)
                    waiting = []
                if panels(figure) >= WIDE:
                    output["classes"].append("full-width")
            elif source is None:
                continue
            elif f"tag_{EXERCISE}" in cell["classes"]:
                cell.children = [fold(STUB, source, printed=True)]
            elif cell.get("hide_mode") == "input":
                cell.children = [output, fold(CODE, source)] if output else [fold(SETUP, source)]
                if not output:
                    waiting.append((cell, source))
            else:
                waiting = []  # the code that follows in the reader's sight needs it before, not after
                if output is not None and only_true(output.astext()):
                    cell.children = [fold(CHECK, source, output)]


def put(beside, after: int, text: str) -> None:
    """Put HTML next to a node: before it (0), or after it (1)."""
    beside.parent.insert(beside.parent.index(beside) + after, nodes.raw("", text, format="html"))


def pictures(output) -> list:
    """The explorables of a cell's output."""
    return [] if output is None else [node for node in output.findall(nodes.raw) if "explorable" in node["classes"]]


def panels(figures) -> int:
    return max(len(PANEL.findall(figure.astext())) for figure in figures)


def rows(table) -> int:
    return sum(len(body.children) for body in table.findall(nodes.tbody))


def only_true(printed: str) -> bool:
    """Whether every line that a cell prints ends in True: a test, shown as prose."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    return bool(lines) and all(line.endswith("True") for line in lines)


def setup(app) -> dict:
    """Called by Sphinx."""
    app.add_node(Fold, html=(visit_fold, depart_fold))
    app.add_post_transform(FigureFirst)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
