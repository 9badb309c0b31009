"""How pytest runs the notebooks, through nbval."""

import os
import re
from functools import cache

import pytest

os.environ["CMLCORE_FACE"] = "page"  # the kernels show what the stored notebooks show


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
    """Skip the notebooks that need Omniglot on a machine without the archive and the network; never in CI."""
    for item in items:
        needs = item.path.suffix == ".ipynb" and re.search(r"\bomniglot\b", item.path.read_text(encoding="utf-8"))
        if needs and not os.environ.get("CI") and missing_omniglot():
            item.add_marker(pytest.mark.skip(reason=missing_omniglot()))
