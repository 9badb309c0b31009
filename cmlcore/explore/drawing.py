"""The drawing, declared once: panels of marks over named outputs. `picture.svg` draws it in Python, draw.js in a page.

Wherever a mark takes x, y, ... a text names an output (or a knob), anything else is data that never changes. Marks lower
to six primitives (path, points, area, bars, image, text), which is all that the two renderers know.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from cmlcore.explore import say

# Each keeps a contrast of 3 on white and on the dark theme, and any two stay apart for every kind of color vision.
COLORS = {"blue": "#1f6fe5", "orange": "#d9741a", "green": "#0b7d45", "purple": "#cf4fb8", "gray": "#8c8c8c"}
# What a color means, in the whole book: blue is the inner loop and what it learned, orange what a nudge does and what is made of it, purple what is
# judged, green what is slow, gray what others are compared with, and the page's own ink what is given or true. Of the rule's three forms each has its color
# wherever they stand side by side. A mark names its role, or a color where it has none.
ROLES = {
    "inner loss": "blue", "learned": "blue", "free": "blue", "matched": "blue",
    "nudged": "orange", "estimate": "orange", "one-sided": "orange",
    "outer loss": "purple", "query": "purple", "held out": "purple",
    "omega": "green", "lambda": "green", "chosen": "green", "symmetric": "green",
    "scratch": "gray", "reference": "gray",
    "truth": "ink", "exact": "ink", "data": "ink", "support": "ink",
}  # fmt: skip


@dataclass(frozen=True)
class Axis:
    """One axis: label with symbol, unit, and a range that stays while a slider moves.

    range: (first, last), shown with a little room around it; first > last turns the axis around; None takes what the
           knobs' ends and starts reach. An output's name in it is an end that moves: for what becomes more or less, and with ticks for all of it.
    ticks: where to mark it, or None for a choice; () for none.
    """

    label: str = ""
    range: tuple = None
    log: bool = False
    unit: str = ""
    ticks: tuple = None

    @property
    def title(self) -> str:
        return f"{self.label} ({self.unit})" if self.unit else self.label


def _primitive(kind, color, label, **more):
    color = ROLES.get(color, color)
    if color not in COLORS and color != "ink":
        raise ValueError(f"{color!r} is no color of the book, and no role: take one of {', '.join(COLORS)}, ink, or of {', '.join(ROLES)}.")
    return {"kind": kind, "color": COLORS.get(color, "ink"), "label": label, **more}


@dataclass(frozen=True)
class Line:
    """A curve through (x, y), each `(n,)`."""

    x: object
    y: object
    label: str = ""
    color: str = "blue"
    dash: bool = False
    width: float = 2.5

    def primitives(self, panel):
        return [_primitive("path", self.color, self.label, x=[self.x], y=[self.y], dash=self.dash, width=self.width)]


@dataclass(frozen=True)
class Dots:
    """Separate points at (x, y), each `(n,)`: data, samples."""

    x: object
    y: object
    label: str = ""
    color: str = "ink"
    size: float = 7

    def primitives(self, panel):
        return [_primitive("points", self.color, self.label, x=[self.x], y=[self.y], size=self.size)]


@dataclass(frozen=True)
class Marker:
    """The moving point: where the reader is. x and y are scalars."""

    x: object
    y: object
    label: str = ""
    color: str = "orange"
    size: float = 13

    def primitives(self, panel):
        return [_primitive("points", self.color, self.label, x=[self.x], y=[self.y], size=self.size)]


@dataclass(frozen=True)
class Band:
    """The area between `low` and `high` over x, each `(n,)`; say in the label what it is (s.e.m. over 25 tasks)."""

    x: object
    low: object
    high: object
    label: str = ""
    color: str = "blue"

    def primitives(self, panel):
        return [_primitive("area", self.color, self.label, x=[self.x], y=[self.low], upper=[self.high])]


@dataclass(frozen=True)
class Bars:
    """Bars from 0 (or from the end of a log axis) to y, at x; `width` in units of x."""

    x: object
    y: object
    label: str = ""
    color: str = "blue"
    width: float = 0.7

    def primitives(self, panel):
        return [_primitive("bars", self.color, self.label, x=[self.x], y=[self.y], width=self.width)]


@dataclass(frozen=True)
class Image:
    """A heat map of z, `(rows, columns)`, the first row on top; pixel (i, j) has its middle at y = i, x = j.

    low, high: the values of the two ends of the scale. scale: "ink" (paper to ink, for characters), or "blue" (none
    to much), or "both" (orange below the middle, blue above).
    """

    z: object
    low: float
    high: float
    scale: str = "ink"

    def primitives(self, panel):
        if self.scale not in SCALES:
            raise ValueError(f"{self.scale!r} is no scale of an image; take one of {', '.join(SCALES)}.")
        if not self.low < self.high:
            raise ValueError(f"an image's scale goes from low = {self.low} to high = {self.high}; low must be the smaller.")
        return [_primitive("image", "ink", "", z=[self.z], low=self.low, high=self.high, scale=SCALES[self.scale])]


SCALES = {
    "ink": ["#f7f5f0", "#8d8b87", "#1c1b1a"],
    "blue": ["#eef3fc", "#6b9fec", "#103a7a"],
    "both": ["#b55a0c", "#f4f2ee", "#1f5fc4"],
}


@dataclass(frozen=True)
class Arrow:
    """An arrow from (x0, y0) to (x1, y1), all scalars."""

    x0: object
    y0: object
    x1: object
    y1: object
    label: str = ""
    color: str = "ink"

    def primitives(self, panel):
        ends = {"x": [self.x0, self.x1], "y": [self.y0, self.y1]}
        return [_primitive("path", self.color, self.label, **ends, dash=False, width=2, arrow=True)]


@dataclass(frozen=True)
class Text:
    """A short text at (x, y), scalars; a template like the explorable's own sentence. `anchor`: start, middle, end."""

    x: object
    y: object
    text: str
    color: str = "ink"
    anchor: str = "middle"

    def primitives(self, panel):
        if self.anchor not in ("start", "middle", "end"):
            raise ValueError(f"a text's anchor is start, middle or end, not {self.anchor!r}.")
        return [_primitive("text", self.color, "", x=[self.x], y=[self.y], say=say.parse(self.text), anchor=self.anchor)]


