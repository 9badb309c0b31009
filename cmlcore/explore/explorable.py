"""An explorable: a function, its knobs, a drawing, a description. One object, shown alike everywhere."""

import inspect
import itertools
import os
import re
from functools import cached_property
from typing import NamedTuple

import jax
import numpy as np

from cmlcore.explore import drawing, handle, page, say
from cmlcore.explore.source import traced
from cmlcore.explore.strokes import Strokes
from cmlcore.explore.touch import Pen, Points, Touch
from cmlcore.extras import need

MIME = "application/vnd.cmlcore.explorable+json"


class Row(NamedTuple):
    """One output in the table: a scalar becomes a row, a 1-d array a column."""

    name: str
    label: str
    unit: str = ""


class Table(NamedTuple):
    """A small table of texts: the heads of its columns, and its rows."""

    head: list
    rows: list


class Explorable:
    """A pure function of knobs that a reader can play with.

    name:    `a-z0-9-`, unique on a page: its place in links.
    title:   one line.
    compute: `compute(**knobs) -> {name: array}` with scalars, `(n,)` and `(rows, columns)` arrays, all finite. Jitted here,
             once; knobs arrive as traced scalars, so that no move compiles again.
    knobs:   `Knob`s and `Choice`s, one for each argument of `compute`.
    draw:    a `Drawing` over outputs and knobs.
    say:     the sentence that describes the figure, a template (see `cmlcore.explore.say`).
    table:   `Row`s or names of outputs; all scalars if not given.
    source:  where a page without kernel takes values from: the traced program, `traced()`, or a recorded `grid()` for heavy ones.

    Shows itself as live widgets in a notebook, and as a bundle for the page where CMLCORE_FACE is `page`. Raises
    ValueError, with what to do, for knobs, outputs and drawing that do not fit each other.
    """

    def __init__(self, name, title, compute, knobs, draw, say, table=None, source=traced()):
        self.name, self.title, self.compute, self.knobs, self.draw, self.source = name, title, compute, tuple(knobs), draw, source
        self._jitted = jax.jit(lambda settings: compute(**settings))
        self._last = None, {}  # picture, sentence and table of one setting ask three times
        self._check_knobs()
        self.sentence = _parse(say)
        start = self.at()
        self.whole = sorted(key for key, value in start.items() if value.dtype.kind in "iub")
        self._check_names(start)
        self._check_touches()
        self.rows = self._check_table(table, start)

    # ---- what it computes

    def at(self, **settings) -> dict:
        """The outputs, numpy arrays by name, at these settings (defaults for the rest). Raises ValueError if not finite."""
        settings = self._complete(settings)
        if settings != self._last[0]:
            outputs = self._jitted({knob.name: knob.array(settings[knob.name]) for knob in self.knobs})
            self._last = settings, self._check_outputs(jax.device_get(outputs), settings)
        return dict(self._last[1])

    def describe(self, **settings) -> str:
        """The sentence at these settings."""
        return self.describe_outputs(self.at(**settings), **settings)

    def describe_outputs(self, outputs, **settings) -> str:
        """The sentence for outputs that were computed elsewhere at these settings: by the page."""
        return say.sentence(self.sentence, say.words(self._knob_words(settings) | outputs))

    def table(self, **settings) -> list:
        """The table at these settings: a `Table` of the scalars, and one of each length of 1-d outputs."""
        return self.tabulate(self.at(**settings))

    def tabulate(self, outputs) -> list:
        """The table of outputs that were computed elsewhere."""
        scalars = [[row.label, _cell(outputs[row.name], row.unit)] for row in self.rows if outputs[row.name].ndim == 0]
        tables = [Table(["Quantity", "Value"], scalars)] if scalars else []
        for length in dict.fromkeys(len(outputs[row.name]) for row in self.rows if outputs[row.name].ndim == 1):
            columns = [row for row in self.rows if outputs[row.name].shape == (length,)]
            heads = [f"{row.label} ({row.unit})" if row.unit else row.label for row in columns]
            cells = [[_cell(outputs[row.name][i], "") for row in columns] for i in page.thin(length)]
            tables.append(Table(heads, cells))
        return tables

    # ---- how it shows itself

    @cached_property
    def lowered(self) -> dict:
        """The drawing as plain data, with its ranges; looks at all combinations of the knobs' ends and starts."""
        ends = ((k.positions[0], k.start, k.positions[-1]) for k in self.knobs)
        settings = (dict(zip((k.name for k in self.knobs), setting)) for setting in itertools.product(*ends))
        return drawing.lower(self.draw, [self.scope(**setting) for setting in settings])

    def scope(self, **settings) -> dict:
        """Outputs and knobs by name, as the drawing sees them."""
        return self._knob_words(settings) | self.at(**settings)

    def payload(self) -> dict:
        """All that the page needs, as plain data; `page.render_html` makes the page's part of it."""
        return page.payload(self)

    def live(self):
        """The widgets that drive the jitted function in a notebook. Needs ipywidgets."""
        from cmlcore.explore.live import live

        return live(self)

    def plotly(self, **settings):
        """The drawing at these settings as a figure of plotly, for a talk or a paper. Needs plotly."""
        from cmlcore.explore import as_plotly

        return as_plotly.figure(self, **settings)

    def _ipython_display_(self):
        display = need("IPython.display", "book").display
        if os.environ.get("CMLCORE_FACE") != "page":
            display(self.live())
            return
        payload = self.payload()
        display({MIME: payload, "text/html": page.still_html(payload), "text/plain": self.describe()}, raw=True)

    # ---- what must fit together

    def _complete(self, settings):
        known = {knob.name: knob.start for knob in self.knobs}
        for key in settings.keys() - known.keys():
            raise ValueError(f"{self.name} has no knob {key!r}; its knobs are {', '.join(known)}.")
        return known | settings

    def _knob_words(self, settings):
        settings = self._complete(settings)
        return {knob.name: knob.word(settings[knob.name]) for knob in self.knobs}

    def _check_knobs(self):
        if not re.fullmatch(r"[a-z][a-z0-9-]*", self.name):
            raise ValueError(f"the name {self.name!r} goes into links: use a-z, 0-9 and -, and start with a letter.")
        given = [knob.name for knob in self.knobs]
        if not given or len(set(given)) < len(given):
            raise ValueError(f"{self.name}: one or more knobs with different names, not {given}.")
        parameters = inspect.signature(self.compute).parameters.values()
        takes = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        needs = {p.name for p in parameters if p.name in takes and p.default is p.empty}
        if surplus := set(given) - takes:
            raise ValueError(f"{self.name}: compute takes no argument {_list(surplus)}; it takes {_list(takes)}. Rename the knob.")
        if missing := needs - set(given):
            raise ValueError(f"{self.name}: compute needs {_list(missing)}; give it a knob, or a default value.")

    def _check_outputs(self, outputs, settings):
        if not isinstance(outputs, dict) or not outputs:
            raise ValueError(f"{self.name}: compute must return a dict of arrays by name, not {type(outputs).__name__}.")
        checked = {}
        for key, value in outputs.items():
            checked[key] = value = np.asarray(value)
            if value.ndim > 2 or value.dtype.kind not in "fiub":
                raise ValueError(f"{self.name}: output {key!r} has shape {value.shape} and type {value.dtype}; return real numbers of at most 2 dimensions.")
            if not np.isfinite(value).all():
                where = ", ".join(f"{k} = {v}" for k, v in settings.items())
                raise ValueError(
                    f"{self.name}: output {key!r} is not finite at {where}. Narrow the knob, repeat the last "
                    "good value, or put a number in its place (jnp.nan_to_num, then jnp.clip)."
                )
        return checked

    def _check_touches(self):
        for mark in (mark for panel in self.draw.panels for mark in panel.marks if isinstance(mark, (Pen, Touch))):
            knob = next((knob for knob in self.knobs if knob.name == mark.knob), None)
            kind = type(mark).__name__
            if knob is None:
                raise ValueError(f"{self.name}: a {kind} sets the knob {mark.knob!r}; the knobs are {', '.join(k.name for k in self.knobs)}.")
            if isinstance(mark, Pen) != isinstance(knob, Points):
                raise ValueError(f"{self.name}: a Pen moves Points, and they need one; {knob.name} is a {type(knob).__name__}.")
            if isinstance(mark, Pen):
                continue
            ends = (knob.low, knob.high) if hasattr(knob, "low") else (0, len(knob.names if isinstance(knob, Strokes) else knob.options) - 1)
            if outside := [value for value in mark.value if not ends[0] <= value <= ends[1]]:
                raise ValueError(f"{self.name}: a Touch gives {knob.name} the value {outside[0]:g}, outside {ends[0]:g} to {ends[1]:g}.")

    def _check_table(self, table, start):
        if table is None:
            table = [key for key, value in start.items() if value.ndim == 0]
        rows = [Row(entry, entry.replace("_", " ")) if isinstance(entry, str) else entry for entry in table]
        for row in rows:
            if row.name not in start or start[row.name].ndim == 2:
                raise ValueError(
                    f"{self.name}: the table asks for {row.name!r}; scalar and 1-d outputs are {_list(k for k, v in start.items() if v.ndim < 2)}."
                )
        return rows

    def _check_names(self, start):
        knobs = {knob.name for knob in self.knobs}
        if both := knobs & start.keys():
            raise ValueError(f"{self.name}: {_list(both)} is a knob and an output; rename the output.")
        handle.check(self.draw, self.knobs)
        if unknown := drawing.names(self.draw) - knobs - start.keys():
            raise ValueError(f"{self.name}: the drawing names {_list(unknown)}; compute returns {_list(start)}.")
        spoken = say.names(self.sentence)
        if unknown := spoken - knobs - start.keys():
            raise ValueError(f"{self.name}: the sentence names {_list(unknown)}; compute returns {_list(start)}.")
        if arrays := {key for key in spoken - knobs if start[key].ndim}:
            raise ValueError(f"{self.name}: the sentence names {_list(arrays)}, not a single number; return a scalar for it.")


_parse = say.parse  # the argument `say` hides the module


def _cell(value, unit):
    text = str(int(value)) if value.dtype.kind in "iub" else say.show(say.round_to(value, 4), "g", 4)
    return f"{text} {unit}".strip()


def _list(names):
    return ", ".join(sorted(names))
