"""Bets that a reader places in the page, and warm-up exercises that are answered there; of this book.

`book/bets.yml` says what is asked. Of a bet the right answer is not written down there but read from what the chapter's own cells have
printed; of a warm-up it is what the exercise's solution binds. The page settles both in their own units, says what is behind an answer
that many give, and keeps it in the browser, from where it can be cleared. Nothing is sent anywhere.

    bilevel:
      bet:
        settled: "**The bet.** The test loss"        # how the output begins that settles it
        fields:
          - label: the test loss changes by
            answer: 'changes by ([\\d.]+\\d)'          # in that notebook's outputs; or two of these, whose ratio it is
            unit: "%"                                 # what stands behind the number
            within: 0.05                              # relative: what counts as right
            says: [[-1e-9, 1e-9, "Zero forgets that learning happens again."]]      # from, to, diagnosis
      warm-up:
        fields: [{label: "$\\omega$", name: my_omega, answer: -5}]

A field with `options` is a choice, its answer the number of one, from 0; one with `line: [low, high]` is a point on a line.
"""

import html
import json
import re
from functools import cache

import nbformat
import yaml

from cmlcore.press.notebooks import ROOT

FILE = ROOT / "book" / "bets.yml"


@cache
def bets() -> dict:
    """What is asked, by chapter, as the file has it."""
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


@cache
def told(chapter: str) -> str:
    """All that the cells of a chapter print, in words: Markdown and plain text."""
    cells = nbformat.read(ROOT / "book" / f"{chapter}.ipynb", as_version=4).cells
    outputs = (output for cell in cells for output in cell.get("outputs", []))
    return "\n\n".join("".join(o.get("data", {}).get("text/markdown", o.get("text", ""))) for o in outputs)


def found(pattern: str, chapter: str) -> float:
    """The number that a pattern catches in a chapter's outputs. Raises ValueError where nothing, or no number, is caught."""
    match = re.search(pattern, told(chapter))
    if not match:
        raise ValueError(f"bets.yml: no output of {chapter} holds {pattern!r}.")
    return float(match.group(1).replace("−", "-").replace(",", ""))


def answer(field: dict, chapter: str) -> float:
    """The right answer to a field: a number, read from the chapter's outputs where the file has a pattern, or a ratio of two."""
    given = field["answer"]
    if isinstance(given, list):
        return found(given[0], chapter) / found(given[1], chapter)
    return found(given, chapter) if isinstance(given, str) else float(given)


def asked(chapter: str, kind: str) -> dict | None:
    """A chapter's "bet" or "warm-up" as the page gets it: fields with numbers for answers; None where nothing is asked."""
    if not (entry := bets().get(chapter, {}).get(kind)):
        return None
    fields = [{key: value for key, value in field.items() if key != "name"} | {"answer": answer(field, chapter)} for field in entry["fields"]]
    for field in fields:
        if "options" in field:
            field["answer"] = int(field["answer"])
    return {"fields": fields} | {key: entry[key] for key in ("settled",) if key in entry}


def form(chapter: str, kind: str) -> str:
    """The page's part of a bet or a warm-up; bets.js makes it work, and shows it. Nothing is seen of it without scripts."""
    entry = asked(chapter, kind)
    data = json.dumps([{k: v for k, v in field.items() if k != "label"} for field in entry["fields"]], ensure_ascii=False).replace("</", "<\\/")
    words = {"bet": ("Place your bet", "Your bet"), "warm-up": ("Check", "Your answer")}[kind]
    fields = "".join(_field(f"{kind}-{k}", field) for k, field in enumerate(entry["fields"]))
    return (
        f'<form class="cml-bet" data-kind="{kind}" aria-label="{words[1]}" hidden>{fields}<button type="submit">{words[0]}</button>'
        '<button type="button" class="cml-bet-clear" hidden>Clear</button>'
        f'<div class="cml-bet-said" role="status"></div><script type="application/json">{data}</script></form>'
    )


def _field(ident: str, field: dict) -> str:
    label, unit = html.escape(field["label"]), html.escape(field.get("unit", ""))
    if "options" in field:
        radios = "".join(
            f'<label><input type="radio" name="{ident}" value="{k}" autocomplete="off"> {html.escape(text)}</label>' for k, text in enumerate(field["options"])
        )
        return f"<fieldset><legend>{label}</legend>{radios}</fieldset>"
    if "line" in field:
        low, high = field["line"]
        middle = (low + high) / 2
        return (
            f'<label class="cml-bet-line">{label} <input type="range" name="{ident}" min="{low}" max="{high}" step="{(high - low) / 100:g}" value="{middle:g}" autocomplete="off">'
            f" <output>{middle:g}</output>{f' {unit}' if unit else ''}</label>"
        )
    return f'<label>{label} <input type="text" inputmode="text" name="{ident}" size="7" autocomplete="off">{f" {unit}" if unit else ""}</label>'
