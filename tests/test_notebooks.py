"""The notebooks are committed as they would be executed now, and what watches over that can fail."""

import subprocess
import sys

import nbformat
import pytest

from cmlcore.press import notebooks
from cmlcore.press.notebooks import ROOT

PATHS = notebooks.notebooks()
every_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


# ---- the book's notebooks -------------------------------------------------------------------------------------------


@every_notebook
def test_is_up_to_date(path):
    assert notebooks.changes(read(path)) == [], "run `make notebooks`"


@every_notebook
def test_is_tidy(path):
    assert notebooks.tidy(read(path)) == read(path), "run `make notebooks`: it tidies, and executes only what changed"


@every_notebook
def test_outputs_are_clean(path):
    notebooks.require_clean(read(path), path.name)


@every_notebook
def test_has_a_checked_cell_that_prints(path):
    checked = [cell for cell in read(path).cells if notebooks.CHECK_TAG in cell.metadata.get("tags", [])]
    assert any(cell.outputs for cell in checked), f"tag a cell that prints a checked number with {notebooks.CHECK_TAG}"


# ---- what a stamp covers --------------------------------------------------------------------------------------------


def notebook(*sources):
    return notebooks.tidy(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources]))


def names(*sources):
    return {str(file.relative_to(ROOT)) for file in notebooks.reached(sources)}


def test_imports_are_followed_through_the_package():
    reached = names("from cmlcore.estimators import contrastive")
    assert {"cmlcore/__init__.py", "cmlcore/estimators/contrastive.py", "cmlcore/bilevel.py", "cmlcore/estimate.py"} <= reached
    assert "cmlcore/estimators/implicit.py" not in reached
    assert names("import jax") == set()


@pytest.mark.parametrize(
    "source, package, expected",
    [
        ("import a.b as c", "", {"a", "a.b"}),
        ("from a import b", "", {"a", "a.b"}),
        ("from . import c", "a.b", {"a", "a.b", "a.b.c"}),
        ("from ..x import y", "a.b", {"a", "a.x", "a.x.y"}),
        ("def f():\n    import late", "", {"late"}),
        ("import cmlcore\n\nrule = cmlcore.matched(1, 2, 3)", "", {"cmlcore", "cmlcore.estimators", "cmlcore.estimators.contrastive"}),
    ],
)
def test_imported_names(source, package, expected):
    assert notebooks.imported(source, package) == expected


def test_magics_are_no_obstacle():
    assert "cmlcore/solve.py" in names(*notebooks.code_of(notebook("%pwd\nimport cmlcore.solve")))


@pytest.fixture(scope="module")
def executed():
    return notebooks.execute(notebook("from cmlcore import trees", "print(6 * 7)"), ROOT / "book")


def test_an_executed_notebook_is_up_to_date(executed):
    assert notebooks.changes(executed) == []
    assert notebooks.stamp(executed).keys() == {"code", "outputs", "cmlcore/__init__.py", "cmlcore/trees.py"}


def test_changed_code_is_noticed(executed):
    changed = notebooks.tidy(executed)
    changed.cells[-1].source = "print(6 * 9)"
    assert notebooks.changes(changed) == ["code"]


def test_a_changed_output_is_noticed(executed):
    changed = notebooks.tidy(executed)
    changed.cells[-1].outputs[0]["text"] = "54\n"
    assert notebooks.changes(changed) == ["outputs"]


def test_prose_executes_nothing(executed):
    changed = notebooks.tidy(executed)
    changed.cells.insert(1, nbformat.v4.new_markdown_cell("A better sentence."))
    assert notebooks.changes(changed) == []


def test_a_changed_module_is_noticed(executed, monkeypatch):
    meaning = notebooks.meaning
    monkeypatch.setattr(notebooks, "meaning", lambda file: b"changed" if file.name == "trees.py" else meaning(file))
    assert notebooks.changes(executed) == ["cmlcore/trees.py"]


