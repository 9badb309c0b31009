"""What several test files share."""

import os
import re
from functools import cache

import jax
import pytest

os.environ.setdefault("CMLCORE_FACE", "page")  # kernels that nbval starts show what the stored notebooks show


@pytest.fixture
def x64():
    """Double precision for one test; undone after it."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the book's site, built once for all tests."""
    from cmlcore import book

    return book.build(tmp_path_factory.mktemp("site")).parent


@cache
def missing_omniglot() -> str:
    """Why Omniglot cannot be had here; empty where it can."""
    from cmlcore.data import omniglot

    try:
        omniglot.load()
    except OSError as error:
        return str(error)
    return ""


def pytest_collection_modifyitems(items):
    """Skip the cells of notebooks that need Omniglot on a machine without the archive and the network; never in CI."""
    for item in items:
        needs = item.path.suffix == ".ipynb" and re.search(r"\bomniglot\b", item.path.read_text(encoding="utf-8"))
        if needs and not os.environ.get("CI") and missing_omniglot():
            item.add_marker(pytest.mark.skip(reason=missing_omniglot()))