@dataclass(frozen=True)
class Rule:
    """A straight line across the panel, at one x (upright) or at one y (level): a scalar."""

    x: object = None
    y: object = None
    label: str = ""
    color: str = "gray"
    dash: bool = True

    def primitives(self, panel):
        if (self.x is None) == (self.y is None):
            raise ValueError("a Rule stands at one x or at one y: give exactly one of the two.")
        x = list(panel["x"]["range"]) if self.x is None else [self.x, self.x]
        y = list(panel["y"]["range"]) if self.y is None else [self.y, self.y]
        return [_primitive("path", self.color, self.label, x=x, y=y, dash=self.dash, width=1.5)]


@dataclass(frozen=True)
class Panel:
    """One small picture. Its marks are drawn in order, their labels stand beside the title as the key.

    square: one unit of x is as long as one of y (planes); None: so it is where there is an image. Raises ValueError for more than four labels.
    """

    marks: list
    x: Axis = field(default_factory=Axis)
    y: Axis = field(default_factory=Axis)
    title: str = ""
    square: bool | None = None

    def __post_init__(self):
        labels = {mark.label for mark in self.marks if getattr(mark, "label", "")}
        if len(labels) > 4:
            raise ValueError(f"the panel {self.title!r} has {len(labels)} labels; more than four are two panels.")

    def references(self, axis: str) -> list:
        """What the marks place along "x" or "y", for a range that is not given."""
        keys = {"x": ("x", "x0", "x1"), "y": ("y", "y0", "y1", "low", "high")}[axis]
        marks = [mark for mark in self.marks if not isinstance(mark, Image)]
        return [getattr(mark, key) for mark in marks for key in keys if getattr(mark, key, None) is not None]


@dataclass(frozen=True)
class Drawing:
    """Panels side by side where there is room, below each other on a phone. `height` of one, for a width of 420."""

    panels: list
    height: int = 300


def names(drawing: Drawing) -> set:
    """Every output or knob that the drawing names."""
    found = set()
    for panel in drawing.panels:
        for mark in panel.marks:
            found |= {v for k, v in vars(mark).items() if isinstance(v, str) and k not in _WORDS}
            if isinstance(mark, Text):
                found |= say.names(say.parse(mark.text))
        found |= {end for axis in (panel.x, panel.y) for end in axis.range or () if isinstance(end, str)}
    return found


_WORDS = {"label", "color", "text", "anchor", "scale"}


def _data(mark):
    """The fields that take outputs or data."""
    return {"x", "y", "x0", "y0", "x1", "y1", "z"} | ({"low", "high"} if isinstance(mark, Band) else set())


def lower(drawing: Drawing, scopes: list) -> dict:
    """The drawing as plain data for both renderers: axes with range and ticks, primitives with references.

    scopes: the values (outputs and knobs by name) at several settings, for ranges that are not given.
    """
    return {"height": drawing.height, "panels": [_lower_panel(panel, scopes) for panel in drawing.panels]}


