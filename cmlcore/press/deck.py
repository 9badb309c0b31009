"""The slides of a chapter, chosen by what its cells are: figures, numbered equations, theorems, code in the reader's sight, what checks print.

Prose becomes the speaker's notes. A cell tagged `no-slide` is left out, also of the notes. One tagged `slide` is on a slide whatever it is: of text,
all of it on one; of code, whatever its length. What `setup` or an exercise's tags leave out, it does not bring back.
"""

import re
from typing import NamedTuple

import nbformat

from cmlcore.explore import MIME
from cmlcore.press.exercises import EXERCISE, HINT, SOLUTION, TEACHER, exercises, tagged
from cmlcore.press.lesson import plan, starts, teachers_part

LEFT_OUT = (EXERCISE, HINT, SOLUTION, TEACHER, "setup", "no-slide")
BLOCK = re.compile(r"^:::.*?^:::$|^\$\$[^\n]+\$\$[^\n]*$|^\$\$.*?^\$\$[^\n]*$|^```.*?^```$|(?:^(?!:::|\$\$|```)[^\n]+\n?)+", re.MULTILINE | re.DOTALL)
LABEL = re.compile(r"\$\$ *\(([\w-]+)\)")
HEAD = re.compile(r"(?:\([\w-]+\)=\n)?##? [^\n]+\n*")
CODE_LINES = 32  # a cell of code that is longer is no slide


class Slide(NamedTuple):
    """One slide.

    title:  its heading; kind: "title", "bet", "figure", "equation", "theorem", "code", "output", "text" or "takeaways".
    cells:  notebook cells, Markdown in MyST, as the chapter has them.
    notes:  MyST for the speaker; said: the step of the plan that begins here, or "". seconds: of the plan for this slide, 0 without one.
    labels: of the equations on it; caption: the figure's own title.
    """

    title: str
    kind: str
    cells: tuple
    notes: str = ""
    said: str = ""
    seconds: int = 0
    labels: tuple = ()
    caption: str = ""

    @property
    def text(self) -> str:
        """What is written on it and in its notes."""
        return " ".join([*(cell.source for cell in self.cells if cell.cell_type == "markdown"), self.notes])


def deck(nb, chapter: str) -> list[Slide]:
    """The slides of the chapter, in its order, with the plan's minutes where the chapter has a plan."""
    slides, section, waiting, opened = [], "", [], False  # opened: a section of the chapter has begun; its first figure comes before

    def add(kind, cells, title=None, **more):
        slides.append(Slide(title or section, kind, tuple(cells), notes="\n\n".join(waiting), **more))
        waiting.clear()

    def close():
        """What waits at a section's end belongs to its last slide, or is one by itself."""
        if not waiting:
            return
        if slides and slides[-1].title == section:
            slides[-1] = slides[-1]._replace(notes="\n\n".join(filter(None, [slides[-1].notes, *waiting])))
            waiting.clear()
        else:
            shown = [waiting.pop(0)]
            while shown[-1].endswith(":") and waiting:  # what it announces, too
                shown.append(waiting.pop(0))
            add("text", [nbformat.v4.new_markdown_cell(block) for block in shown])

    for cell in nb.cells:
        if any(tagged(cell, tag) for tag in LEFT_OUT):
            continue
        if cell.cell_type == "code":
            kind = kind_of(cell, section)
            if kind == "words":
                head, text = parted(printed(cell))
                if head:  # a section whose first words are computed
                    close()
                    section, opened = head, True
                waiting.append(text)
            elif kind:
                caption = next((o.data[MIME]["title"] for o in cell.outputs if MIME in o.get("data", {})), "")
                add(kind, [cell], title=None if opened else caption or None, caption=caption)
            continue
        asked = tagged(cell, "slide")
        for block in blocks(cell):
            block = block.strip("\n")
            text = nbformat.v4.new_markdown_cell(block)
            if not (asked and not HEAD.match(block)) and (re.match(r"\([\w-]+\)=|### ", block) or section == "Exercises"):
                block = re.sub(r"^\([\w-]+\)=\n", "", block)
                if not block.startswith(("# ", "## ")):
                    continue
            if block.startswith("# "):
                section = re.sub(r"^# ", "", block).splitlines()[0]
            elif block.startswith("## "):
                close()
                section, opened = block[3:].splitlines()[0].strip(), True
            elif asked:
                add("text", [text], labels=tuple(LABEL.findall(block)))
            elif section == "Sources" or block.startswith(":::{dropdown}"):
                continue
            elif block.startswith("*") and not block.startswith("**") and not slides:
                add("title", [text])
            elif block.startswith("**Your bet"):
                close_question(slides, waiting)
                add("bet", [text], title="Your bet")
            elif slides and slides[-1].kind == "bet" and block.startswith("*") and not block.startswith("**"):
                slides[-1] = slides[-1]._replace(cells=(*slides[-1].cells, text))
            elif block.startswith("$$"):
                if labels := tuple(LABEL.findall(block)):
                    add("equation", [text], labels=labels)
                else:
                    waiting.append(block)
            elif block.startswith(":::{prf:"):
                add("theorem", [text], labels=tuple(LABEL.findall(block)))
            elif re.match(r"\*\*(What you saw|Read off)", block) and slides:
                slides[-1] = slides[-1]._replace(notes="\n\n".join(filter(None, [slides[-1].notes, block])))
            else:
                waiting.append(block)
    close()
    if found := exercises(nb, chapter):
        lines = "\n".join(f"* {one.level}: {one.title} ({one.minutes} minutes)" for one in found)
        slides.append(Slide("Exercises", "text", (nbformat.v4.new_markdown_cell(lines),)))
    return timed(slides, plan(teachers_part(nb)))


