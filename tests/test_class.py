"""Editions for a class, and the autograder, on a small book of one chapter with made-up answers; and the editions of the real book."""

import csv
import html
import itertools
import re

import nbformat
import pytest
from bs4 import BeautifulSoup
from markdown_it import MarkdownIt
from small_book import DOUBLE, chapter
from test_site_browser import require_accessible

from cmlcore.press import editions, examine, grade, notebooks
from cmlcore.press.exercises import EXERCISE, SOLUTION, TEACHER, answered, exercises, tagged
from cmlcore.press.plain import plain

MYST = re.compile(r"\{[\w:]+\}`|^:::|^\([\w-]+\)=$|\$\$ *\([\w-]+\)|\\tag\{\?\}", re.MULTILINE)


@pytest.fixture
def small_book(tmp_path, monkeypatch):
    """A repository with one chapter, `tiny`; gives a function that writes a student's notebook, with answers in place of stubs."""
    (tmp_path / "book").mkdir()
    nbformat.write(chapter(), tmp_path / "book" / "tiny.ipynb")
    monkeypatch.setattr(grade, "ROOT", tmp_path)
    (tmp_path / "class").mkdir()

    def student(name, *answers):
        nb = editions.edition(chapter(), "tiny", 1, teacher=False)
        for old, new in answers:
            assert sum(old in cell.source for cell in nb.cells) == 1
            for cell in nb.cells:
                cell.source = cell.source.replace(old, new)
        nbformat.write(nb, tmp_path / "class" / f"{name}.ipynb")
        return tmp_path / "class" / f"{name}.ipynb"

    return student


def points(file, **limits):
    return [mark.points for mark in grade.grade(file, **limits)]


def test_stubs_get_nothing_and_solutions_get_all(small_book):
    solved = small_book("b", ("my_sum = None\n", "my_sum = 3\n"), (DOUBLE, "def my_double(x):\n    return 2 * x"))
    assert points(small_book("a")) == [0, 0, 0]
    assert points(solved) == [1, 2, 0]


def test_half_an_answer_gets_half_and_a_wrong_one_its_diagnosis(small_book):
    file = small_book("a", ("my_sum = None\n", "my_sum = 4\n"), (DOUBLE, "def my_double(x):\n    return 2"))
    marks = grade.grade(file)
    assert [mark.points for mark in marks] == [0, 1, 0]
    assert marks[0].said == "not yet: count again"
    assert marks[2].said == "for discussion" and marks[2].of == 0


def test_a_check_that_was_changed_is_put_back(small_book):
    file = small_book("a", ("my_sum = None\n", "my_sum = 4\n"), ("if my_sum == three else", "if True else"))
    assert points(file)[0] == 0


