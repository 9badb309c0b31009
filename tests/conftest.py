"""What several test files share."""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

import pytest

# What one test has compiled, no other compiles again, in whatever process it runs: the notebooks' kernels, and the samples of their
# explorables, run the same programs. JAX reads this when it is first imported. A folder of its own for every run, so nothing is stale.
COMPILED = None
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    COMPILED = tempfile.mkdtemp(prefix="cmlcore-compiled-")
    os.environ |= {"JAX_COMPILATION_CACHE_DIR": COMPILED, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}

import jax
from compiling import QUICKLY
from precision import precision

# JAX reads the flags once, here; the processes that tests start, the notebooks' kernels among them, compile as everywhere else.
with pytest.MonkeyPatch.context() as patch:
    patch.setenv("XLA_FLAGS", f"{os.environ.get('XLA_FLAGS', '')} {QUICKLY}".strip())
    jax.devices()


def pytest_collection_modifyitems(items):
    """The browser's files first: they take longest, and a long one that starts last leaves the other cores idle."""
    items.sort(key=lambda item: item.get_closest_marker("browser") is None)


def pytest_unconfigure():
    if COMPILED:
        shutil.rmtree(COMPILED, ignore_errors=True)


@pytest.fixture(scope="module", autouse=True)
def few_programs():
    """A process may hold some 65,000 areas of memory, each compiled program takes several, and at the limit the compiler crashes: drop them in time."""
    yield
    areas = Path("/proc/self/maps")
    if areas.exists() and len(areas.read_text().splitlines()) > 20_000:
        jax.clear_caches()


@pytest.fixture
def x64():
    """Double precision for one test; undone after it."""
    with precision(double=True):
        yield


@pytest.fixture(scope="session")
def site(tmp_path_factory, worker_id):
    """The folder of the book's site, built once for all tests, in whatever process they run."""
    from cmlcore.press import book

    shared = tmp_path_factory.getbasetemp() if worker_id == "master" else tmp_path_factory.getbasetemp().parent
    with open(shared / "site.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        first = shared / "first page"
        if not first.exists():
            first.write_text(str(book.build(shared / "site")))
        return Path(first.read_text()).parent


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium, headless. Where there is none the test is skipped, never in CI."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        if os.environ.get("CI"):
            pytest.fail("no chromium here, and CI must not skip the browser's tests: apt-get install chromium.")
        pytest.skip("no chromium here: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        yield browser
        browser.close()