def _lower_panel(panel, scopes):
    _check(panel, scopes[0])
    image = next((mark for mark in panel.marks if isinstance(mark, Image)), None)
    axes = {}
    for name, axis in (("x", panel.x), ("y", panel.y)):
        if any(isinstance(end, str) for end in axis.range or ()):
            ticks = [[float(t), text] for t, text in zip(axis.ticks, _tick_texts(axis.ticks, axis.log))]
            axes[name] = {"title": axis.title, "range": list(axis.range), "log": axis.log, "ticks": ticks}
            continue
        given = tuple(float(v) for v in axis.range or ()) or (_image_range(image, name, scopes) if image else _reach(panel, name, axis, scopes))
        low, high = sorted(given)
        if not low < high or (axis.log and low <= 0):
            raise ValueError(
                f"the {name} axis of panel {panel.title!r} would go from {given[0]} to {given[1]}"
                + ("; a log axis stays above 0 (floor the values with jnp.maximum)." if axis.log else "; give it a range.")
            )
        ticks = axis.ticks if axis.ticks is not None else () if image else _ticks(low, high, axis.log)
        axes[name] = {
            "title": axis.title,
            "range": list(given) if image else _room(given, axis.log),
            "log": axis.log,
            "ticks": [[float(t), text] for t, text in zip(ticks, _tick_texts(ticks, axis.log))],
        }
    lowered = {"title": panel.title, "square": image is not None if panel.square is None else panel.square, **axes}
    lowered["marks"] = [_pack(p) for mark in panel.marks for p in mark.primitives(lowered)]
    return lowered


def _check(panel, scope):
    """Raises ValueError for data of shapes that do not belong together."""
    for mark in panel.marks:
        kind = type(mark).__name__
        size = {k: np.shape(scope[v] if isinstance(v, str) else v) for k, v in vars(mark).items() if k in _data(mark) and v is not None}
        told = ", ".join(f"{key} {shape}" for key, shape in size.items())
        ranks = {len(shape) for shape in size.values()}
        if isinstance(mark, Image) and (ranks != {2} or 1 in size["z"]):
            raise ValueError(f"panel {panel.title!r}: an Image takes 2 or more rows and columns, not {told}.")
        if isinstance(mark, (Line, Dots, Band, Bars)) and (ranks != {1} or len(set(size.values())) > 1):
            raise ValueError(f"panel {panel.title!r}: a {kind} takes 1-d data of one length, not {told}.")
        if isinstance(mark, (Marker, Arrow, Text, Rule)) and ranks - {0}:
            raise ValueError(f"panel {panel.title!r}: a {kind} takes single numbers, not {told}.")


def _pack(primitive):
    """Constant data as one text of numbers in a list: notebooks put every element of a list on a line of its own."""
    return {
        key: [ref if isinstance(ref, str) else [pack(np.asarray(ref, float))] for ref in value] if key in ("x", "y", "upper", "z") else value
        for key, value in primitive.items()
    }


def pack(array, digits: int = 4) -> str:
    """Numbers at so many significant digits, space between; rows of a 2-d array separated by ";"."""
    if array.ndim == 2:
        return ";".join(pack(row, digits) for row in array)
    return " ".join(brief(value, digits) for value in array.ravel())


def brief(value, digits: int = 4) -> str:
    """The shortest text of a number at so many significant digits."""
    text = f"{say.round_to(value, digits):.{digits}g}"
    if "e" in text:
        mantissa, _, exponent = text.partition("e")
        return f"{mantissa}e{int(exponent)}"
    return text.replace("0.", ".", 1) if 0 < abs(float(text)) < 1 else text


def _image_range(image, name, scopes):
    rows, columns = np.shape(scopes[0][image.z] if isinstance(image.z, str) else image.z)
    return (-0.5, columns - 0.5) if name == "x" else (rows - 0.5, -0.5)


def _reach(panel, name, axis, scopes):
    """The range of what is drawn over the given settings."""
    refs = panel.references(name)
    parts = [np.ravel(scope[ref] if isinstance(ref, str) else ref) for ref in refs for scope in scopes]
    if name == "y" and not axis.log and any(isinstance(mark, Bars) for mark in panel.marks):
        parts.append([0.0])
    if not parts:
        raise ValueError(f"panel {panel.title!r} draws nothing along {name}: give this axis a range.")
    values = np.concatenate(parts).astype(float)
    low, high = float(values.min()), float(values.max())
    if low < high:
        return low, high
    return (low / 2, high * 2) if axis.log else (low - 0.5, high + 0.5)


def _room(ends, log):
    """A little more on both sides, so that a point at the end is not cut in half."""
    first, last = np.log10(ends) if log else ends
    room = 0.03 * (last - first)
    wide = np.array([first - room, last + room])
    return [float(v) for v in (10**wide if log else wide)]


def _ticks(low, high, log):
    if log:
        first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
        every = max(1, math.ceil((last - first + 1) / 5))
        if last - first >= 1:
            return [10.0**p for p in range(first, last + 1) if (p - last) % every == 0]
        return [m * 10.0**p for p in range(first - 1, last + 1) for m in (1, 2, 5) if low <= m * 10.0**p <= high]
    rough = (high - low) / 5
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(m * size for m in (1, 2, 2.5, 5, 10) if m * size >= rough * 0.999)
    return [round(k * step, 12) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _tick_texts(ticks, log):
    powers = [math.log10(t) for t in ticks] if log else []
    if powers and all(p % 1 == 0 for p in powers) and (min(powers) < -3 or max(powers) > 4):
        return [say.power(round(p)) for p in powers]
    return [say.show(t, "g", 4) for t in ticks]
