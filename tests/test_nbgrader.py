"""The exercises in nbgrader's form: what its cells say, and the round trip with nbgrader itself, where it is installed."""

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from small_book import DOUBLE, chapter

from cmlcore.press import nbgrader, notebooks
from cmlcore.press.exercises import exercises, marking, verdict

TOOL = importlib.util.find_spec("nbgrader")
NO_TOOL = "nbgrader is not installed here: `make class-check` does that, in an environment of its own"
FOUND = {path: exercises(nbformat.read(path, as_version=4), path.stem) for path in notebooks.notebooks()}


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    return {file.stem: nbformat.read(file, as_version=4) for file in nbgrader.make(tmp_path_factory.mktemp("course") / "nbgrader")}


def about(nb):
    """What nbgrader is told, by the id of the cell."""
    return {cell.metadata.nbgrader.grade_id: (cell.metadata.nbgrader, cell.source) for cell in nb.cells if "nbgrader" in cell.metadata}


def test_every_chapter_with_exercises_is_an_assignment(course):
    assert set(course) == {path.stem for path, found in FOUND.items() if found}


def test_points_and_parts_are_those_of_the_book(course):
    for path, found in FOUND.items():
        for exercise in found:
            told = about(course[path.stem])
            graded = f"{exercise.name}-{'check' if exercise.stub else 'answer'}"
            assert told[graded][0].points == exercise.points and told[graded][0].grade
            answer, source = told[f"{exercise.name}-answer"]
            assert answer.solution and not answer.locked and source.count("### BEGIN SOLUTION") == source.count("### END SOLUTION") == 1
            if exercise.stub:
                before = told.get(f"{exercise.name}-setup", (None, ""))[1]
                check = ast.parse(told[graded][1]).body[1].body
                whole = ast.parse(before).body + ast.parse(source.partition("### BEGIN")[0]).body + check
                assert [ast.dump(node) for node in whole] == [ast.dump(node) for node in ast.parse(exercise.stub).body]


def test_nothing_of_a_solution_stands_outside_what_is_cut(course):
    for name, nb in course.items():
        outside = " ".join(cell.source.partition("### BEGIN SOLUTION")[0] for cell in nb.cells)
        assert "<summary>Solution" not in outside and "For teachers" not in outside, name
        assert not any(e.solution and e.solution in outside for e in exercises(nbformat.read(notebooks.ROOT / "book" / f"{name}.ipynb", as_version=4), name))


def test_a_check_of_two_lines_gives_half_the_points(capsys):
    with marking(3) as mark:
        print("a: right")
        print("b: not yet")
    assert mark.points == 1.5 and verdict(capsys.readouterr().out) == (1, 2)


def test_a_check_that_fails_gives_nothing():
    with pytest.raises(ZeroDivisionError), marking(3) as mark:
        print("a: right")
        1 / 0
    assert mark.points == 0


def test_two_answers_may_stand_together_and_not_apart():
    assert nbgrader.parts("x = 1\nmy_a = None  # of x\nmy_b = None\n\nprint(my_a)") == ("x = 1", "my_a = None  # of x\nmy_b = None", "print(my_a)")
    with pytest.raises(ValueError, match="here are 2, which do not"):
        nbgrader.parts("my_a = None\nx = 1\nmy_b = None")
    with pytest.raises(ValueError, match="here are 0"):
        nbgrader.parts("x = 1")


# ---- the round trip -------------------------------------------------------------------------------------------------------

TWICE = "def my_double(x):\n    return 2 * x"
ANSWERS = {
    "nothing": [],
    "everything": [("my_sum = None\n", "my_sum = 3\n"), (DOUBLE, TWICE)],
    "half": [("my_sum = None\n", "my_sum = 4\n"), (DOUBLE, "def my_double(x):\n    return 2")],
    "cheat": [("my_sum = None\n", "my_sum = 4\n"), ('"right" if my_sum == three', '"right" if True')],
    "loops": [("my_sum = None\n", "while True: pass\n"), (DOUBLE, TWICE)],
}
EXPECTED = {"nothing": [0, 0], "everything": [1, 2], "half": [0, 1], "cheat": [0, 0], "loops": [0, 2]}


def tool(course, *arguments):
    """Run nbgrader in the folder of a course; its own helpers (alembic) stand beside it."""
    beside = [Path(TOOL.origin).parents[1] / "bin", Path(sys.executable).parent]
    environment = os.environ | {"PATH": os.pathsep.join([*map(str, beside), os.environ["PATH"]])}
    done = subprocess.run([sys.executable, "-m", "nbgrader", *arguments], cwd=course, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def autograded(course, name, assignment, answers):
    """What nbgrader gives to a class: student -> cell -> (points, of). answers: student -> texts of what was released, and what they put there."""
    (course / "nbgrader_config.py").write_text(nbgrader.SETTINGS)
    (course / "source" / name).mkdir(parents=True)
    nbformat.write(assignment, course / "source" / name / f"{name}.ipynb")
    tool(course, "generate_assignment", name)
    released = course / "release" / name / f"{name}.ipynb"
    assert "SOLUTION" not in released.read_text()
    for student, changes in answers.items():
        handed_in = course / "submitted" / student / name / f"{name}.ipynb"
        handed_in.parent.mkdir(parents=True)
        nb = nbformat.read(released, as_version=4)
        for old, new in changes:
            assert sum(old in cell.source for cell in nb.cells) == 1, old
            for cell in nb.cells:
                cell.source = cell.source.replace(old, new)
        nbformat.write(nb, handed_in)
    tool(course, "autograde", name, f"--ExecutePreprocessor.timeout={20 if name == 'tiny' else 120}")

    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        return {
            student: {grade.name: (grade.auto_score, grade.max_score) for grade in book.find_submission_notebook(name, name, student).grades}
            for student in answers
        }


@pytest.mark.skipif(TOOL is None, reason=NO_TOOL)
def test_a_class_goes_through_nbgrader(tmp_path):
    grades = autograded(tmp_path, "tiny", nbgrader.assignment(chapter(), "tiny", 1), ANSWERS)
    assert "Secret" not in (tmp_path / "release" / "tiny" / "tiny.ipynb").read_text()
    for student, expected in EXPECTED.items():
        assert [grades[student][f"tiny-{k}-check"][0] for k in (1, 2)] == expected, student
        points, of = grades[student]["tiny-3-answer"]
        assert of == 3 and points in (None, 0)


@pytest.mark.skipif(TOOL is None, reason=NO_TOOL)
def test_a_chapter_of_the_book_goes_through_nbgrader(tmp_path, course):
    """What the book solves gets all points, and what it leaves to the reader none."""
    found = FOUND[next(path for path in FOUND if path.stem == "bilevel")]
    checked = [exercise for exercise in found if exercise.stub]
    solved = [(nbgrader.parts(exercise.stub)[1], exercise.solution) for exercise in checked]
    grades = autograded(tmp_path, "bilevel", course["bilevel"], {"nothing": [], "everything": solved})
    assert [grades["everything"][f"{exercise.name}-check"] for exercise in checked] == [(exercise.points, exercise.points) for exercise in checked]
    assert [grades["nothing"][f"{exercise.name}-check"] for exercise in checked] == [(0, exercise.points) for exercise in checked]
