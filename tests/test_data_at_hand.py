"""Notebooks are skipped where their data are missing, and only those."""

import data_at_hand
import nbformat
import pytest
from data_at_hand import loads, missing_data

from cmlcore.data import mnist, omniglot
from cmlcore.press.notebooks import ROOT


@pytest.fixture(autouse=True)
def nothing(monkeypatch, tmp_path):
    """A machine without data and network."""

    def fail():
        raise FileNotFoundError("nothing here")

    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("CML_DATA", str(tmp_path))
    monkeypatch.setattr(omniglot, "load", fail)
    monkeypatch.setattr(mnist, "load", fail)
    data_at_hand.tried.cache_clear()
    yield
    data_at_hand.tried.cache_clear()


@pytest.fixture
def notebook(tmp_path):
    def write(*sources):
        path = tmp_path / "notebook.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources]), path)
        return path

    return write


def test_what_loads_missing_data_is_skipped(notebook, monkeypatch):
    path = notebook("%matplotlib inline\nfrom cmlcore.data import omniglot", "data = omniglot.load()")
    assert missing_data(path) == "nothing here"
    monkeypatch.setenv("CI", "1")
    assert missing_data(path) == ""


def test_a_name_a_word_and_another_load_are_not(notebook):
    assert missing_data(notebook("from cmlcore.runs import receipts\nreceipts.read('omniglot-small')", "import json\njson.load(file)")) == ""
    assert missing_data(notebook("from cmlcore.data import omniglot\nomniglot.ARCHIVE")) == ""


def test_smaller_data_do_unless_the_same_are_wanted(notebook):
    path = notebook("from cmlcore.data import mnist", "digits = mnist.load_or_small()")
    assert missing_data(path) == ""
    assert missing_data(path, same=True) == "The page was made with MNIST; here is scikit-learn's digits (8x8)."


def test_chapters_that_load_data_are_found():
    found = {name: loads(ROOT / "book" / f"{name}.ipynb") for name in ("characters", "hyperparameters", "top-down-modulation")}
    assert found == {"characters": {("omniglot", "load")}, "hyperparameters": {("cifar", "load")}, "top-down-modulation": set()}
