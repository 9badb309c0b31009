"""Keeps the book's notebooks executed: `python -m cmlcore.press.notebooks` runs those that are out of date.

A notebook is committed with its outputs, and with a stamp in its metadata: a hash of its code cells, of its outputs, of
every `cmlcore` module that its code reaches (found by following the imports, nothing is run), and of every full experiment
that a cell names, with its receipt. A stamp that no longer fits means that the outputs may be wrong. Prose, comments and
docstrings of modules are not covered: to mend a sentence executes nothing.
"""

import argparse
import ast
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import nbformat
import yaml
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from cmlcore import HOME

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "cmlcore"
RECEIPTS = PACKAGE / "runs" / "receipts"
OUTPUT_LIMIT = 300_000  # bytes of stored outputs a notebook
DIGITS_LIMIT = 4  # significant, of a decimal in an output; further ones differ between machines
CHECK_TAG = "nbval-check-output"
RUNS, CATALOG = "cmlcore.runs", "cmlcore.runs.catalog"  # the catalog imports every experiment; a chapter depends on those it names
ANSI = r"\x1b\[[0-9;]*m"  # colors for a terminal


class Unclean(ValueError):
    """A result that must not be stored: the message says what is wrong, where, and what to do."""


# ---- what a notebook depends on -------------------------------------------------------------------------------------


def code_of(nb) -> list[str]:
    """The notebook's code cells as plain Python: magics and shell escapes become the calls that IPython makes of them."""
    return [TransformerManager().transform_cell(cell.source) for cell in nb.cells if cell.cell_type == "code"]


def module_file(name: str) -> Path | None:
    """The source of `cmlcore.x.y`, or None where that is no module (a function in one, or another package)."""
    base = ROOT.joinpath(*name.split("."))
    return next((file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()), None)


def imported(source: str, package: str = "") -> set[str]:
    """Dotted names that `source` may import, each with its parent packages: `from a.b import c` gives a, a.b and a.b.c.

    `cmlcore.matched`, a name of the package's front door, is imported when it is asked for, and counts as its module does.
    package: the package that relative imports in `source` start from.
    """
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join(parents + ([node.module] if node.module else []))
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == PACKAGE.name and node.attr in HOME:
            names.add(f"{PACKAGE.name}.{HOME[node.attr]}")
    return {".".join(name.split(".")[: i + 1]) for name in names for i in range(name.count(".") + 1)}


def reached(sources: Iterable[str]) -> set[Path]:
    """Files of every `cmlcore` module that the sources import, and of what those import, to the end; not the catalog's."""
    seen, queue = set(), [name for source in sources for name in imported(source)]
    while queue:
        name = queue.pop()
        file = module_file(name) if name.split(".")[0] == PACKAGE.name and name != CATALOG else None
        if file is None or file in seen:
            continue
        seen.add(file)
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        queue += imported(file.read_text(), package)
    return seen


def strings(sources: Iterable[str]) -> set[str]:
    """Every string that stands in the sources."""
    nodes = (node for source in sources for node in ast.walk(ast.parse(source)))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def receipts_named(sources: Iterable[str]) -> set[Path]:
    """The files of receipts whose name stands in the sources as a string."""
    named = strings(sources)
    return {file for file in RECEIPTS.glob("*.*") if file.stem in named}


def experiments_named(sources: list[str]) -> dict[str, str]:
    """A digest of each experiment whose name stands in the sources as a string, run or not; of all where `CATALOG` does.

    It covers what a chapter can print of an experiment: all but how it computes, which its receipt stands for.
    """
    if not any(RUNS in imported(source) for source in sources):
        return {}
    from cmlcore.runs import catalog  # imports JAX, which takes seconds

    told = {}
    for experiment in catalog.CATALOG:
        plain = experiment._replace(settings=experiment.settings._asdict(), build=None)
        told[experiment.name] = digest(json.dumps(plain, sort_keys=True))
    if any(re.search(r"\bCATALOG\b", source) for source in sources):
        return {"all experiments": digest(json.dumps(told))}
    return {f"experiment {name}": told[name] for name in sorted(strings(sources) & told.keys())}


