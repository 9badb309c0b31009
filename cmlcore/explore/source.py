"""Where the page takes its values from, with no kernel: recorded beforehand, or computed there.

A source is a function of an explorable that returns plain data with a `kind`; page.js knows each kind.
"""

import itertools
import json

import numpy as np

from cmlcore.explore.beside import Beside
from cmlcore.explore.drawing import pack
from cmlcore.explore.program import Unsupported, export
from cmlcore.explore.say import round_to
from cmlcore.explore.strokes import Strokes
from cmlcore.explore.touch import Points, Turns

DIGITS = 5  # of a recorded number


def grid(limit_kb: float = 100):
    """Record every setting beforehand: all combinations of the knobs' positions, at 5 significant digits, so within 5e-5.

    What does not change with a knob is stored once for it. Raises ValueError where the record would pass `limit_kb`
    thousand bytes, or a setting gives a value that is not finite.
    """

    def record(explorable):
        knobs = explorable.knobs
        if records := [knob.name for knob in knobs if isinstance(knob, (Points, Strokes, Turns))]:
            raise ValueError(f"{explorable.name}: {records[0]} has more records than can be stored; use source=traced().")
        settings = itertools.product(*(knob.positions for knob in knobs))
        outputs = [explorable.at(**dict(zip((k.name for k in knobs), setting))) for setting in settings]
        counts = [len(knob.positions) for knob in knobs]
        values = {name: _compact(np.stack([o[name] for o in outputs]), counts) for name in outputs[0]}
        size = len(json.dumps(values))
        if size > limit_kb * 1000:
            each = ", ".join(f"{name} {len(v['data']) // 1000} kB" for name, v in values.items() if len(v["data"]) > 1000)
            raise ValueError(
                f"{explorable.name}: a grid of {' × '.join(map(str, counts))} settings takes {size / 1000:.0f} kB, over the "
                f"{limit_kb:g} kB it may take ({each}). Lower a knob's points, return shorter arrays, or use source=traced()."
            )
        return {"kind": "grid", "values": values}

    return record


def _compact(array, counts):
    """One output over the grid: its shape, the knobs that it follows, and the numbers, knobs first."""
    whole = array.dtype.kind in "iub"
    rounded = array if whole else np.array([round_to(value, DIGITS) for value in array.ravel()])
    rounded = rounded.reshape(*counts, *array.shape[1:])
    follows = [k for k in range(len(counts)) if not (rounded == rounded.take([0], axis=k)).all()]
    for k in set(range(len(counts))) - set(follows):
        rounded = rounded.take([0], axis=k)
    data = " ".join(str(int(value)) for value in rounded.ravel()) if whole else pack(rounded.ravel(), DIGITS)
    return {"shape": list(array.shape[1:]), "follows": follows, "data": data}


def traced(beside: Beside | None = None):
    """Export the traced program itself: the page computes at every position, with the package's numbers.

    beside: constants that are not kept with the figure, but in a file beside the page.

    Raises ValueError where the function uses something that the page cannot compute; record a `grid()` then.
    """

    def record(explorable):
        inputs = {knob.name: knob.array(knob.start) for knob in explorable.knobs}
        try:
            program = export(explorable.compute, **inputs)
        except Unsupported as problem:
            raise ValueError(f"{explorable.name} cannot compute in the page: {problem} Record it with source=grid().") from problem
        return {"kind": "program", "program": beside.lent(program), "beside": beside.key} if beside else {"kind": "program", "program": program}

    return record
