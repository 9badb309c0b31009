"""A marker that a hand can take: wherever it is put in its panel, two knobs follow. handle.js does it on a page; of this book.

The sliders of the two knobs stay, for the keyboard, for a notebook, and for who cannot drag.
"""

from dataclasses import dataclass
from typing import NamedTuple

from cmlcore.explore.drawing import Drawing, Marker
from cmlcore.explore.knobs import Knob


class Polar(NamedTuple):
    """How a handle sets an angle and a radius.

    angle:  a knob in degrees, counterclockwise from the right.
    radius: a knob that is 0 of its way at the center and all of it at the rim, evenly between.
    center: (x, y), in the panel's coordinates.
    rim:    how far the rim is from there, along x.
    """

    angle: str
    radius: str
    center: tuple
    rim: float


@dataclass(frozen=True)
class Handle(Marker):
    """A marker at (x, y) that can be dragged, or sent to where the panel is clicked.

    x, y:  names of two knobs, whose values are the panel's coordinates; with `polar`, of the two outputs where it stands.
    polar: a `Polar`, or None.
    """

    color: str = "green"
    polar: Polar = None

    def primitives(self, panel):
        (drawn,) = super().primitives(panel)
        sets = {"x": self.x, "y": self.y} if self.polar is None else self.polar._asdict()
        return [drawn | {"sets": sets}]

    @property
    def knobs(self) -> tuple:
        """Names of the two knobs that it sets."""
        return (self.x, self.y) if self.polar is None else self.polar[:2]


def check(draw: Drawing, knobs) -> None:
    """Raise ValueError for a handle that sets anything but two sliders."""
    sliders = [knob.name for knob in knobs if isinstance(knob, Knob)]
    for mark in (mark for panel in draw.panels for mark in panel.marks if isinstance(mark, Handle)):
        if wrong := [name for name in mark.knobs if name not in sliders]:
            raise ValueError(f"a handle moves sliders; {wrong[0]!r} is none of {', '.join(sliders)}.")