@pytest.mark.parametrize(
    "edited, same",
    [
        ('"""New words."""\ndef f(x):\n    """More words."""\n    return x + 1  # why', True),
        ("def f(x):\n    return x + 2", False),
        ("def f(x, y=None):\n    return x + 1", False),
        ("def f(x):\n    return -x + 1", False),
    ],
)
def test_comments_and_docstrings_of_a_module_are_free(tmp_path, edited, same):
    before, after = tmp_path / "before.py", tmp_path / "after.py"
    before.write_text("def f(x):\n    return x + 1\n")
    after.write_text(edited)
    assert (notebooks.meaning(before) == notebooks.meaning(after)) == same


def test_a_named_receipt_is_covered(tmp_path, monkeypatch):
    (tmp_path / "sine.json").write_text("{}")
    (tmp_path / "other.json").write_text("{}")
    monkeypatch.setattr(notebooks, "RECEIPTS", tmp_path)
    assert notebooks.receipts_named(['receipts.read("sine")']) == {tmp_path / "sine.json"}


RUNS = "from cmlcore.runs.catalog import find, CATALOG as EVERY\n"


def changed(monkeypatch, **fields):
    """The catalog with other words or numbers on `sine-maml`."""
    from cmlcore.runs import catalog

    other = tuple(e._replace(**fields) if e.name == "sine-maml" else e for e in catalog.CATALOG)
    monkeypatch.setattr(catalog, "CATALOG", other)


@pytest.mark.parametrize("fields", [{"figure": None}, {"cost": (1440, None, None)}, {"about": "Other words."}, {"revision": 2}, {"seeds": (0,)}])
def test_a_changed_experiment_is_noticed_where_it_is_named(monkeypatch, fields):
    source = RUNS.replace(", CATALOG as EVERY", "") + 'find("sine-maml"), find("sine-scratch")'
    before = notebooks.experiments_named([source])
    assert before.keys() == {"experiment sine-maml", "experiment sine-scratch"}
    changed(monkeypatch, **fields)
    after = notebooks.experiments_named([source])
    assert [name for name in before if before[name] != after[name]] == ["experiment sine-maml"]


def test_an_experiment_that_waits_for_its_run_is_covered():
    from cmlcore.runs import catalog

    waiting = next(e.name for e in catalog.CATALOG if not (notebooks.RECEIPTS / f"{e.name}.json").exists())
    assert notebooks.experiments_named([f"from cmlcore.runs import tables\ntables.comparison({{'row': {waiting!r}}})"])


def test_who_reads_the_whole_catalog_depends_on_all_of_it(monkeypatch):
    before = notebooks.experiments_named([RUNS + "[e.cost for e in EVERY]"])
    changed(monkeypatch, cost=(1440, None, None))
    assert before.keys() == {"all experiments"} and notebooks.experiments_named([RUNS]) != before


def test_the_digest_of_an_experiment_is_the_same_everywhere(monkeypatch):
    """Whatever Python and JAX this runs with."""
    from cmlcore.runs import catalog
    from cmlcore.runs.cost import counted
    from cmlcore.runs.sine import Scratch

    figure = {"value": 1.999, "plus_minus": 3.5, "source": "a talk"}
    one = catalog.Experiment("one", "A row.", Scratch(1000, 1e-5), print, (0, 1), ("error", "±"), figure, counted(1234.5))
    monkeypatch.setattr(catalog, "CATALOG", (one,))
    assert notebooks.experiments_named(["import cmlcore.runs\n'one'"]) == {"experiment one": "bb2be8216d2f862c"}


