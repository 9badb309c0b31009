"""What Python computes for a notebook's explorables: `python parity_samples.py notebook.ipynb samples.json count`.

Runs those statements of the notebook that its explorables need, as they are written, and asks each explorable at settings drawn
at random over all positions of all its knobs, and at the two ends of all, right after its cell. With them goes the figure as the
page would get it now.
"""

import ast
import json
import os
import sys
import zlib
from pathlib import Path

import nbformat
import numpy as np
from slicing import needed

from cmlcore.explore import MIME, Explorable
from cmlcore.press.notebooks import code_of


def main(notebook: Path, target: Path, count: int) -> None:
    nb = nbformat.read(notebook, as_version=4)
    shown = [any(MIME in output.get("data", {}) for output in cell.outputs) for cell in nb.cells if cell.cell_type == "code"]
    made, samples, scope = [], {}, {"__name__": "__main__"}
    watch(made)
    os.chdir(notebook.parent)
    statements = needed(code_of(nb), {number for number, shows in enumerate(shown) if shows})
    for k, (number, node) in enumerate(statements):
        exec(compile(ast.Module([node], []), f"{notebook.name}, code cell {number}", "exec"), scope)
        ends = k + 1 == len(statements) or statements[k + 1][0] != number
        if ends and shown[number]:
            samples |= {one.name: sample(one, count) | {"figure": one.payload()["figure"]} for one in made if one.name not in samples}
    target.write_text(json.dumps(samples))


def watch(made):
    """Note every explorable that is made from now on."""
    initialize = Explorable.__init__

    def noted(self, *arguments, **keywords):
        initialize(self, *arguments, **keywords)
        made.append(self)

    Explorable.__init__ = noted


def sample(explorable, count):
    """Settings, as positions of the knobs, and outputs there: the two ends, then `count` at random."""
    rng = np.random.default_rng(zlib.crc32(explorable.name.encode()))
    counts = [len(knob.positions) for knob in explorable.knobs]
    places = [[0 for _ in counts], [n - 1 for n in counts]] + [[int(rng.integers(n)) for n in counts] for _ in range(count)]
    return {"samples": [{"places": place, "outputs": {name: described(value) for name, value in at(explorable, place).items()}} for place in places]}


def at(explorable, places):
    return explorable.at(**{knob.name: knob.positions[place] for knob, place in zip(explorable.knobs, places)})


def described(value):
    return {"kind": value.dtype.kind, "shape": value.shape, "data": value.ravel().tolist()}


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), int(sys.argv[3]))
