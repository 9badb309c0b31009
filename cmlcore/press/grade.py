"""Marks for students' notebooks: `python -m cmlcore.press.grade student.ipynb`, or a folder of them.

A student's cells run in a process of their own, with limits and without network (see `cmlcore.press.examine`). What judges an answer is the
book's own check, put in place of the one in the student's notebook. Every line of a check that says "right" earns its share of the
exercise's points. The marks go into `marks.csv` and `marks.html`. Exercises for discussion are listed without marks.
"""

import argparse
import csv
import html
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import nbformat

from cmlcore.press.exercises import Exercise, check, exercises, verdict
from cmlcore.press.notebooks import ROOT, code_of

MARKED = re.compile(r"^# Exercise ([\w-]+)-(\d+) ")
SECONDS, CHARACTERS, BYTES = 120, 100_000, 10_000_000
KEPT = ("PATH", "HOME", "PYTHONPATH", "CML_DATA")  # of the environment; what JAX compiles may be kept, too


class Mark(NamedTuple):
    """What one student has for one exercise; `of` is 0 where it is for discussion. said: the check's words, or why there are none."""

    student: str
    exercise: str
    title: str
    points: float
    of: int
    said: str


def chapter_of(nb, file: Path) -> str:
    """The chapter that a notebook is of, by the first line of its exercises' cells.

    Raises ValueError where no cell has such a line, or the book has no such chapter.
    """
    names = {found.group(1) for cell in nb.cells if cell.cell_type == "code" and (found := MARKED.match(cell.source))}
    if len(names) != 1 or not (ROOT / "book" / f"{next(iter(names))}.ipynb").is_file():
        raise ValueError(
            f"{file} is no student's notebook of one chapter of this book: the first line of an exercise's cell, '# Exercise chapter-1 ...', "
            f"names {'no chapter' if not names else ', '.join(sorted(names))}. Make editions with `make class`, and leave those lines in place."
        )
    return names.pop()


def plan(nb, known: dict[str, Exercise]) -> list[dict]:
    """The cells to run up to the last exercise, each with the book's own check where it is one's cell."""
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    cells = []
    for number, (cell, source) in enumerate(zip(code, code_of(nb), strict=True)):
        found = MARKED.match(cell.source)
        exercise = known.get(f"{found.group(1)}-{found.group(2)}") if found else None
        cells.append({"name": exercise.name if exercise else f"cell {number}", "source": source, "check": check(exercise.stub) if exercise else ""})
    last = max(k for k, cell in enumerate(cells) if cell["check"])
    return cells[: last + 1]


def examined(cells: list[dict], seconds: int, whole: int) -> dict[str, dict]:
    """What came of every cell that was reached, by its name; a cell that stopped the whole process is left out of a second attempt."""
    known, left = {}, cells
    deadline = time.monotonic() + whole
    while left:
        found, stuck = _attempt(left, seconds, max(1, deadline - time.monotonic()))
        known = found | {name: ended for name, ended in known.items() if name not in found or not found[name]["why"] == ""}
        if stuck is None or time.monotonic() > deadline:
            return known
        left = [cell for cell in left if cell["name"] != stuck]
    return known


def _attempt(cells: list[dict], seconds: int, whole: float) -> tuple[dict[str, dict], str | None]:
    """One process; the name of the cell that it was killed in, or None. Its own output, past what Python prints, is cut at `BYTES`."""
    with tempfile.TemporaryDirectory(prefix="cmlcore-grade-") as folder:
        asked, results = Path(folder) / "plan.json", Path(folder) / "results.jsonl"
        asked.write_text(json.dumps({"cells": cells, "seconds": seconds, "characters": CHARACTERS}))
        environment = {key: value for key, value in os.environ.items() if key in KEPT or key.startswith("JAX_")}
        environment |= {"CMLCORE_FACE": "page", "JAX_PLATFORMS": "cpu", "TMPDIR": folder}
        with (Path(folder) / "output").open("wb") as output:
            command = [sys.executable, "-m", "cmlcore.press.examine", asked, results]
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, cwd=_beside_data(), start_new_session=True
            )
            why = _wait(process, Path(output.name), whole)
        lines = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    ended = {line["name"]: line for line in lines if "why" in line}
    begun = [line["name"] for line in lines if "began" in line]
    stuck = next((name for name in begun if name not in ended), None)
    if stuck is not None:
        ended[stuck] = {"name": stuck, "printed": "", "why": why or "ended the whole process"}
    return ended, stuck


def _beside_data() -> Path:
    return ROOT / "book"  # where the book's own notebooks run


