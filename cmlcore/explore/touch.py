"""Playing with the picture itself: knobs that record a reader's moves and points, and marks that a hand can press, drag and draw."""

import re
from dataclasses import dataclass, field

import jax.numpy as jnp
import numpy as np

from cmlcore.explore.drawing import _primitive
from cmlcore.explore.say import round_to

_SIGNS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Turns:
    """A record of up to `count` moves, each one of `options` (texts; at most 36): a game that a reader plays.

    The function gets an int32 array (count,): the moves made so far, then -1. In links and sentences a record is a text with one sign a
    move, "" at the start. Shown as a button for each option, one to take a move back, and how many are made.
    `positions` are some records among all that can be made. Raises ValueError for a record that cannot be.
    """

    name: str
    label: str
    options: tuple
    count: int
    start = ""
    unit = ""

    def __post_init__(self):
        object.__setattr__(self, "options", tuple(self.options))
        if not 2 <= len(set(self.options)) == len(self.options) <= len(_SIGNS):
            raise ValueError(f"turns {self.name}: 2 to {len(_SIGNS)} different options, not {list(self.options)}.")
        if self.count < 1:
            raise ValueError(f"turns {self.name}: count is {self.count}; a game has one move or more.")

    @property
    def positions(self) -> tuple:
        signs = _SIGNS[: len(self.options)]
        mixed = (signs * self.count)[: self.count]
        return tuple(dict.fromkeys(["", *signs, mixed[: self.count // 2], *(sign * self.count for sign in signs), mixed]))

    def value(self, given) -> str:
        known = set(_SIGNS[: len(self.options)])
        if not isinstance(given, str) or len(given) > self.count or not known.issuperset(given):
            raise ValueError(f"turns {self.name}: {given!r} is no record of at most {self.count} moves, each of {_SIGNS[0]} to {max(known, key=_SIGNS.index)}.")
        return given

    def array(self, given):
        moves = [_SIGNS.index(sign) for sign in self.value(given)]
        return jnp.asarray(moves + [-1] * (self.count - len(moves)), dtype=int)

    def sign(self, move: int) -> str:
        """What stands for one move in a record."""
        return _SIGNS[move]

    def word(self, given):
        return self.value(given)


@dataclass(frozen=True)
class Points:
    """Points of a panel that a reader moves, or the points of a curve that a reader draws; the function gets them as (n, 2).

    points: where they begin, n pairs (x, y). x, y: (low, high) of each. level: every x stays, and the heights alone change, as a curve's do.
    offers: {text of a button: (points, points, ...)}; pressing it takes the first, then the next, and lets the knobs named in `fresh` begin anew.

    In links a setting is the text x_y~x_y, two decimals each. What a reader pastes, x, y on a line, is read too. On a page, `Pen` is the hand;
    sliders for one point after the other, and a field for pasting, fold open. Raises ValueError, line by line, for what are no such points.
    """

    name: str
    label: str
    points: tuple
    x: tuple
    y: tuple
    level: bool = False
    offers: dict = field(default_factory=dict)
    fresh: tuple = ()
    unit = ""

    def __post_init__(self):
        object.__setattr__(self, "points", _pairs(self.points))
        object.__setattr__(self, "offers", {text: tuple(map(_pairs, each)) for text, each in self.offers.items()})
        for record in self.positions:
            self.value(record)

    @property
    def start(self) -> str:
        return _record(self.points)

    @property
    def offered(self) -> dict:
        """The settings that its buttons take, by their texts."""
        return {text: [_record(points) for points in each] for text, each in self.offers.items()}

    @property
    def positions(self) -> tuple:
        return tuple(dict.fromkeys([self.start, *(record for each in self.offered.values() for record in each)]))

    def value(self, given) -> str:
        return _record(self.read(given))

    def read(self, given) -> tuple:
        """The pairs that a text holds: a setting, or lines that somebody pastes."""
        rows = [row for row in re.split(r"[~;\n]", str(given)) if row.strip()]
        pairs = []
        for line, row in enumerate(rows, 1):
            try:
                x, y = (round(float(part), 2) + 0 for part in re.split(r"[_,\s]+", row.strip()))
            except ValueError:
                raise ValueError(f"{self.label}: line {line}, “{row.strip()}”: write two numbers, x, y.") from None
            for name, value, (low, high) in (("x", x, self.x), ("y", y, self.y)):
                if not low <= value <= high:
                    raise ValueError(f"{self.label}: line {line}: {name} = {value:g} is outside {low:g} to {high:g}.")
            pairs.append((x, y))
        if len(pairs) != len(self.points):
            raise ValueError(f"{self.label}: {len(pairs)} points; {len(self.points)} are needed, one on a line.")
        if self.level and [x for x, _ in pairs] != [x for x, _ in self.points]:
            raise ValueError(f"{self.label}: every x stays as it is; the heights alone change.")
        return tuple(pairs)

    def array(self, given):
        return jnp.asarray(self.read(given), dtype=float)

    def word(self, given):
        return self.value(given)


def _pairs(points):
    return tuple((round(float(x), 2) + 0, round(float(y), 2) + 0) for x, y in points)


def _record(points):
    return "~".join(f"{x:g}_{y:g}" for x, y in points)


@dataclass(frozen=True)
class Touch:
    """Places (x, y), each `(n,)`, of a panel: pressing it, or dragging along it, gives `knob` the value of the place nearest to the finger.

    value: n numbers: the next move of `Turns` (counted from 0), a `Choice`'s index, or a `Knob`'s number. grip: whether a ring stands where the knob is
    now. Of several marks in a panel the nearest one is held. Draws nothing else; in Jupyter and on paper it does nothing. The same can always be done with
    the knob itself, by keyboard too. Raises ValueError for lengths that differ.
    """

    x: object
    y: object
    knob: str
    value: object
    grip: bool = False

    def __post_init__(self):
        sizes = {np.shape(data) for data in (self.x, self.y, self.value) if not isinstance(data, str)}
        if len(sizes) != 1 or len(next(iter(sizes))) != 1:
            raise ValueError(f"a Touch of {self.knob} takes 1-d data of one length, not {sorted(sizes)}.")
        object.__setattr__(self, "value", tuple(round_to(value, 6) for value in np.asarray(self.value, float)))

    def primitives(self, panel):
        made = _primitive("touch", "ink", "", x=[self.x], y=[self.y], knob=self.knob, value=list(self.value))
        return [made | {"grip": True} if self.grip else made]


@dataclass(frozen=True)
class Pen:
    """A hand for `Points`, which the panel's own marks draw: a curve is drawn in strokes, other points are taken one by one.

    when: an output's name; where that is 0 the hand is off. On paper and in Jupyter it does nothing.
    """

    knob: str
    when: object = 1.0

    def primitives(self, panel):
        return [_primitive("pen", "ink", "", knob=self.knob, when=self.when)]
