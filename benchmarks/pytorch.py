"""The PyTorch column: a process of its own, asked for one run at a time, so that its runs alternate with JAX's."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import numpy as np

from benchmarks.clock import Case

HERE = Path(__file__).parent
MISSING = "PyTorch is not installed: `make bench` puts it into .venv-bench, or name a Python that has it in BENCH_PYTHON"


def interpreter() -> str | None:
    """A Python that has PyTorch: BENCH_PYTHON, `.venv-bench`, or this one; None where there is none."""
    own = HERE.parent / ".venv-bench" / "bin" / "python"
    candidates = [os.environ.get("BENCH_PYTHON"), str(own) if own.exists() else None]
    for python in filter(None, candidates):
        if subprocess.run([python, "-c", "import torch"], capture_output=True).returncode == 0:
            return python
    return sys.executable if find_spec("torch") else None


def named(tree, prefix: str) -> dict[str, np.ndarray]:
    """The leaves of a tree of arrays by their paths, as the other process reads them."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {prefix + jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf) for path, leaf in leaves}


class Worker:
    """`benchmarks/pytorch_<name>.py` in its own process; `about` is what it answered first."""

    def __init__(self, python: str, name: str, arrays: dict):
        with TemporaryDirectory() as folder:
            path = Path(folder) / "arrays.npz"
            np.savez(path, **arrays)
            command = [python, HERE / "pytorch_worker.py", f"pytorch_{name}", path]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self.about = self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the PyTorch process ended early; its own message stands above.")
        return json.loads(line)

    def seconds(self, case: str) -> float:
        print(case, file=self.process.stdin, flush=True)
        return self._answer()

    def cases(self) -> dict[str, Case]:
        case = lambda name: Case(lambda: self.seconds(name), self.about["precision"], self.about["steps"])
        return {f"PyTorch: {name}": case(name) for name in self.about["first"]}

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
