"""Every explorable of the book: what its page computes against its Python function, as its notebook writes it.

At settings drawn at random over all positions of all knobs, in a real browser, on the page that a reader meets. The two may differ
by 1e-4 of the largest magnitude that the output has at that setting; so a value near zero within an array is compared on the
array's scale. Where the page looks up recorded values, which have 4 significant digits, each may be off by half a unit of the last.

Recorded and trained numbers are those of the version of JAX that executed the notebook, and another one rounds differently: with it,
these tests are skipped, and say which version they want.
"""

import ast
import hashlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import nbformat
import numpy as np
import pytest
from browsing import move, outputs, sentence, settle, stored, title, told
from slicing import needed

from cmlcore import notebooks
from cmlcore.notebooks import ROOT

COUNT = 5  # settings of each explorable
BOOK = stored()


def made_by(chapter):
    """The version of JAX that executed the chapter's notebook."""
    return nbformat.read(ROOT / "book" / f"{chapter}.ipynb", as_version=4).metadata["cmlcore"]["jax"]


# ---- what Python computes ------------------------------------------------------------------------------------------------


SCRIPT = Path(__file__).with_name("parity_samples.py")


def cached(chapter, folder):
    """Where a chapter's samples are kept, until the notebook, a module that it reaches, or JAX changes: some train for a minute."""
    stamp = notebooks.stamp(nbformat.read(ROOT / "book" / f"{chapter}.ipynb", as_version=4))
    needs = [stamp, jax.__version__, COUNT, SCRIPT.read_text(), SCRIPT.with_name("slicing.py").read_text()]
    return folder / f"{chapter}-{hashlib.sha256(json.dumps(needs).encode()).hexdigest()[:16]}.json"


def samples(chapter, kept):
    """Outputs of a chapter's explorables by their names, from a process that runs the notebook's own statements."""
    if not kept.exists():
        fresh = kept.with_suffix(".tmp")
        run = subprocess.run([sys.executable, SCRIPT, ROOT / "book" / f"{chapter}.ipynb", fresh, str(COUNT)], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        fresh.replace(kept)
    return json.loads(kept.read_text())


@pytest.fixture(scope="module")
def python(request):
    """Samples of a chapter. All chapters that are tested start at once, two at a time, while the browser works."""
    folder = Path(request.config.cache.mkdir("parity"))
    chapters = dict.fromkeys(item.callspec.params["one"].chapter for item in request.session.items if "python" in getattr(item, "fixturenames", ()))
    kept = {chapter: cached(chapter, folder) for chapter in chapters if made_by(chapter) == jax.__version__}  # not in the threads: they may not parse Python at the same time
    with ThreadPoolExecutor(2) as pool:
        running = {chapter: pool.submit(samples, chapter, kept[chapter]) for chapter in kept}
        yield lambda chapter: running[chapter].result()
        pool.shutdown(cancel_futures=True)


# ---- what the page computes ----------------------------------------------------------------------------------------------


def allowed(one, value):
    """By how much the page's numbers may differ from Python's `value`."""
    if value.dtype.kind in "iub":
        return 0
    return 5.001e-4 * np.abs(value) if one.kind == "grid" else 1e-4 * np.abs(value).max()


@pytest.mark.browser
@pytest.mark.parametrize("one", BOOK, ids=title)
def test_the_page_computes_what_the_notebook_computes(browser, site, python, one):
    if (version := made_by(one.chapter)) != jax.__version__:
        pytest.skip(f"the page was made by JAX {version}, and this is {jax.__version__}: make notebooks ARGS=--force, to compare with this one.")
    expected = python(one.chapter)[one.name]
    assert len(expected) == COUNT
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto((site / f"book/{one.chapter}.html").as_uri())
    settle(page, one)
    for sample in expected:
        move(page, one, sample["places"])
        settings = settle(page, one)
        assert settings == {knob.name: knob.positions[place] for knob, place in zip(one.knobs, sample["places"])}
        found = outputs(page, one)
        assert found.keys() == sample["outputs"].keys()
        for name, output in sample["outputs"].items():
            value = np.array(output["data"], float if output["kind"] == "f" else int).reshape(output["shape"])
            assert found[name].shape == value.shape
            off = np.abs(found[name] - value) - allowed(one, value)
            assert (off <= 0).all(), f"{name} at {settings}: {found[name].ravel()[off.argmax()]}, not {value.ravel()[off.argmax()]}"
        assert sentence(page, one) == told(one, found, settings)
    page.close()


# ---- what is run of a notebook -------------------------------------------------------------------------------------------


def sliced(*cells):
    """The statements that the last cell needs."""
    return [ast.unparse(node) for _, node in needed(list(cells), {len(cells) - 1})]


def test_a_training_that_is_not_used_is_not_run():
    assert sliced("import a", "x = a.load()", "y = a.train(x)\nprint(y)", "x + 1") == ["import a", "x = a.load()", "x + 1"]


def test_names_in_functions_are_followed_to_later_cells():
    assert sliced("def f(y):\n    return y + late", "y = train()", "late = 3", "f(2)") == ["def f(y):\n    return y + late", "late = 3", "f(2)"]


@pytest.mark.parametrize(
    "change", ["x.append(3)", "x[0] = 1", "x.a.b = 1", "x += [1]", "for k in range(3):\n    x[k] = k", "with open('a') as x:\n    pass", "if True:\n    x = 2"]
)
def test_what_changes_a_name_is_run(change):
    assert sliced("x = []", "z = 0", change, "x") == ["x = []", change, "x"]


def test_settings_of_a_module_are_run():
    assert sliced("import jax", "jax.config.update('jax_enable_x64', True)", "print(1)", "jax.f()")[1].startswith("jax.config.update")


def test_what_comes_after_is_not_run():
    assert [number for number, _ in needed(["x = 1", "x", "x = 2"], {1})] == [0, 1]