def blocks(cell) -> list[str]:
    """The blocks of a Markdown cell; of one tagged `slide`, its heading and all the rest."""
    if not tagged(cell, "slide"):
        return BLOCK.findall(cell.source)
    head = HEAD.match(cell.source)
    end = head.end() if head else 0
    return [block for block in (cell.source[:end], cell.source[end:]) if block.strip()]


def close_question(slides: list[Slide], waiting: list[str]) -> None:
    """The chapter's question, the first bold paragraph, stands on the title's slide; the rest of what leads to the bet is said."""
    asked = [block for block in waiting if block.startswith("**")][:1]
    if asked and slides and slides[-1].kind == "title":
        slides[-1] = slides[-1]._replace(cells=(*slides[-1].cells, nbformat.v4.new_markdown_cell(asked[0])))
        waiting.remove(asked[0])


def printed(cell) -> str:
    """What the cell's output says in Markdown or in plain print."""
    return "\n\n".join("".join(o.get("data", {}).get("text/markdown", o.get("text", ""))) for o in cell.outputs)


def parted(text: str) -> tuple[str, str]:
    """The heading that a text begins with, empty if it has none, and the rest."""
    found = re.match(r"## (.+)\n+", text)
    return (found[1].strip(), text[found.end() :]) if found else ("", text)


def kind_of(cell, section: str) -> str:
    """The kind of slide that a code cell makes; "words" where its output is for the notes; "" where it makes none."""
    data = [output.get("data", {}) for output in cell.outputs]
    if any(MIME in one for one in data):
        return "figure"
    if "takeaways" in section.lower():
        return "takeaways"
    if any("text/markdown" in one for one in data):
        return "output" if "|--" in printed(cell).replace(":", "-").replace(" ", "") or tagged(cell, "slide") else "words"
    if any("text/html" in one or "image/svg+xml" in one for one in data) or (cell.outputs and tagged(cell, "nbval-check-output")):
        return "output"
    shown = not any(tagged(cell, tag) for tag in ("hide-input", "remove-input", "remove-cell"))
    return "code" if tagged(cell, "slide") or (shown and len(cell.source.splitlines()) <= CODE_LINES) else ""


def timed(slides: list[Slide], steps: list) -> list[Slide]:
    """The slides with the plan's steps in their notes, and its seconds shared out among the slides of each step."""
    if not steps:
        return slides
    begun = dict(zip(starts(steps, slides), steps, strict=True))
    made, number = list(slides), 0
    for first, last in zip(sorted(begun), [*sorted(begun)[1:], len(slides)], strict=True):
        step, share = begun[first], begun[first].minutes * 60 // (last - first)
        until = number + step.minutes
        for k in range(first, last):
            seconds = step.minutes * 60 - share * (last - first - 1) if k == first else share
            made[k] = made[k]._replace(
                seconds=seconds,
                said=f"**{step.minutes} minutes ({number} to {until}).** {step.what}" if k == first else f"*Still in minutes {number} to {until}.*",
            )
        number = until
    return made
