"""The exercises of a chapter, found by the tags of their cells; of this book.

A chapter's last part holds, for each exercise, a heading `### Level: title (n minutes)`, a code cell tagged `exercise` unless
the exercise is one for discussion, a cell tagged `hint` and a cell tagged `solution`; then one cell tagged `teacher`. In an
exercise's cell the reader's part are the statements that bind names `my_...`; everything else is the check, which prints
"Not answered yet.", or lines that say "right" or "not yet". A solution's Python binds the same names.
"""

import ast
import contextlib
import io
import re
from typing import NamedTuple

EXERCISE, HINT, SOLUTION, TEACHER = "exercise", "hint", "solution", "teacher"
HEADING = re.compile(r"^### (Warm-up|Core|Stretch): (.+) \((\d+) minutes\)$", re.MULTILINE)
POINTS = {"Warm-up": 1, "Core": 2, "Stretch": 3}
DROPDOWN = re.compile(r"^:::\{dropdown\} (.*?)\n(.*?)\n:::$", re.MULTILINE | re.DOTALL)
PYTHON = re.compile(r"^```python\n(.*?)\n```$", re.MULTILINE | re.DOTALL)


class Exercise(NamedTuple):
    """One exercise.

    name:     chapter and number, "bilevel-2".
    level:    "Warm-up", "Core" or "Stretch"; minutes, points: whole numbers.
    stub:     the code cell as the book has it, "" where the exercise is for discussion.
    solution: Python that binds the reader's names, "" where the solution is words.
    """

    name: str
    title: str
    level: str
    minutes: int
    points: int
    stub: str
    solution: str


def tagged(cell, tag: str) -> bool:
    """Whether the notebook's cell has the tag."""
    return tag in cell.metadata.get("tags", [])


def exercises(nb, chapter: str) -> list[Exercise]:
    """The exercises of a notebook, in their order.

    Raises ValueError where a tagged cell comes before the first heading of an exercise, or a heading gets two stubs.
    """
    found = []
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            for level, title, minutes in HEADING.findall(cell.source):
                found.append(Exercise(f"{chapter}-{len(found) + 1}", title, level, int(minutes), POINTS[level], "", ""))
        if not (tagged(cell, EXERCISE) or tagged(cell, SOLUTION)):
            continue
        if not found:
            raise ValueError(f"{chapter}: a cell tagged {EXERCISE!r} or {SOLUTION!r} has no heading '### Level: title (n minutes)' above it.")
        if tagged(cell, EXERCISE):
            if found[-1].stub:
                raise ValueError(f"{found[-1].name} has two cells tagged {EXERCISE!r}; give the second a heading of its own.")
            found[-1] = found[-1]._replace(stub=cell.source)
        else:
            found[-1] = found[-1]._replace(solution="\n".join(PYTHON.findall(cell.source)))
    return found


def answers(source: str) -> list[ast.stmt]:
    """The top-level statements of a code cell that bind a name `my_...`: the reader's part."""
    return [node for node in ast.parse(source).body if any(name.startswith("my_") for name in bound(node))]


def bound(node: ast.stmt) -> set[str]:
    """The names that one statement binds at its own level: a function's, or those on the left of an assignment."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {part.id for target in targets if target is not None for part in ast.walk(target) if isinstance(part, ast.Name)}


def answered(stub: str, answer: str) -> str:
    """The stub with the reader's part replaced by `answer`, Python; where the stub's first answer stood.

    Raises ValueError for a stub without a name `my_...`.
    """
    nodes = answers(stub)
    if not nodes:
        raise ValueError("the cell binds no name that begins with my_, so nothing says which part of it is the reader's.")
    lines = stub.splitlines()
    for number, node in reversed(list(enumerate(nodes))):
        lines[node.lineno - 1 : node.end_lineno] = answer.splitlines() if number == 0 else []
    return "\n".join(lines)


def check(stub: str) -> str:
    """The stub without the reader's part: what judges the names that are bound by then."""
    return answered(stub, "")


class Verdict(NamedTuple):
    """What a check's printed lines say: how many are right, of how many; of none where nothing was answered."""

    right: int
    of: int


def verdict(printed: str) -> Verdict:
    """Count the lines that say "right" and "not yet"; `(0, 0)` where the check says "Not answered yet." or nothing of the kind."""
    lines = printed.splitlines()
    wrong = sum("not yet" in line for line in lines)
    right = sum("right" in line and "not yet" not in line for line in lines)
    return Verdict(0, 0) if "Not answered yet." in lines else Verdict(right, right + wrong)


class marking(contextlib.redirect_stdout):
    """`with marking(2) as mark: ...` runs a check, shows what it prints, and leaves its share of the points in `mark.points`."""

    def __init__(self, points: int):
        super().__init__(io.StringIO())
        self.of, self.points = points, 0.0

    def __enter__(self):
        super().__enter__()
        return self

    def __exit__(self, *error):
        said = self._new_target.getvalue()
        super().__exit__(*error)
        print(said, end="")
        right, of = verdict(said)
        self.points = round(self.of * right / of, 2) if of and error[0] is None else 0.0


def parted(nb):
    """A copy in which every hint, solution and teachers' part is a cell of its own, tagged, and so is every exercise's code.

    For a chapter that was written in longer cells: what a reader sees stays the same.
    """
    cells, inside = [], False
    for cell in nb.cells:
        inside = inside or (cell.cell_type == "markdown" and re.search(r"^## Exercises$", cell.source, re.MULTILINE) is not None)
        if inside and cell.cell_type == "code" and "Not answered yet." in cell.source:
            cells.append(with_tag(cell, EXERCISE))
        elif inside and cell.cell_type == "markdown":
            cells += _parts(cell)
        else:
            cells.append(cell)
    return type(nb)(nb | {"cells": cells})


def with_tag(cell, tag: str):
    """A copy of the cell with one tag more."""
    tags = cell.metadata.get("tags", [])
    return type(cell)(cell | {"metadata": type(cell)(cell.metadata | {"tags": tags if tag in tags else [*tags, tag]})})


def _parts(cell) -> list:
    """A Markdown cell, taken apart at its dropdowns."""
    pieces, last = [], 0
    for found in DROPDOWN.finditer(cell.source):
        first = found.group(1).split()[0].strip(":")
        tag = {"Hint": HINT, "Solution": SOLUTION}.get(first, TEACHER if found.group(1).startswith("For teachers") else None)
        if tag:
            pieces += [(cell.source[last : found.start()], None), (found.group(0), tag)]
            last = found.end()
    pieces.append((cell.source[last:], None))
    pieces = [(text.strip("\n"), tag) for text, tag in pieces if text.strip()]
    made = [type(cell)(cell | {"source": text, "id": cell.id if k == 0 else f"{cell.id}-{k}"}) for k, (text, _) in enumerate(pieces)]
    return [with_tag(part, tag) if tag else part for part, (_, tag) in zip(made, pieces)]