def digest(content: str | bytes) -> str:
    """Sixteen hexadecimal digits of SHA-256."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:16]


def meaning(file: Path) -> bytes:
    """What counts in a file: all of a receipt; of a module its syntax tree without docstrings, so that comments are free.

    Written out by hand, since `ast.dump` differs between versions of Python.
    """

    def plain(node):
        if isinstance(node, list):
            return [plain(item) for item in node if not is_docstring(item)]
        if not isinstance(node, ast.AST):
            return repr(node)
        return [type(node).__name__] + [[key, plain(value)] for key, value in ast.iter_fields(node) if value not in (None, [])]

    def is_docstring(item):
        return isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant) and isinstance(item.value.value, str)

    content = file.read_bytes()
    return json.dumps(plain(ast.parse(content))).encode() if file.suffix == ".py" else content


def stamp(nb) -> dict[str, str]:
    """What the stored outputs were made from: a hash each of the code, the outputs, the experiments and files that the code reaches."""
    cells = [cell for cell in nb.cells if cell.cell_type == "code"]
    code = code_of(nb)
    files = reached(code) | receipts_named(code)
    return (
        {
            "code": digest(json.dumps([cell.source for cell in cells])),
            "outputs": digest(json.dumps([cell.outputs for cell in cells], sort_keys=True)),
        }
        | experiments_named(code)
        | {str(file.relative_to(ROOT)): digest(meaning(file)) for file in sorted(files)}
    )


def changes(nb) -> list[str]:
    """What changed since the notebook was executed, by name; empty while its outputs are up to date."""
    stored, now = nb.metadata.get("cmlcore", {}).get("stamp", {}), stamp(nb)
    if not stored:
        return ["never executed by make notebooks"]
    return [name for name in now | stored if stored.get(name) != now.get(name)]


# ---- what a notebook must look like ---------------------------------------------------------------------------------


def first_cell() -> str:
    """The first cell of every notebook, the same in all of them."""
    url = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
    return (
        "# On Colab, this installs the book's package and touches nothing else. Anywhere else it does nothing.\n"
        "import sys\n\n"
        'if "google.colab" in sys.modules:\n'
        f"    %pip install -q --no-deps git+{url} git+{url}#subdirectory={RECEIPTS.relative_to(ROOT)}"
    )


def tidy(nb):
    """A copy with the common first cell, an id for every cell, and metadata that say nothing about this machine."""
    nb = nbformat.from_dict(json.loads(json.dumps(nb)))
    nb.nbformat, nb.nbformat_minor = 4, 5
    if not (nb.cells and "setup" in nb.cells[0].metadata.get("tags", [])):
        nb.cells.insert(0, nbformat.v4.new_code_cell(id="setup", metadata={"tags": ["setup", "remove-cell"]}))
    nb.cells[0].source = first_cell()
    ids = set()
    for number, cell in enumerate(nb.cells):
        if cell.get("id") is None or cell.id in ids:
            cell.id = f"cell-{number}-{digest(cell.source)[:6]}"
        ids.add(cell.id)
        tags = cell.metadata.get("tags")
        cell.metadata = {"tags": tags} if tags else {}
    kept = nb.metadata.get("cmlcore", {})
    nb.metadata = {
        "cmlcore": kept,
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"file_extension": ".py", "name": "python", "pygments_lexer": "ipython3"},
    }
    return nbformat.from_dict(nb)


def machine_traces() -> dict[str, str]:
    """Patterns that no stored output may match, and what each of them is."""
    folders = {str(ROOT), str(Path.home()), tempfile.gettempdir(), sys.prefix}
    return {re.escape(folder) + "/": "a path of this machine" for folder in folders if len(folder) > 1} | {
        r"\b0x[0-9a-f]{6,}": "a memory address",
        r"site-packages/": "a path of this machine",
    }


# Not a version (0.10.2), not an identifier of a publication (10.1000/182, arXiv:2207.01332).
DECIMAL = re.compile(r"(?<![\w.:/])\d+\.\d+(?![\w.]*\d|/\w)")


def too_long(output) -> str | None:
    """The first decimal of a printed, plain or Markdown output that has more than `DIGITS_LIMIT` significant digits."""
    texts = output.get("text", ""), *(output.get("data", {}).get(kind, "") for kind in ("text/plain", "text/markdown"))
    found = (number for text in texts for number in DECIMAL.findall(text))
    return next((number for number in found if len(number.replace(".", "").lstrip("0")) > DIGITS_LIMIT), None)


def require_clean(nb, name: str) -> None:
    """Raise `Unclean` for outputs that are too large, are errors or warnings, or carry traces of this machine.

    Digits that differ between machines are such traces; a cell whose output is checked against them may show more.
    """
    size = 0
    for number, cell in enumerate(nb.cells):
        for output in cell.get("outputs", []):
            text = json.dumps(output, ensure_ascii=False)
            size += len(text.encode())
            where = f"{name}, cell {number} ({cell.source.splitlines()[0][:60]!r})"
            if output.output_type == "error":
                raise Unclean(f"{where} ends in {output.ename}. Catch what is meant to fail, and print it.")
            if output.get("name") == "stderr":
                raise Unclean(f"{where} writes to the error stream: {output.text.strip()[:200]!r}. Mend its cause.")
            for pattern, what in machine_traces().items():
                if found := re.search(pattern, text):
                    raise Unclean(f"{where} shows {what}, {found.group()!r}. Print what a reader can use instead.")
            if CHECK_TAG not in cell.metadata.get("tags", []) and (number := too_long(output)):
                raise Unclean(f"{where} shows {number}. Print at most {DIGITS_LIMIT} significant digits ({float(number):.{DIGITS_LIMIT}g}).")
    if size > OUTPUT_LIMIT:
        raise Unclean(f"{name} stores {size / 1e3:.0f} kB of outputs; {OUTPUT_LIMIT / 1e3:.0f} kB is the limit. Show less.")


# ---- executing ------------------------------------------------------------------------------------------------------


def execute(nb, folder: Path, progress=lambda number, count: None):
    """A copy of the notebook with fresh outputs and stamp; it runs in `folder`, and explorables show their page face.

    progress: called with a cell's number and the count of cells before each code cell.
    Raises CellExecutionError where a cell fails.
    """
    nb = nbformat.from_dict(json.loads(json.dumps(nb)))
    client = NotebookClient(
        nb,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        extra_arguments=["--log-level=40"],
        on_cell_execute=lambda cell, cell_index: progress(cell_index, len(nb.cells)),
    )
    try:
        client.execute(env=os.environ | {"CMLCORE_FACE": "page"})
    except AssertionError as error:  # not a cell's: nbclient hears Ctrl-C itself, ends the kernel, and then misses it
        raise KeyboardInterrupt from error
    nb = tidy(nb)
    nb.metadata["cmlcore"] = {"stamp": stamp(nb)}
    return nb


def write(nb, path: Path) -> None:
    """Replace the file in one step: a process killed at any moment leaves the old notebook or the new one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(nbformat.writes(nb).rstrip("\n") + "\n")
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def reasons(path: Path, force: bool) -> list[str]:
    """Why the notebook is to be executed: what has changed, or `force`; empty where it is up to date."""
    return changes(tidy(nbformat.read(path, as_version=4))) or ["asked for"] * force