def _wait(process: subprocess.Popen, output: Path, whole: float) -> str:
    """Wait for the process, and end it and all that it began where it takes too long or writes too much; gives why."""
    deadline, why = time.monotonic() + whole, ""
    while process.poll() is None and not why:
        time.sleep(0.05)
        if time.monotonic() > deadline:
            why = f"the notebook ran longer than {whole:.0f} s"
        elif output.stat().st_size > BYTES:
            why = f"wrote more than {BYTES // 1_000_000} MB"
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return why


def grade(file: Path, seconds: int = SECONDS, whole: int = 10 * SECONDS) -> list[Mark]:
    """The marks of one student's notebook; its file name is the student's.

    seconds: for one cell; whole: for the notebook. Raises ValueError for a notebook that is not of this book.
    """
    nb = nbformat.read(file, as_version=4)
    chapter = chapter_of(nb, file)
    book = exercises(nbformat.read(ROOT / "book" / f"{chapter}.ipynb", as_version=4), chapter)
    ended = examined(plan(nb, {exercise.name: exercise for exercise in book}), seconds, whole)
    return [_mark(file.stem, exercise, ended.get(exercise.name)) for exercise in book]


def _mark(student: str, exercise: Exercise, ended: dict | None) -> Mark:
    if not exercise.stub:
        return Mark(student, exercise.name, exercise.title, 0, 0, "for discussion")
    if ended is None:
        return Mark(student, exercise.name, exercise.title, 0, exercise.points, "not reached, or its cell is not there")
    said = ended["why"] and f"stopped: {ended['why']}" or ended["printed"].strip()
    right, of = verdict("" if ended["why"] else ended["printed"])
    points = exercise.points * right / of if of else 0
    return Mark(student, exercise.name, exercise.title, round(points, 2), exercise.points, said)


def page(marks: list[Mark]) -> str:
    """The marks as one HTML page: a row for each student and exercise, and each student's sum."""
    sums = {}
    for mark in marks:
        got, of = sums.get(mark.student, (0, 0))
        sums[mark.student] = got + mark.points, of + mark.of
    cell = lambda value: f"<td>{html.escape(str(value))}</td>"
    totals = "".join(f"<tr>{cell(student)}{cell(f'{got:g}')}{cell(of)}</tr>" for student, (got, of) in sums.items())
    rows = "".join(f"<tr>{cell(m.student)}{cell(m.exercise)}{cell(m.title)}{cell(f'{m.points:g}')}{cell(m.of)}{cell(m.said)}</tr>" for m in marks)
    head = lambda *names: "<tr>" + "".join(f'<th scope="col">{name}</th>' for name in names) + "</tr>"
    return (
        '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Marks</title>'
        "<style>body{font:16px/1.5 sans-serif;margin:2em}table{border-collapse:collapse}td,th{border:1px solid #888;padding:.3em .6em;text-align:left}"
        "td:last-child{white-space:pre-wrap}</style>"
        f"<h1>Marks</h1><table>{head('student', 'points', 'of')}{totals}</table>"
        f"<h2>By exercise</h2><table>{head('student', 'exercise', 'title', 'points', 'of', 'what the check said')}{rows}</table></html>\n"
    )


def main(arguments: list[str] | None = None) -> int:
    """The command line; gives the exit status: 1 if a notebook could not be marked."""
    parser = argparse.ArgumentParser(prog="python -m cmlcore.press.grade", description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="+", type=Path, help="students' notebooks, or folders of them")
    parser.add_argument("--seconds", type=int, default=SECONDS, help=f"for one cell (default: {SECONDS})")
    parser.add_argument("--whole", type=int, default=10 * SECONDS, help=f"seconds for one notebook (default: {10 * SECONDS})")
    parser.add_argument("--folder", type=Path, default=Path("."), help="where marks.csv and marks.html go (default: here)")
    asked = parser.parse_args(arguments)
    files = [file for given in asked.notebooks for file in (sorted(given.rglob("*.ipynb")) if given.is_dir() else [given])]
    marks, failed = [], 0
    for file in files:
        try:
            marks += (own := grade(file, asked.seconds, asked.whole))
            print(f"{file}: {sum(mark.points for mark in own):g} of {sum(mark.of for mark in own)} points", flush=True)
        except (ValueError, OSError, nbformat.reader.NotJSONError, nbformat.ValidationError) as error:
            failed += 1
            print(f"{file} was not marked: {error}", file=sys.stderr)
    asked.folder.mkdir(parents=True, exist_ok=True)
    with (asked.folder / "marks.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Mark._fields)
        writer.writerows(marks)
    (asked.folder / "marks.html").write_text(page(marks))
    print(f"{asked.folder / 'marks.csv'} and {asked.folder / 'marks.html'} hold {len(marks)} marks.")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
