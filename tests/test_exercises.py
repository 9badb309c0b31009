"""Exercises: every stub is told that it is not answered, every solution passes its own check, in the place where a reader would write it."""

import ast

import nbformat
import pytest
from data_at_hand import missing_data
from slicing import needed

from cmlcore.press import notebooks
from cmlcore.press.exercises import EXERCISE, HEADING, HINT, SOLUTION, TEACHER, answered, answers, check, exercises, parted, tagged, verdict
from cmlcore.press.grade import examined
from cmlcore.press.notebooks import code_of

FOUND = {path: exercises(nbformat.read(path, as_version=4), path.stem) for path in notebooks.notebooks()}
WITH = [path for path, found in FOUND.items() if found]


def plan(path):
    """A chapter's statements that its exercises need, then each exercise as it stands and with its solution in place."""
    nb = nbformat.read(path, as_version=4)
    code = code_of(nb)
    own = {number: cell.source for number, cell in enumerate(c for c in nb.cells if c.cell_type == "code") if tagged(cell, EXERCISE)}
    stubs = {exercise.stub: exercise for exercise in FOUND[path] if exercise.stub}
    solved = [exercise.solution + "\n" + check(exercise.stub) for exercise in stubs.values()]
    wanted = needed([*code, "\n".join(solved)], {*own, len(code)})
    cells, before = [], []
    for number, node in wanted:
        if number not in own and number != len(code):
            before.append(ast.unparse(node))
        elif number in own and (not cells or cells[-1][0] != number):
            cells += [(number, "\n".join(before))]
            before = []
    steps = []
    for number, setup in cells:
        exercise = stubs[own[number]]
        steps.append({"name": f"before {exercise.name}", "source": setup, "check": ""})
        steps.append({"name": f"{exercise.name} as it stands", "source": exercise.stub, "check": ""})
        steps.append({"name": f"{exercise.name} solved", "source": answered(exercise.stub, exercise.solution), "check": ""})
    return steps


# What a chapter changes for the whole process, it finds as a fresh one has it.
FRESH = "import jax\nimport jax.numpy as jnp\n\njax.config.update('jax_enable_x64', False)\njnp.set_printoptions(precision=8)"


@pytest.fixture(scope="module")
def ended(request):
    """What came of the chosen chapters' exercises, one chapter after the other in one process: JAX and what it has compiled are shared."""
    chosen = [item.callspec.params["path"] for item in request.session.items if "ended" in getattr(item, "fixturenames", ())]
    chosen = [path for path in WITH if path in chosen and not missing_data(path)]
    cells = [cell for path in chosen for cell in [{"name": f"{path.stem} begins", "source": FRESH, "check": "", "fresh": True}, *plan(path)]]
    return examined(cells, seconds=500, whole=900 * max(1, len(chosen)))


@pytest.mark.parametrize("path", WITH, ids=lambda path: path.stem)
def test_stubs_are_unanswered_and_solutions_are_right(path, ended):
    if why := missing_data(path):
        pytest.skip(why)
    for exercise in FOUND[path]:
        if not exercise.stub:
            continue
        assert not ended[f"before {exercise.name}"]["why"], ended[f"before {exercise.name}"]
        stub, solved = ended[f"{exercise.name} as it stands"], ended[f"{exercise.name} solved"]
        assert stub["printed"].splitlines() == ["Not answered yet."], f"{exercise.name}, unanswered, says {stub}"
        right, of = verdict(solved["printed"])
        assert right == of > 0, f"{exercise.name}, solved, says {solved}"


@pytest.mark.parametrize("path", WITH, ids=lambda path: path.stem)
def test_exercises_are_marked_by_their_cells(path):
    nb = nbformat.read(path, as_version=4)
    assert notebooks.tidy(parted(nb)) == nb, "a hint, a solution, a teachers' part or an exercise has no cell of its own: part it and tag it"
    assert sum(tagged(cell, TEACHER) for cell in nb.cells) == 1
    assert [exercise.level for exercise in FOUND[path]] == ["Warm-up", "Core", "Stretch"]
    for exercise in FOUND[path]:
        assert not exercise.stub or (exercise.solution and answers(exercise.stub)), f"{exercise.name} has a check and no solution in Python"
    hints, solutions = (sum(tagged(cell, tag) for cell in nb.cells) for tag in (HINT, SOLUTION))
    assert hints == solutions == len(FOUND[path])


# ---- how an exercise is read ---------------------------------------------------------------------------------------------

STUB = "import math\nmy_a, my_b = None, None\n\nif None in (my_a, my_b):\n    print('Not answered yet.')\nelse:\n    print('right' if my_a + my_b == 3 else 'not yet')"


def test_an_answer_takes_the_place_of_the_stub():
    assert answered(STUB, "my_a = 1\nmy_b = 2").splitlines()[:4] == ["import math", "my_a = 1", "my_b = 2", ""]


def test_a_check_has_nothing_of_the_readers():
    assert "my_a, my_b = None" not in check(STUB) and "my_a + my_b == 3" in check(STUB)


def test_a_cell_without_an_answer_is_refused():
    with pytest.raises(ValueError, match="begins with my_"):
        answered("print('right')", "x = 1")


@pytest.mark.parametrize(
    "printed, expected",
    [
        ("Not answered yet.\n", (0, 0)),
        ("", (0, 0)),
        ("right\n", (1, 1)),
        ("a right\nb not yet\n", (1, 2)),
        ("not yet: nearly right\n", (0, 1)),
        ("first-order 0.99\nright\n", (1, 1)),
    ],
)
def test_what_a_check_says(printed, expected):
    assert verdict(printed) == expected


def test_a_long_cell_is_parted_at_its_dropdowns():
    text = "Words.\n\n:::{dropdown} Hint\nThink.\n:::\n\n:::{dropdown} Solution\n```python\nmy_a = 1\n```\n:::\n\n### Core: next (5 minutes)\n\nMore."
    before = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("## Exercises\n\n### Warm-up: one (5 minutes)", id="a"), nbformat.v4.new_markdown_cell(text, id="b")]
    )
    after = parted(before)
    assert [cell.metadata.get("tags") for cell in after.cells] == [None, None, [HINT], [SOLUTION], None]
    assert "\n\n".join(cell.source for cell in after.cells[1:]) == text
    assert len({cell.id for cell in after.cells}) == len(after.cells)
    assert HEADING.findall(after.cells[-1].source) == [("Core", "next", "5")]
    assert parted(after) == after