def refresh(path: Path, why: list[str]) -> None:
    """Execute the notebook if there is a reason, and tidy it in any case."""
    text = path.read_text(encoding="utf-8")
    stored = nbformat.reads(text, as_version=4)
    nb = tidy(stored)
    if why:
        print(f"{path.name}: {', '.join(why[:4])}{' ...' if len(why) > 4 else ''}", flush=True)
        live, start = sys.stdout.isatty(), time.perf_counter()

        def progress(number, count):
            if live:
                print(f"\r  cell {number + 1} of {count}, {time.perf_counter() - start:.0f} s ", end="", flush=True)

        nb = execute(nb, path.parent, progress)
        require_clean(nb, path.name)
        seconds = f"{time.perf_counter() - start:.0f} s"
        print(("\r" if live else "") + f"  executed in {seconds:<20}", flush=True)
    if path.read_text(encoding="utf-8") != text:
        raise Unclean(f"{path.name} was edited while it was executed. Run this again.")
    if nb != stored:
        write(nb, path)


def notebooks() -> list[Path]:
    """Every notebook of the book."""
    return sorted((ROOT / "book").glob("*.ipynb"))


def attempt(path: Path, why: list[str]) -> bool:
    """Refresh the notebook; where it fails, say so, and give False."""
    try:
        refresh(path, why)
        return True
    except (CellExecutionError, Unclean) as error:
        text = getattr(error, "traceback", None) or str(error)
        print(f"{path.name} keeps its old outputs:\n{re.sub(ANSI, '', text)}", file=sys.stderr)
        return False


def side_by_side(paths: list[Path], force: bool, jobs: int) -> int:
    """Refresh every notebook in a process of its own, `jobs` at a time; gives how many failed."""

    def one(path):
        start = time.perf_counter()
        command = [sys.executable, "-m", "cmlcore.press.notebooks", *["--force"] * force, path]
        return path, subprocess.run(command, capture_output=True, text=True), time.perf_counter() - start

    failed = 0
    print(f"{len(paths)} notebooks to execute, {jobs} at a time", flush=True)
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for done, ended in enumerate(as_completed([pool.submit(one, path) for path in paths]), 1):
                path, process, seconds = ended.result()
                failed += process.returncode != 0
                print(f"  {done} of {len(paths)}: {path.name}, {seconds:.0f} s", flush=True)
                print(process.stderr, end="", file=sys.stderr, flush=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return failed


def main(arguments: list[str] | None = None) -> int:
    """The command line; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m cmlcore.press.notebooks", description=__doc__.splitlines()[0])
    parser.add_argument("notebook", nargs="*", type=Path, help="only these; by default all of book/")
    parser.add_argument("--check", action="store_true", help="execute nothing; list what is out of date, and exit 1 if any")
    parser.add_argument("--force", action="store_true", help="execute even what is up to date")
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1), help="notebooks side by side (default: one a core, at most 4)")
    chosen = parser.parse_args(arguments)
    if chosen.jobs < 1:
        parser.error("--jobs must be at least 1.")
    paths = chosen.notebook or notebooks()
    why = {path: reasons(path, chosen.force and not chosen.check) for path in paths}
    stale = [path for path in paths if why[path]]
    if chosen.check:
        for path in stale:
            print(f"{path.name} is out of date: {', '.join(why[path])}")
        return int(bool(stale))
    together = stale if len(stale) > 1 else []  # one alone is executed here, where every cell can be told
    try:
        failed = sum(not attempt(path, why[path]) for path in paths if path not in together)
        failed += side_by_side(together, chosen.force, chosen.jobs) if together else 0
    except KeyboardInterrupt:
        print("\ninterrupted; what was executed to its end is kept.")
        return 130
    if not failed:
        print(f"{len(paths)} notebooks, all up to date")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
