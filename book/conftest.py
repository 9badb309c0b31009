"""How pytest runs the notebooks, through nbval."""

import os

import pytest
from data_at_hand import missing_data  # in tests/

os.environ["CMLCORE_FACE"] = "page"  # the kernels show what the stored notebooks show


def pytest_runtest_setup(item):
    """Skip the notebooks that need data on a machine without the archive and the network; never in CI."""
    if item.path.suffix == ".ipynb" and (why := missing_data(item.path)):
        pytest.skip(why)