def test_who_reads_no_experiment_waits_for_none():
    code = (
        "import sys; from cmlcore.press import notebooks; notebooks.stamp(notebooks.tidy(notebooks.nbformat.v4.new_notebook())); sys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("fine", ["0.00001234 and 1234567", "jax 0.10.2", "doi 10.1162/1976", "arXiv:2207.01332", "1.235e-12", "12.5 %. 3"])
def test_numbers_that_may_be_shown(fine):
    assert notebooks.too_long({"text": fine}) is None


@pytest.mark.parametrize("long", ["is 1.23456.", "[-0.98039216, 2]", "1.23456e-05", "123.45%", "| 2.7778 |"])
@pytest.mark.parametrize("shown", [lambda text: {"text": text}, lambda text: {"data": {"text/markdown": text}}])
def test_numbers_that_are_too_long(long, shown):
    assert notebooks.too_long(shown(long))


def test_a_checked_cell_may_show_more():
    nb = notebook("print(2 / 3)")
    nb.cells[-1].outputs = [nbformat.v4.new_output("stream", text="0.6666666666666666\n")]
    with pytest.raises(notebooks.Unclean, match="0.6667"):
        notebooks.require_clean(nb, "it")
    nb.cells[-1].metadata["tags"] = [notebooks.CHECK_TAG]
    notebooks.require_clean(nb, "it")


# ---- executing ------------------------------------------------------------------------------------------------------


def test_executing_twice_gives_the_same_bytes(executed):
    again = notebooks.execute(executed, ROOT / "book")
    assert nbformat.writes(again) == nbformat.writes(executed)


def test_a_failing_cell_leaves_the_file_alone(tmp_path):
    path = tmp_path / "broken.ipynb"
    nbformat.write(notebook("1 / 0"), path)
    before = path.read_bytes()
    assert notebooks.main([str(path)]) == 1
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_several_are_executed_side_by_side_and_a_failing_one_leaves_the_others_alone(tmp_path, capfd):
    sources = {"first": "print(1)", "broken": "1 / 0", "last": "print(3)"}
    for name, source in sources.items():
        nbformat.write(notebook(source), tmp_path / f"{name}.ipynb")
    assert notebooks.main([*(str(tmp_path / f"{name}.ipynb") for name in sources), "--jobs", "2"]) == 1
    shown = {name: nbformat.read(tmp_path / f"{name}.ipynb", 4).cells[-1].outputs for name in sources}
    assert [shown["first"][0].text, shown["broken"], shown["last"][0].text] == ["1\n", [], "3\n"]
    out, err = capfd.readouterr()
    assert "3 of 3" in out and "up to date" not in out and "broken.ipynb keeps its old outputs" in err and "ZeroDivisionError" in err


@pytest.mark.parametrize(
    "source, complaint",
    [
        ("print(('x' * 99 + '\\n') * 4000)", "300 kB is the limit"),
        ("import warnings\nwarnings.warn('old')", "error stream"),
        ("import sys\nprint(sys.prefix + '/lib')", "a path of this machine"),
        ("print(object())", "a memory address"),
        ("10 / 9", r"shows 1.1111111111111112. Print at most 4 significant digits (1.111)"),
    ],
)
def test_outputs_that_do_not_belong_in_a_book_are_refused(tmp_path, source, complaint, capsys):
    path = tmp_path / "unclean.ipynb"
    nbformat.write(notebook(source), path)
    before = path.read_bytes()
    assert notebooks.main([str(path)]) == 1
    assert complaint in capsys.readouterr().err
    assert path.read_bytes() == before


def test_check_lists_what_is_out_of_date(tmp_path, capsys, executed):
    fresh, stale = tmp_path / "fresh.ipynb", tmp_path / "stale.ipynb"
    nbformat.write(executed, fresh)
    nbformat.write(notebook("print(1)"), stale)
    assert notebooks.main(["--check", str(fresh)]) == 0
    assert notebooks.main(["--check", str(fresh), str(stale)]) == 1
    listed = capsys.readouterr().out
    assert "stale.ipynb" in listed and "fresh.ipynb" not in listed


# ---- nbval ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("printed, status", [("42", 0), ("54", 1)])
def test_nbval_compares_checked_cells(tmp_path, executed, printed, status):
    checked = notebooks.tidy(executed)
    checked.cells[-1].metadata["tags"] = [notebooks.CHECK_TAG]
    checked.cells[-1].outputs[0]["text"] = printed + "\n"
    path = tmp_path / "checked.ipynb"
    nbformat.write(checked, path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"), str(path)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == status, run.stdout


def test_a_chapter_does_not_depend_on_experiments_that_it_does_not_read():
    files = {str(file.relative_to(notebooks.ROOT)) for file in notebooks.reached(["from cmlcore.runs.tables import comparison"])}
    assert "cmlcore/runs/receipts.py" in files
    assert not files & {"cmlcore/runs/catalog.py", "cmlcore/runs/sine.py"}
