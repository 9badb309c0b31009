"""The reference of the public names is whole: every name is on a page, says what it is, in which shapes, and from where."""

import importlib
import pkgutil
import re

import pytest

import cmlcore
from cmlcore.press import reference
from cmlcore.press.notebooks import ROOT

# Modules that a reader of the reference does not call: the tool chain, and what stands behind a name that is listed.
BEHIND = {"estimators", "theory", "speed", "bandits", "data", "models", "press", "runs", "runs.__main__", "extras"}
MODULES = [module for page in sorted(ROOT.glob("book/reference*.md")) for module in reference.modules_of(page.read_text())]
SHAPELESS = ("explore", "runs.", "data.omniglot_builder")  # pictures, files and names: no arrays go in or out
METHODS = {f"estimators.{name}" for name in ("contrastive", "imaginary", "implicit", "unroll", "first_order")}

FROM = re.compile(r"\b(19|20)\d\d\b|\bthis book\b")
SHAPE = re.compile(r"\([\w, +*/-]*,\)|\(\w+(, [\w +*]+)+\)|->|\b(scalars?|trees?|shape\w*|axis|tuple|strings?|text|list|number\w*|path|image|SVG)\b", re.I)


def entries():
    for module in MODULES:
        loaded = importlib.import_module(f"cmlcore.{module}")
        for name, value in reference.public(loaded).items():
            yield pytest.param(loaded, value, id=f"{module}.{name}")


def test_every_module_is_in_the_reference():
    found = {info.name.removeprefix("cmlcore.") for info in pkgutil.walk_packages(cmlcore.__path__, "cmlcore.")}
    inside = {name for name in found - set(MODULES) if name.startswith(("explore.", "press.", "runs."))}  # runs: one module a kind of task
    assert sorted(found - inside - BEHIND) == sorted(MODULES)


@pytest.mark.parametrize("module, value", list(entries()))
def test_every_name_says_what_it_is_in_which_shapes_and_from_where(module, value):
    text = value.__doc__ or ""
    assert len(text.split()) >= 4 and not text.startswith(f"{value.__name__}("), "no docstring of its own"
    assert FROM.search(text + module.__doc__), "neither it nor its module names a source"
    shapeless = module.__name__.removeprefix("cmlcore.").startswith(SHAPELESS)
    assert shapeless or SHAPE.search(text + module.__doc__), "no word on shapes"


@pytest.mark.parametrize("module", sorted(METHODS & set(MODULES)))
def test_every_estimator_names_the_work_it_is_from(module):
    loaded = importlib.import_module(f"cmlcore.{module}")
    without = [n for n, v in reference.public(loaded).items() if not n[0].isupper() and not FROM.search(v.__doc__)]
    assert without == []


def test_prose_is_only_marked_up_where_it_is_code():
    text = "Two stars phi*_0 and `phi*_0`.\n\na: one\nb: two,\n   more\n\n    x = 1\n"
    assert reference.prose(text) == "Two stars phi\\*\\_0 and `phi*_0`.\n\n* `a`: one\n* `b`: two, more\n\n```text\nx = 1\n```"


def test_a_signature_shows_defaults_and_hides_what_has_no_name():
    def call(a, b=(1, 2), *, act=max, hidden=lambda: 0):
        pass

    assert reference.signature("call", call) == "call(a, b=(1, 2), *, act=max, hidden=...)"


def test_labels_differ_for_names_that_differ_in_case():
    assert reference.anchor("estimate", "Phase") != reference.anchor("estimate", "phase")
