"""The notebooks as Colab runs them: `python tests/colab.py [--oldest | --newest] [--python PYTHON] [chapter ...]`, or `make colab`.

In a fresh environment, once with the oldest and once with the newest supported version of what a notebook needs, without the book's
package and without the tools of its site and its tests. Each notebook runs as it is committed: its own first cell installs the
package, not editable. Git answers for the repository that the cell names with the last commit of this checkout, so that nothing
has to be published first. What checked cells print must be what the notebook stores.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import yaml

from cmlcore.press.notebooks import ANSI, CHECK_TAG, ROOT

ENDS = {"oldest": "lowest-direct", "newest": "highest"}
SECTIONS = ("in the notebooks", "the notebooks, executed")  # of requirements.txt: what Colab has, and what drives it here
RUN = "import nbformat, nbclient, sys; nb = nbformat.read(sys.argv[1], 4); nbclient.NotebookClient(nb, timeout=1200).execute(); nbformat.write(nb, sys.argv[1])"
INSTALLED = "import cmlcore, sys\n\nassert cmlcore.__file__.startswith(sys.prefix), cmlcore.__file__"


def wanted() -> str:
    """The lines of requirements.txt that make an environment like Colab's."""
    parts = re.split(r"^# ", (ROOT / "requirements.txt").read_text(), flags=re.M)
    return "".join(part.partition("\n")[2] for part in parts if part.startswith(SECTIONS))


def make(folder: Path, resolution: str, base: str) -> Path:
    """A fresh environment of the interpreter `base`, with pip, in which Python believes that it runs on Colab; gives its interpreter."""
    uv = [Path(sys.executable).with_name("uv")]
    needs = folder.with_suffix(".txt")
    needs.write_text(wanted())
    quiet = {"check": True, "env": os.environ | {"UV_LINK_MODE": "copy"}}
    subprocess.run([*uv, "venv", "--quiet", "--clear", "--seed", "--python", base, folder], **quiet)
    python = folder / "bin" / "python"
    install = [*uv, "pip", "install", "--quiet", "--python", python, "--resolution", resolution]
    subprocess.run([*install, "-r", ROOT / "pyproject.toml", "-r", needs], **quiet)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "google" / "colab").mkdir(parents=True)
    (packages / "google" / "colab" / "__init__.py").write_text("from unittest.mock import MagicMock\n\noutput = MagicMock()\n")
    (packages / "colab.pth").write_text("import google.colab\n")
    return python


def surroundings() -> dict:
    """What a notebook's process finds: this checkout in place of the published repository, data where they lie beside it."""
    url = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
    git = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{ROOT.as_uri()}.insteadOf", "GIT_CONFIG_VALUE_0": url}
    data = ROOT.parent / "shared" / "data"
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "CMLCORE_FACE", "VIRTUAL_ENV")}
    return kept | git | ({"CML_DATA": str(data)} if data.exists() and "CML_DATA" not in kept else {})


def checked(nb) -> list:
    """What the checked cells print."""
    return ["".join(o.text for o in cell.outputs if o.get("name") == "stdout") for cell in nb.cells if CHECK_TAG in cell.metadata.get("tags", [])]


def run(python: Path, notebook: Path, folder: Path) -> str:
    """Run a copy of the notebook in `folder`; gives what went wrong, empty if nothing did."""
    nb = nbformat.read(notebook, as_version=4)
    stored = checked(nb)
    nb.cells.insert(1, nbformat.v4.new_code_cell(INSTALLED))
    copy = folder / notebook.name
    nbformat.write(nb, copy)
    done = subprocess.run([python, "-c", RUN, copy], cwd=folder, env=surroundings(), capture_output=True, text=True)
    if done.returncode:
        return re.sub(ANSI, "", done.stderr)
    found = checked(nbformat.read(copy, as_version=4))
    return "".join(f"a checked cell prints\n{new}\nand not\n{old}\n" for old, new in zip(stored, found, strict=True) if old != new)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapter", nargs="*", help="only these; by default all of book/")
    for end in ENDS:
        parser.add_argument(f"--{end}", action="store_true", help=f"only with the {end} versions")
    parser.add_argument("--python", default=sys.executable, help="the interpreter, as python3.12 or a path; by default the one that runs this")
    chosen = parser.parse_args()
    chapters = {path.stem: path for path in sorted((ROOT / "book").glob("*.ipynb"))}
    if unknown := set(chosen.chapter) - chapters.keys():
        parser.error(f"no chapter {', '.join(sorted(unknown))}; there are {', '.join(chapters)}")
    notebooks = [path for name, path in chapters.items() if not chosen.chapter or name in chosen.chapter]
    failed = 0
    for end in [end for end in ENDS if getattr(chosen, end)] or ENDS:
        print(f"Making an environment with the {end} versions ...", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            python = make(Path(folder) / end, ENDS[end], chosen.python)
            print(
                subprocess.run(
                    [python, "-c", "import jax, sys; print('Python', sys.version.split()[0], 'JAX', jax.__version__)"], capture_output=True, text=True
                ).stdout,
                end="",
            )
            for notebook in notebooks:
                start = time.perf_counter()
                wrong = run(python, notebook, Path(folder))
                failed += bool(wrong)
                print(f"{end}: {notebook.stem} {'FAILED' if wrong else 'runs'}, {time.perf_counter() - start:.0f} s\n{wrong}".rstrip(), flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
