"""Every explorable of the book: what its page computes against its Python function, as its notebook writes it.

At both ends of all knobs and at settings drawn at random, in a real browser, on the page that a reader meets. The two may differ
by 1e-4 of the largest magnitude that the output has at that setting; so a value near zero within an array is compared on the
array's scale.

Recorded and trained numbers are those of the machine and the version of JAX that executed the notebook, and another one rounds
differently. Where the figure that the notebook makes here is not the stored one, the page gets the one made here: the page's
arithmetic is compared, with the same numbers on both sides. That a notebook is up to date is what its stamp is for.
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
from data_at_hand import missing_data
from slicing import needed

from cmlcore.press import notebooks
from cmlcore.press.notebooks import ROOT

COUNT = 4  # settings of each explorable, besides the two ends
BOOK = stored()


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
    absent = {chapter: missing_data(ROOT / "book" / f"{chapter}.ipynb", same=True) for chapter in chapters}
    kept = {chapter: cached(chapter, folder) for chapter in chapters if not absent[chapter]}  # not in the threads: they may not parse Python at the same time
    with ThreadPoolExecutor(2) as pool:
        running = {chapter: pool.submit(samples, chapter, kept[chapter]) for chapter in kept}
        yield lambda chapter: pytest.skip(absent[chapter]) if absent[chapter] else running[chapter].result()
        pool.shutdown(cancel_futures=True)


# ---- what the page computes ----------------------------------------------------------------------------------------------


def allowed(value):
    """By how much the page's numbers may differ from Python's `value`."""
    return 0 if value.dtype.kind in "iub" else 1e-4 * np.abs(value).max()


INSTEAD = """
document.addEventListener("readystatechange", () => {
  for (const [name, figure] of Object.entries(FIGURES)) {
    const stored = document.querySelector(`#explorable-${name} .cml-figure`);
    if (stored && stored.textContent !== figure) stored.textContent = figure;
  }
}, { once: true });
"""  # when all is parsed and no script has run yet that waits for that


@pytest.fixture(scope="module")
def opened(browser, site):
    """A chapter's page, open for all of its explorables, one after the other; with the figures that its notebook makes here."""
    current = {}

    def open_page(chapter, found):
        if chapter not in current:
            for page in current.values():
                page.close()
            current.clear()
            page = current[chapter] = browser.new_page(viewport={"width": 1280, "height": 900})
            page.add_init_script(INSTEAD.replace("FIGURES", json.dumps({name: one["figure"] for name, one in found.items()})))
            page.goto((site / f"book/{chapter}.html").as_uri())
        return current[chapter]

    return open_page


@pytest.mark.browser
@pytest.mark.parametrize("one", BOOK, ids=title)
def test_the_page_computes_what_the_notebook_computes(opened, python, one):
    found = python(one.chapter)
    samples = found[one.name]["samples"]
    assert len(samples) == COUNT + 2
    page = opened(one.chapter, found)
    settle(page, one)
    for sample in samples:
        move(page, one, sample["places"])
        settings = settle(page, one)
        assert settings == {knob.name: knob.positions[place] for knob, place in zip(one.knobs, sample["places"])}
        got = outputs(page, one)
        assert got.keys() == sample["outputs"].keys()
        for name, output in sample["outputs"].items():
            value = np.array(output["data"], float if output["kind"] == "f" else int).reshape(output["shape"])
            assert got[name].shape == value.shape
            off = np.abs(got[name] - value) - allowed(value)
            assert (off <= 0).all(), f"{name} at {settings}: {got[name].ravel()[off.argmax()]}, not {value.ravel()[off.argmax()]}"
        assert sentence(page, one) == told(one, got, settings)


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
