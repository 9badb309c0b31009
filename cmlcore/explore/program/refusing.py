"""What the page cannot compute is refused while it is exported: what it is, the line that used it, and a way out."""

import linecache
import os
import traceback

import jax
import numpy as np

DRAW_BEFORE = ". Draw them in Python before exporting and let the function close over them as constants, so that page and package see the same numbers."
ADD_IT = ". Compute that part in Python before exporting, or add the primitive to cmlcore/explore/program, in Python and in JavaScript."


class Unsupported(NotImplementedError):
    """A function uses something that the page cannot compute; the message names it and the line that used it.

    Made of `what` and `advice`; the place goes between them, once the nearest equation that knows its line is found.
    """

    def __init__(self, what: str, advice: str, place: str = ""):
        super().__init__(f"{what}{place}{advice}")
        self.what, self.advice, self.place = what, advice, place


def place(eqn) -> str:
    """` (at file.py:12: code)`, the innermost line outside jax that made this equation; nothing if jax kept none."""
    trace = eqn.source_info.traceback
    if trace is None:
        return ""
    home = os.path.dirname(jax.__file__) + os.sep
    frames = [f for f in traceback.extract_tb(trace.as_python_traceback()) if not f.filename.startswith(home)]
    if not frames:
        return ""
    last = frames[-1]
    line = linecache.getline(last.filename, last.lineno).strip()
    return f" (at {os.path.basename(last.filename)}:{last.lineno}: {line})" if line else f" (at {last.filename}:{last.lineno})"


def held(array: np.ndarray) -> None:
    """Refuse whole numbers that a double cannot hold: the page has no other int64."""
    if array.dtype == np.int64:
        for value in array[np.abs(array) > 2**53].tolist():
            if int(float(value)) != value:
                raise Unsupported(
                    f"the page holds an int64 exactly up to 2^53, and a constant is {value}",
                    ". Use a smaller number, or float64, or compute that part in Python before exporting.",
                )
