"""The page for teachers: its drawing equals the references, it leaves out no chapter and no misconception, and every project's trial gives its numbers."""

import re

import nbformat
import pytest
from data_at_hand import missing_data

from cmlcore.press import teaching
from cmlcore.press.editions import numbered
from cmlcore.press.lesson import misconceptions, teachers_part
from cmlcore.press.notebooks import ROOT
from cmlcore.press.plain import references

PAGE = (ROOT / "book" / "teaching.md").read_text()
TRIED = r"^:::\{dropdown\} One short trial\n```python\n(.+?)^```\n\n```text\n(.+?)^```$"
PROJECTS = re.findall(rf"^### (.+?)\n\n\*Data: .+?```python\n(.+?)^```\n\n{TRIED}", PAGE, re.MULTILINE | re.DOTALL)
TITLES = {name: references().pages[name] for name in teaching.texts()}


def test_references_are_found_in_each_form():
    book = {
        "a": "# A\n\n$$ x $$ (a-one)\n",
        "b": "see {doc}`a`, [it](a.ipynb), {eq}`a-one` and *the first one*",
        "c": "nothing of {eq}`c-own`, but {doc}`b <b>`; later: {doc}`d`\n\n$$ y $$ (c-own)",
        "d": "**the first one**",
    }
    titles = {"a": "The first one", "b": "B", "c": "C", "d": "D"}
    assert teaching.mentions(book, titles) == {("b", "a"): 4, ("c", "b"): 1}


def test_the_drawing_and_its_table_have_an_arc_for_every_reference():
    found = teaching.mentions(teaching.texts(), TITLES)
    made = teaching.leans()
    arcs = [(float(low), float(high)) for low, high in re.findall(r'<path d="M\d+ ([\d.]+)C\S+ \S+ \S+ [\d.]+ \d+ ([\d.]+)"', made)]
    heights = {name: float(y) for y, name in re.findall(r'<text x="\d+" y="([\d.]+)">([^<]+)</text>', made)}
    of_height = {y - 5: name for name, y in heights.items()}
    assert sorted((of_height[high], of_height[low]) for low, high in arcs) == sorted((TITLES[name], TITLES[earlier]) for name, earlier in found)
    for name in TITLES:
        row = re.search(rf"^\| \{{doc\}}`{name}` \| (.+) \|$", made, re.MULTILINE).group(1)
        assert set(re.findall(r"\{doc\}`([\w-]+)`", row)) == {earlier for one, earlier in found if one == name}


def test_every_misconception_is_there():
    made = teaching.beliefs()
    for _, path in numbered():
        for belief, answer in misconceptions(teachers_part(nbformat.read(path, as_version=4))):
            assert f'* "{belief}": {answer}.' in made


def test_the_course_goes_through_the_whole_road_to_the_rule():
    course = PAGE.partition("## A course of six weeks")[2].partition("\n## ")[0]
    order = [path.stem for _, path in numbered()]
    road = {path.stem for _, path in numbered() if teachers_part(nbformat.read(path, as_version=4))} & set(order[: order.index("sine-waves") + 1])
    assert road - set(re.findall(r"\{doc\}`([\w-]+)`", course)) == {"complex-plane"}, "only this one is left to those who want more"


def test_there_are_projects_and_each_names_its_data():
    assert len(PROJECTS) == PAGE.partition("(projects)=")[2].count("\n### ") >= 5


NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


@pytest.mark.parametrize("name, lines, trial, told", PROJECTS, ids=[name for name, *_ in PROJECTS])
def test_the_first_lines_of_a_project_run_and_its_trial_says_what_the_page_says(name, lines, trial, told, capsys):
    """Word by word; the numbers within a seventh, or two hundredths, since other machines round otherwise."""
    if "omniglot" in lines and (why := missing_data(ROOT / "book" / "characters.ipynb")):
        pytest.skip(why)
    names = {}
    exec(compile(lines, name, "exec"), names)
    said = capsys.readouterr().out
    assert re.search(r"\d", said) and "nan" not in said
    exec(compile(trial, name, "exec"), names)
    said = capsys.readouterr().out
    assert NUMBER.sub("#", said) == NUMBER.sub("#", told)
    assert [*map(float, NUMBER.findall(said))] == pytest.approx([*map(float, NUMBER.findall(told))], rel=1 / 7, abs=0.02)
