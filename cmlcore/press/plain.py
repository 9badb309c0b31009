"""MyST into the Markdown that Colab and JupyterLab show: references in words, folds as HTML, equations with their numbers; of this book."""

import re
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import nbformat
import yaml

from cmlcore.press.notebooks import ROOT

EQUATION = re.compile(r"\$\$ *\(([\w-]+)\)")
THEOREM = re.compile(r"^:::\{prf:(\w+)\} *(.*?)\n((?::\w+:[^\n]*\n)*)(.*?)\n:::$", re.MULTILINE | re.DOTALL)


class References(NamedTuple):
    """What the book's labels stand for, in words.

    equations, theorems: label -> number, "4.2" and "Theorem 7.1". pages: label or file stem -> title. works: key -> (authors, year).
    """

    equations: dict[str, str]
    theorems: dict[str, str]
    pages: dict[str, str]
    works: dict[str, tuple[str, str]]


@cache
def references() -> References:
    """Those of the whole book, from its table of contents, its pages and its bibliography."""
    equations, theorems, pages = {}, {}, {}
    for number, file in chapters():
        source = _text(file)
        for k, label in enumerate(EQUATION.findall(source), 1):
            equations[label] = f"{number}.{k}" if number else str(k)
        for k, found in enumerate(THEOREM.finditer(source), 1):
            if label := re.search(r":label: *(\S+)", found.group(3)):
                theorems[label.group(1)] = f"{found.group(1).capitalize()} {number}.{k}"
        title = re.search(r"^# (.+)$", source, re.MULTILINE)
        pages[file.stem] = title.group(1) if title else file.stem
    return References(equations, theorems, pages, _works(ROOT / "book" / "references.bib"))


def chapters() -> list[tuple[int, Path]]:
    """Every page of the book with its number (0 where it has none), in the order of the table of contents."""
    toc, found, number = yaml.safe_load((ROOT / "_toc.yml").read_text()), [], 0
    for part in toc["parts"]:
        for entry in part["chapters"]:
            number += bool(part.get("numbered"))
            file = next(f for suffix in (".ipynb", ".md") if (f := ROOT / f"{entry['file']}{suffix}").is_file())
            found.append((number if part.get("numbered") else 0, file))
    return found


def _text(file: Path) -> str:
    if file.suffix == ".md":
        return file.read_text()
    return "\n\n".join(cell.source for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == "markdown")


def _works(bib: Path) -> dict[str, tuple[str, str]]:
    from pybtex.database import parse_file  # the site's own reader of bibliographies

    def names(entry):
        people = [" ".join(p.prelast_names + p.last_names) for p in entry.persons.get("author", entry.persons.get("editor", []))]
        people = [re.sub(r"[{}\\\"']", "", name) for name in people]
        return f"{people[0]} et al." if len(people) > 2 else " and ".join(people) or "anonymous"

    return {key: (names(entry), entry.fields.get("year", "n.d.")) for key, entry in parse_file(str(bib)).entries.items()}


def plain(source: str, number: int = 0) -> str:
    """The MyST text of one cell as Markdown. number: the chapter's, for equations that stand in it."""
    known = references()
    text = re.sub(r"^\([\w-]+\)=\n", "", source, flags=re.MULTILINE)
    text = THEOREM.sub(lambda m: _quote(f"**{_theorem(m, known)}**\n\n{m.group(4)}"), text)
    text = re.sub(r"^:::\{dropdown\} (.*?)\n(.*?)\n:::$", r"<details><summary>\1</summary>\n\n\2\n\n</details>", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(
        r"^:::\{(\w+)\} *(.*?)\n(.*?)\n:::$",
        lambda m: _quote(f"**{m.group(2) or m.group(1).capitalize()}**\n\n{m.group(3)}"),
        text,
        flags=re.MULTILINE | re.DOTALL,
    )
    text = EQUATION.sub(lambda m: rf"\tag{{{known.equations.get(m.group(1), '?')}}} $$", text)
    text = re.sub(r"\{eq\}`([\w-]+)`", lambda m: f"({known.equations[m.group(1)]})", text)
    text = re.sub(r"\{prf:ref\}`([\w-]+)`", lambda m: known.theorems[m.group(1)], text)
    for role, form in CITATIONS.items():
        text = re.sub(rf"\{{{role}\}}`([^`]+)`", partial(_cited, form, known), text)
    text = re.sub(r"\{doc\}`(?:([^`<]+?) *<)?([\w/-]+)>?`", lambda m: _page(m.group(1), m.group(2), known), text)
    text = re.sub(r"\{(?:term|ref|numref)\}`(?:([^`<]+?) *<)?([^`>]+)>?`", lambda m: m.group(1) or known.pages.get(m.group(2), m.group(2)), text)
    return re.sub(r"\[([^\]]+)\]\((?!https?:|[\w-]+\.ipynb)[^)\s]+\)", r"\1", text)


CITATIONS: dict[str, Callable] = {
    "cite:t": lambda works: ", ".join(f"{who} ({year})" for who, year in works),
    "cite:p": lambda works: "(" + "; ".join(f"{who} {year}" for who, year in works) + ")",
    "cite": lambda works: "(" + "; ".join(f"{who} {year}" for who, year in works) + ")",
}


def _cited(form: Callable, known: References, found) -> str:
    return form([known.works[key.strip()] for key in found.group(1).split(",")])


def _page(words: str | None, target: str, known: References) -> str:
    stem = target.rsplit("/", 1)[-1]
    text = words or known.pages.get(stem, stem)
    return f"[{text}]({stem}.ipynb)" if (ROOT / "book" / f"{stem}.ipynb").is_file() else text


def _theorem(found, known: References) -> str:
    label = re.search(r":label: *(\S+)", found.group(3))
    name = known.theorems[label.group(1)] if label else found.group(1).capitalize()
    return f"{name}" + (f" ({found.group(2)})" if found.group(2) else "")


def _quote(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())
