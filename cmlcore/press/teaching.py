"""What the page *Teaching with this book* takes from the chapters: which leans on which, and their misconceptions. Sphinx loads this module.

A chapter leans on an earlier one where its text refers to that: by a link, by one of its equations or theorems, or by its title in italics.
"""

import html
import re
from functools import cache

import nbformat

from cmlcore.press.editions import numbered
from cmlcore.press.lesson import misconceptions, plan, teachers_part
from cmlcore.press.plain import EQUATION, references

LABELS = (EQUATION, re.compile(r"^:label: *(\S+)", re.MULTILINE), re.compile(r"^\(([\w-]+)\)=$", re.MULTILINE))
PAGES = (re.compile(r"\{doc\}`(?:[^`<]+<)?([\w-]+)>?`"), re.compile(r"\]\(([\w-]+)\.ipynb"))
NAMED = re.compile(r"\{(?:eq|ref|prf:ref|numref)\}`(?:[^`<]+<)?([\w-]+)>?`")
ITALIC = re.compile(r"(?<!\*)\*([^*\n]+)\*(?!\*)")
ROW, LEFT, WIDTH = 26, 150, 520
PLACE = re.compile(r"^<!-- (leans|misconceptions|plans) -->$", re.MULTILINE)


@cache
def texts() -> dict[str, str]:
    """The Markdown of every notebook of the book, by its name, in the order of the table of contents."""
    return {path.stem: "\n\n".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown") for _, path in numbered()}


def mentions(book: dict[str, str], titles: dict[str, str]) -> dict[tuple[str, str], int]:
    """How often each chapter refers to an earlier one: (chapter, earlier one) -> times.

    book: text by chapter, in order; titles: chapter -> title.
    """
    of_label = {label: name for name, text in book.items() for pattern in LABELS for label in pattern.findall(text)}
    of_title = {titles[name].lower(): name for name in book}
    order, found = list(book), {}
    for name, text in book.items():
        targets = [page for pattern in PAGES for page in pattern.findall(text)]
        targets += [of_label.get(label) for label in NAMED.findall(text)] + [of_title.get(words.lower()) for words in ITALIC.findall(text)]
        for target in targets:
            if target in order[: order.index(name)]:
                found[name, target] = found.get((name, target), 0) + 1
    return found


def drawing(found: dict[tuple[str, str], int], titles: dict[str, str]) -> str:
    """The chapters one below the other, and an arc from each to those it leans on, as SVG; the table below it says the same."""
    rows = {name: ROW * k + ROW / 2 for k, name in enumerate(titles)}
    arcs = []
    for (name, earlier), times in found.items():
        low, high = rows[earlier], rows[name]
        reach = 14 + (LEFT - 24) * (high - low) / (ROW * len(rows))
        arcs.append(
            f'<path d="M{LEFT} {low:g}C{LEFT - reach * 1.3:.1f} {low:g} {LEFT - reach * 1.3:.1f} {high:g} {LEFT} {high:g}" stroke-width="{1 + 0.6 * min(times, 5):g}"/>'
        )
    words = "".join(f'<text x="{LEFT + 12}" y="{y + 5:g}">{html.escape(titles[name])}</text><circle cx="{LEFT}" cy="{y:g}" r="4"/>' for name, y in rows.items())
    return (
        f'<svg viewBox="0 0 {WIDTH} {ROW * len(rows)}" role="img" aria-label="Arcs from each chapter up to the earlier ones that it refers to; the table below lists them." '
        f'font-family="system-ui, sans-serif" font-size="15" style="width:100%;max-width:{WIDTH}px;height:auto;display:block">'
        f'<g fill="none" stroke="currentColor" opacity=".55">{"".join(arcs)}</g><g fill="currentColor">{words}</g></svg>'
    )


def leans() -> str:
    """The drawing and its table, MyST."""
    titles = {name: references().pages[name] for name in texts()}
    found = mentions(texts(), titles)
    rows = [f"| {{doc}}`{name}` | {', '.join(f'{{doc}}`{earlier}`' for one, earlier in found if one == name) or 'nothing before it'} |" for name in titles]
    return f"```{{raw}} html\n{drawing(found, titles)}\n```\n\n| chapter | refers back to |\n|---|---|\n" + "\n".join(rows)


def plans() -> str:
    """A table of the chapters' plans: how many minutes, in how many steps; MyST."""
    rows = []
    for _, path in numbered():
        steps = plan(teachers_part(nbformat.read(path, as_version=4)))
        rows.append(
            f"| {{doc}}`{path.stem}` | {f'{sum(step.minutes for step in steps)} minutes, {len(steps)} steps' if steps else 'read it at home: about 15 minutes'} |"
        )
    return "| chapter | its plan |\n|---|---|\n" + "\n".join(rows)


def beliefs() -> str:
    """Every chapter's misconceptions, from its part for teachers; MyST."""
    blocks = []
    for _, path in numbered():
        if pairs := misconceptions(teachers_part(nbformat.read(path, as_version=4))):
            blocks.append(f"**{{doc}}`{path.stem}`**\n\n" + "\n".join(f'* "{belief}": {answer}.' for belief, answer in pairs))
    return "\n\n".join(blocks)


def fill(app, docname: str, source: list[str]) -> None:
    """Put them into the page that has a place for them (Sphinx's event `source-read`)."""
    made = {"leans": leans, "misconceptions": beliefs, "plans": plans}
    source[0] = PLACE.sub(lambda found: made[found.group(1)](), source[0])


def setup(app) -> dict:
    """Called by Sphinx."""
    app.connect("source-read", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
