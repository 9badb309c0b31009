"""The exercises in the form of nbgrader: `python -m cmlcore.press.nbgrader` writes a course into `_build/class/nbgrader`.

An assignment a chapter, under `source`. Of nbgrader's conventions, an exercise becomes up to three cells: what the check prepares
(locked), the answer (`### BEGIN SOLUTION`, cut by nbgrader; the stub above it stays), and the check (graded, locked). The last line of a
check's cell is a number, which nbgrader takes as partial credit: the same marks as `cmlcore.press.grade` gives. An exercise for
discussion is an answer in words, marked by hand. Otter-grader's conventions do not fit as well: its tests pass or fail, and a check
of this book has several lines, each with its share.
"""

import argparse
import ast
import shutil
import sys
import textwrap
from pathlib import Path

import nbformat

from cmlcore.press.editions import edition, numbered
from cmlcore.press.exercises import EXERCISE, HEADING, Exercise, answers, exercises, tagged
from cmlcore.press.notebooks import ROOT, write

SETTINGS = '''"""Settings of the course: `nbgrader generate_assignment bilevel`, `nbgrader autograde bilevel`."""

c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "the-contrastive-rule"
c.ClearSolutions.code_stub = {"python": "# Change what stands above, or write on here."}
c.ClearSolutions.text_stub = "*Your answer, in words.*"
c.ExecutePreprocessor.timeout = 600  # seconds for one cell; one that goes on is stopped, and earns nothing
c.IncludeHeaderFooter.header = ""
'''


def parts(stub: str) -> tuple[str, str, str]:
    """An exercise's code, taken apart: what comes before the reader's statements, those statements, and the rest.

    Raises ValueError unless the statements that bind names `my_...` stand together, with no other between them.
    """
    nodes = answers(stub)
    lines = stub.splitlines()
    first, last = (nodes[0].lineno - 1, nodes[-1].end_lineno) if nodes else (0, 0)
    if not nodes or len(ast.parse("\n".join(lines[first:last])).body) != len(nodes):
        raise ValueError(f"the reader's statements, which bind names my_..., stand together in an exercise; here are {len(nodes)}, which do not.")
    return tuple("\n".join(part).strip("\n") for part in (lines[:first], lines[first:last], lines[last:]))


def cells(exercise: Exercise) -> list:
    """The exercise as nbgrader's cells."""
    if not exercise.stub:
        return [_cell("### BEGIN SOLUTION\n*By hand.*\n### END SOLUTION", exercise, "answer", words=True, solution=True, grade=True, points=exercise.points)]
    before, own, rest = parts(exercise.stub)
    check = textwrap.indent(rest, "    ")
    if ast.dump(ast.parse(textwrap.dedent(check))) != ast.dump(ast.parse(rest)):
        raise ValueError(f"{exercise.name}: its check has a text of several lines, which cannot be indented.")
    answer = f"{own}\n### BEGIN SOLUTION\n{exercise.solution}\n### END SOLUTION"
    graded = f"from cmlcore.press.exercises import marking\n\nwith marking({exercise.points}) as mark:\n{check}\nmark.points"
    setup = [_cell(before, exercise, "setup", locked=True)] if before else []
    return [*setup, _cell(answer, exercise, "answer", solution=True), _cell(graded, exercise, "check", grade=True, locked=True, points=exercise.points)]


def _cell(source: str, exercise: Exercise, part: str, words: bool = False, **says):
    new = nbformat.v4.new_markdown_cell if words else nbformat.v4.new_code_cell
    about = {"grade": False, "solution": False, "locked": False, "task": False, "schema_version": 3, "grade_id": f"{exercise.name}-{part}"} | says
    return new(source, id=f"{exercise.name}-{part}"[-64:], metadata={"nbgrader": about})


def assignment(nb, chapter: str, number: int):
    """The chapter as an instructor's notebook of nbgrader: the students' edition, its exercises with solutions for nbgrader to cut."""
    found = exercises(nb, chapter)
    made, stubs = [], {exercise.stub: exercise for exercise in found if exercise.stub}
    for cell, own in zip(edition(nb, chapter, number, teacher=False).cells, _students(nb), strict=True):
        made += cells(stubs[own.source]) if tagged(own, EXERCISE) else [cell]
        titles = {title for _, title, _ in HEADING.findall(own.source)} if own.cell_type == "markdown" else ()
        made += [cell for exercise in found if exercise.title in titles and not exercise.stub for cell in cells(exercise)]
    return nbformat.v4.new_notebook(cells=made, metadata={"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}})


def _students(nb) -> list:
    return [cell for cell in nb.cells if not (tagged(cell, "solution") or tagged(cell, "teacher"))]


def make(folder: Path) -> list[Path]:
    """Write the course into `folder`, which is emptied first: settings, and `source/chapter/chapter.ipynb`; gives the notebooks."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "nbgrader_config.py").write_text(SETTINGS)
    files = []
    for number, source in numbered():
        nb = nbformat.read(source, as_version=4)
        if exercises(nb, source.stem):
            files.append(folder / "source" / source.stem / source.name)
            files[-1].parent.mkdir(parents=True)
            write(assignment(nb, source.stem, number), files[-1])
    return files


def main(arguments: list[str] | None = None) -> int:
    """The command line; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m cmlcore.press.nbgrader", description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "_build" / "class" / "nbgrader", help="where to (default: _build/class/nbgrader)")
    folder = parser.parse_args(arguments).folder
    print(f"{len(make(folder))} assignments in {folder}: there, `nbgrader generate_assignment CHAPTER`.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
