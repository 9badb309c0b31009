"""Controls: what a reader turns. Each has a fixed list of positions, the same in Jupyter and in the page."""

import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from cmlcore.explore.say import round_to, show


@dataclass(frozen=True)
class Knob:
    """A slider over numbers.

    name:   the argument of the function that it sets, and its key in a link.
    label:  what a reader reads, symbol included ("nudge β").
    low, high, start: ends and default, in `unit`.
    log:    positions at equal ratios instead of equal distances.
    points: how many positions.
    whole:  integers; the function gets an int32.
    play:   a button beside it runs through the positions: for steps of learning. The slider scrubs.

    `positions` are rounded so that what is shown is what is computed; the one nearest `start` is `start` itself.
    Raises ValueError for a start outside the ends, ends in the wrong order, and a log scale that touches 0.
    """

    name: str
    label: str
    low: float
    high: float
    start: float
    log: bool = False
    points: int = 25
    whole: bool = False
    unit: str = ""
    play: bool = False

    def __post_init__(self):
        if not self.name.isidentifier():
            raise ValueError(f"a knob sets an argument of the function: {self.name!r} is no name of one.")
        if not self.low < self.high:
            raise ValueError(f"knob {self.name}: low is {self.low} and high {self.high}; low must be the smaller.")
        if not self.low <= self.start <= self.high:
            raise ValueError(f"knob {self.name}: start is {self.start}, outside {self.low} to {self.high}.")
        if self.log and self.low <= 0:
            raise ValueError(f"knob {self.name}: a log scale starts above 0, not at {self.low}.")
        if self.points < 2:
            raise ValueError(f"knob {self.name}: points is {self.points}; a knob has 2 or more positions.")
        if self.whole and any(value != int(value) for value in (self.low, self.high, self.start)):
            raise ValueError(f"knob {self.name} is whole: low, high and start must be integers.")

    @property
    def positions(self) -> tuple:
        spread = np.geomspace if self.log else np.linspace
        values = [self._tidy(value) for value in spread(self.low, self.high, self.points)]
        nearest = int(np.argmin([abs(self._scale(value) - self._scale(self.start)) for value in values]))
        values[nearest] = self.start
        values[0], values[-1] = (self.low if nearest else self.start), (self.high if nearest < len(values) - 1 else self.start)
        return tuple(int(v) if self.whole else float(v) for v in sorted(set(values)))

    def _scale(self, value):
        return math.log(value) if self.log else value

    def _tidy(self, value):
        if self.whole:
            return round(value)
        if self.log:
            return round_to(value, 3)
        step = (self.high - self.low) / (self.points - 1)
        return round(float(value), 1 - math.floor(math.log10(step)))

    @property
    def options(self) -> tuple:
        """What a reader sees at each position."""
        return tuple(show(value, "g", 6) for value in self.positions)

    def value(self, given):
        """The number that the function gets, checked: anything between the ends, not positions alone."""
        if not self.low <= given <= self.high:
            raise ValueError(f"knob {self.name}: {given} is outside {self.low} to {self.high}.")
        return int(given) if self.whole else float(given)

    def array(self, given):
        return jnp.asarray(self.value(given), dtype=int if self.whole else float)

    def word(self, given):
        """What stands for it in a sentence."""
        return self.value(given)


@dataclass(frozen=True)
class Choice:
    """A list of named options; the function gets the index, an int32 (for `jax.lax.switch` or an array's row).

    In sentences and links it is the option's text. Raises ValueError for a start that is no option.
    """

    name: str
    label: str
    options: tuple
    start: str = None
    unit = ""

    def __post_init__(self):
        object.__setattr__(self, "options", tuple(self.options))
        if self.start is None:
            object.__setattr__(self, "start", self.options[0])
        if len(self.options) < 2 or len(set(self.options)) < len(self.options):
            raise ValueError(f"choice {self.name}: two or more different options, not {list(self.options)}.")
        self.value(self.start)

    @property
    def positions(self) -> tuple:
        return self.options

    def value(self, given) -> int:
        if given not in self.options:
            raise ValueError(f"choice {self.name}: {given!r} is none of {', '.join(self.options)}.")
        return self.options.index(given)

    def array(self, given):
        return jnp.asarray(self.value(given), dtype=int)

    def word(self, given):
        self.value(given)
        return given
