"""Notebooks for a class: `python -m cmlcore.press.editions` writes `_build/class/student` and `_build/class/teacher`.

Both are generated from the book's notebooks, as they are, by the tags of their cells. They open on Colab and in JupyterLab: text is
plain Markdown, code that only draws is folded, nothing is executed yet. A student's notebook has no solutions and no teachers'
parts. Marks come from `cmlcore.press.grade`, which finds an exercise by the first line of its cell.
"""

import argparse
import shutil
import sys
from pathlib import Path

import nbformat

from cmlcore.press.exercises import EXERCISE, SOLUTION, TEACHER, Exercise, exercises, tagged
from cmlcore.press.notebooks import ROOT, write
from cmlcore.press.plain import chapters, plain

FOLDED = ("hide-input", "remove-input", "remove-cell")
MARK = "# Exercise {name} ({points}): write where it says my_...; what follows is the check."


def mark(exercise: Exercise) -> str:
    """The first line of an exercise's cell in an edition; it survives what Colab does to a notebook's metadata."""
    return MARK.format(name=exercise.name, points=f"{exercise.points} point{'s' * (exercise.points > 1)}")


def edition(nb, chapter: str, number: int, teacher: bool):
    """A notebook for a class: for students without what is tagged as solution or for teachers, for teachers with all of it."""
    stubs = {exercise.stub: exercise for exercise in exercises(nb, chapter) if exercise.stub}
    cells = []
    for cell in nb.cells:
        if not teacher and (tagged(cell, SOLUTION) or tagged(cell, TEACHER)):
            continue
        if cell.cell_type == "markdown":
            cells.append(nbformat.v4.new_markdown_cell(plain(cell.source, number), id=cell.id))
            continue
        new = nbformat.v4.new_code_cell(cell.source, id=cell.id)
        if tagged(cell, EXERCISE):
            new.source = f"{mark(stubs[cell.source])}\n{cell.source}"
            new.metadata = {"tags": [EXERCISE]}
        elif any(tagged(cell, tag) for tag in FOLDED):
            new.metadata = {"cellView": "form", "jupyter": {"source_hidden": True}}
        cells.append(new)
    metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}, "cmlcore": {"chapter": chapter}}
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def numbered() -> list[tuple[int, Path]]:
    """The book's notebooks with their chapters' numbers (0 where a page has none), in the order of the table of contents."""
    return [(number, file) for number, file in chapters() if file.suffix == ".ipynb"]


def make(folder: Path) -> list[Path]:
    """Write both editions of every chapter under `folder`, which is emptied first; gives the files."""
    shutil.rmtree(folder, ignore_errors=True)
    files = []
    for number, source in numbered():
        nb = nbformat.read(source, as_version=4)
        for kind in ("student", "teacher"):
            file = folder / kind / source.name
            file.parent.mkdir(parents=True, exist_ok=True)
            write(edition(nb, source.stem, number, teacher=kind == "teacher"), file)
            files.append(file)
    return files


def main(arguments: list[str] | None = None) -> int:
    """The command line; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m cmlcore.press.editions", description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "_build" / "class", help="where to (default: _build/class)")
    folder = parser.parse_args(arguments).folder
    files = make(folder)
    print(f"{len(files)} notebooks in {folder}: student/ without solutions, teacher/ with all of it.", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
