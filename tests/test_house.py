"""The house: which rooms the package has, and that no import goes up the stairs or round in a circle."""

import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from cmlcore.press.notebooks import ROOT, imported, module_file

# From the ground up. A room may use what stands before it, and never what stands after it.
STAIRS = ("ground", "data", "models", "estimators", "theory", "speed", "bandits", "explore", "runs", "press")
FLOOR = {"bilevel", "solve", "estimate", "meta", "trees", "extras"}
FILES = sorted(path for path in (ROOT / "cmlcore").rglob("*.py") if path != ROOT / "cmlcore" / "__init__.py")


def room(path: Path) -> str:
    first, *rest = path.relative_to(ROOT / "cmlcore").parts
    return first if rest else "ground"


def uses(path: Path) -> set[Path]:
    """The files of the package that a file imports, wherever in it the import stands; its own package's list does not count."""
    inside = {name for name in imported(path.read_text()) if name.startswith("cmlcore.")}
    # `from cmlcore.data import archive` names the room, too, and means the module.
    found = {name: file for name in inside if (file := module_file(name))}
    rooms = {name for name in found if any(other.startswith(f"{name}.") for other in found)}
    return {file for name, file in found.items() if name not in rooms} - {path}


def test_every_module_has_a_room_and_every_room_says_what_is_in_it():
    assert {path.stem for path in FILES if room(path) == "ground"} == FLOOR
    assert {room(path) for path in FILES} == set(STAIRS) and len(STAIRS) <= 12
    for name in STAIRS[1:]:
        assert '"""' in (ROOT / "cmlcore" / name / "__init__.py").read_text(), name


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_imports_what_stands_above_it(path):
    above = {str(file.relative_to(ROOT)) for file in uses(path) if STAIRS.index(room(file)) > STAIRS.index(room(path))}
    assert above == set()


def test_no_circle_of_imports():
    tuple(TopologicalSorter({path: uses(path) for path in FILES}).static_order())


def test_the_picture_of_the_house_shows_these_rooms():
    picture = re.search(r"```text\n(.*?cmlcore/.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    drawn = re.findall(r"[│|] +(\w+)/", picture)
    assert drawn == [name for name in reversed(STAIRS) if name != "ground"]
    assert all(name in picture for name in FLOOR)