@pytest.mark.parametrize(
    "harm, why",
    [
        ("while True: pass", "ran longer than 2 s"),
        ("while True: print('x' * 10_000)", "printed more than"),
        ("import os\nwhile True: os.write(1, b'x' * 1_000_000)", "wrote more than|ran longer"),
        ("import os\nos._exit(0)", "ended the whole process"),
        ("exit()", "SystemExit|NameError"),
        ("import socket\nsocket.create_connection(('192.0.2.1', 80))", "no network"),
        ("import subprocess\nsubprocess.run(['true'])", "no other programs"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_harm_is_stopped_and_what_comes_after_is_marked(small_book, harm, why):
    file = small_book("a", ("my_sum = None\n", f"{harm}\nmy_sum = 3\n"), (DOUBLE, "def my_double(x):\n    return 2 * x"))
    marks = grade.grade(file, seconds=2, whole=20)
    assert [mark.points for mark in marks] == [0, 2, 0]
    assert re.search(why, marks[0].said)


def test_a_class_becomes_a_table_and_a_page(small_book, tmp_path, capsys):
    small_book("first", ("my_sum = None\n", "my_sum = 3\n"))
    small_book("second <b>")
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "class" / "other.ipynb")
    assert grade.main([str(tmp_path / "class"), "--folder", str(tmp_path / "out")]) == 1
    assert "names no chapter" in capsys.readouterr().err
    rows = list(csv.DictReader((tmp_path / "out" / "marks.csv").open()))
    assert [(row["student"], row["exercise"], row["points"]) for row in rows][:2] == [("first", "tiny-1", "1.0"), ("first", "tiny-2", "0")]
    page = (tmp_path / "out" / "marks.html").read_text()
    assert "<td>first</td><td>1</td><td>3</td>" in page and "second &lt;b&gt;" in page


def test_local_addresses_are_allowed():
    examine.offline("socket.connect", (None, ("127.0.0.1", 80)))
    with pytest.raises(PermissionError):
        examine.offline("socket.connect", (None, ("192.0.2.1", 80)))


# ---- the editions of the book --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return editions.make(tmp_path_factory.mktemp("class"))


def test_there_are_two_of_every_chapter(made):
    assert {(file.parent.name, file.stem) for file in made} == {(kind, path.stem) for kind in ("student", "teacher") for path in notebooks.notebooks()}


def test_text_is_plain_markdown(made):
    for file in made:
        for cell in nbformat.read(file, as_version=4).cells:
            if cell.cell_type == "markdown":
                assert not (found := MYST.search(cell.source)), f"{file}: {found.group()} in {cell.source[:200]!r}"


def test_students_get_no_solutions_and_no_teachers_part(made):
    for file in made:
        text = file.read_text()
        secret = "<summary>Solution" in text or "For teachers" in text
        has_exercises = bool(exercises(nbformat.read(notebooks.ROOT / "book" / file.name, as_version=4), file.stem))
        assert secret == (file.parent.name == "teacher" and has_exercises), file
        nbformat.validate(nbformat.read(file, as_version=4))


def test_an_edition_runs_what_its_chapter_runs(made):
    """Its code is the chapter's, cell by cell, but for one comment above an exercise; so whoever executes the chapter has executed both editions."""
    for file in made:
        chapter = nbformat.read(notebooks.ROOT / "book" / file.name, as_version=4)
        cut = () if file.parent.name == "teacher" else (SOLUTION, TEACHER)
        kept = [cell for cell in chapter.cells if not any(tagged(cell, tag) for tag in cut)]
        mine = nbformat.read(file, as_version=4).cells
        assert [(cell.cell_type, cell.id) for cell in mine] == [(cell.cell_type, cell.id) for cell in kept]
        for cell, own in zip(mine, kept, strict=True):
            if cell.cell_type == "code":
                comment, _, rest = cell.source.partition("\n") if tagged(own, EXERCISE) else ("# Exercise ", "", cell.source)
                assert rest == own.source and comment.startswith("# Exercise ") and not cell.outputs, f"{file}: {cell.source[:200]}"
        assert all(cell.cell_type == "markdown" for cell in chapter.cells if tagged(cell, SOLUTION) or tagged(cell, TEACHER)), "no code is ever cut"


def test_a_chapter_of_the_book_is_marked(made, tmp_path):
    """The students' edition as it stands gets nothing, and with the book's solutions in place everything, within the limits that a class has."""
    as_it_stands = next(file for file in made if (file.parent.name, file.stem) == ("student", "bilevel"))
    book = exercises(nbformat.read(notebooks.ROOT / "book" / "bilevel.ipynb", as_version=4), "bilevel")
    solutions = {editions.mark(exercise): exercise.solution for exercise in book if exercise.stub}
    nb = nbformat.read(as_it_stands, as_version=4)
    for cell in nb.cells:
        if tagged(cell, EXERCISE):
            cell.source = answered(cell.source, solutions[cell.source.partition("\n")[0]])
    nbformat.write(nb, tmp_path / "solved.ipynb")
    assert points(tmp_path / "solved.ipynb") == [exercise.points if exercise.stub else 0 for exercise in book]
    marks = grade.grade(as_it_stands)
    assert [mark.points for mark in marks] == [0] * len(book)
    assert [mark.said for mark in marks] == ["Not answered yet." if exercise.stub else "for discussion" for exercise in book]


def shown(file):
    """The text of an edition as CommonMark with tables shows it, which JupyterLab and Colab do; code as a listing."""
    made = MarkdownIt("commonmark", {"html": True}).enable("table")
    parts = [
        made.render(re.sub(r"\$\$.*?\$\$", "(formula)", cell.source, flags=re.DOTALL))
        if cell.cell_type == "markdown"
        else f"<pre>{html.escape(cell.source)}</pre>"
        for cell in nbformat.read(file, as_version=4).cells
    ]
    return "\n".join(parts)


def test_what_an_edition_shows_is_in_order(made):
    """One title, no level of a heading left out, a head above every table, a summary on every fold, words for every image, no link without words."""
    for file in made:
        page = BeautifulSoup(shown(file), "html.parser")
        levels = [int(tag.name[1]) for tag in page.find_all(re.compile("^h[1-6]$"))]
        assert levels[0] == 1 and levels.count(1) == 1 and all(b <= a + 1 for a, b in itertools.pairwise(levels)), f"{file}: {levels}"
        assert all(any(cell.get_text().strip() for cell in table.find_all("th")) for table in page.find_all("table")), file
        assert all(fold.find("summary").get_text().strip() for fold in page.find_all("details")), file
        assert all(image.get("alt") for image in page.find_all("img")), file
        assert all(link.get_text().strip() for link in page.find_all("a")), file


@pytest.mark.browser
@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_everybody_can_read_an_edition(made, browser, tmp_path, kind):
    """axe on the text of one chapter, in a bare page. What stands around it is JupyterLab's or Colab's. A figure is not in it before it runs: then it
    is the page's own figure, with its sentence and its table, which the tests of the site judge."""
    file = next(file for file in made if (file.parent.name, file.stem) == (kind, "bilevel"))
    (tmp_path / "edition.html").write_text(
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Bilevel</title></head><body><main>{shown(file)}</main></body></html>'
    )
    page = browser.new_page()
    page.goto((tmp_path / "edition.html").as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
    page.add_style_tag(content="pre { white-space: pre-wrap }")
    require_accessible(page, f"{kind}, bilevel", {})
    page.close()


@pytest.mark.parametrize(
    "myst, markdown",
    [
        ("(here)=\n# Title", "# Title"),
        ("See {doc}`the rule <contrastive-rule>`.", "See [the rule](contrastive-rule.ipynb)."),
        ("A [fast weight](sym-phi).", "A fast weight."),
        ("{cite:t}`zucchet2022` and {cite:p}`finn2017`", "Zucchet et al. (2022) and (Finn et al. 2017)"),
        (":::{dropdown} Hint\nThink.\n:::", "<details><summary>Hint</summary>\n\nThink.\n\n</details>"),
    ],
)
def test_what_myst_becomes(myst, markdown):
    assert plain(myst) == markdown
