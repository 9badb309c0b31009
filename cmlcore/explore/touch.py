"""Playing with the picture itself: a knob that records a reader's moves, and places of a panel that a finger sets a knob with."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from cmlcore.explore.drawing import _primitive

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
class Touch:
    """Places (x, y), each `(n,)`, of a panel: pressing it, wherever, gives `knob` the value of the place nearest to the finger.

    value: n numbers: the next move of `Turns` (counted from 0), a `Choice`'s index, or a `Knob`'s number. Draws nothing; in Jupyter and on
    paper it does nothing. The same can always be done with the knob itself, by keyboard too. Raises ValueError for lengths that differ.
    """

    x: object
    y: object
    knob: str
    value: object

    def __post_init__(self):
        sizes = {np.shape(data) for data in (self.x, self.y, self.value) if not isinstance(data, str)}
        if len(sizes) != 1 or len(next(iter(sizes))) != 1:
            raise ValueError(f"a Touch of {self.knob} takes 1-d data of one length, not {sorted(sizes)}.")

    def primitives(self, panel):
        return [_primitive("touch", "ink", "", x=[self.x], y=[self.y], knob=self.knob, value=[float(v) for v in np.asarray(self.value)])]
