"""What several test files share."""

import jax
import pytest


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
