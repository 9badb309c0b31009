"""A knob that is drawn: a reader's strokes, rendered as Omniglot's were, 105 x 105 pixels and then 28 x 28. strokes.js is its twin in the page."""

from dataclasses import dataclass, field
from functools import lru_cache

import jax.numpy as jnp
import numpy as np

PAPER, SMALL = 105, 28  # pixels to a side
PEN = 5  # pixels wide, as the strokes of Omniglot are
_SIGNS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Strokes:
    """Drawings with a pen, one for each of `names`; the function gets them as (names, 28, 28), ink 255 on paper 0.

    names:  what is drawn at each place, for a list. The last place follows the `first` ones where a reader goes on from one to the next.
    offers: {text of a button: (setting, setting, ...)}; pressing it takes the first, then the next. The first of the first is the start.

    A setting is a text: drawings with ~ between them, their strokes with - between, every point two signs for x and two for y, base 36, of 0 to 104
    from the upper left (see `written`). Raises ValueError for what is no such text.
    """

    name: str
    label: str
    names: tuple
    first: int
    offers: dict = field(default_factory=dict)
    unit = ""

    def __post_init__(self):
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "offers", {text: tuple(each) for text, each in self.offers.items()})
        if not 0 < self.first < len(self.names):
            raise ValueError(f"strokes {self.name}: first is {self.first}; of {len(self.names)} drawings, one or more stand before the last.")
        if not self.offers or not all(self.offers.values()):
            raise ValueError(f"strokes {self.name}: somebody may not draw; offer one setting or more.")
        for record in self.positions:
            self.value(record)

    @property
    def start(self) -> str:
        return next(iter(self.offers.values()))[0]

    @property
    def empty(self) -> str:
        """Nothing is drawn."""
        return "~" * (len(self.names) - 1)

    @property
    def positions(self) -> tuple:
        return tuple(dict.fromkeys([*(record for each in self.offers.values() for record in each), self.empty]))

    def value(self, given) -> str:
        drawings = str(given).split("~")
        if len(drawings) != len(self.names):
            raise ValueError(f"{self.label}: {len(drawings)} drawings; {len(self.names)} are needed, with ~ between them.")
        for name, drawing in zip(self.names, drawings):
            try:
                read(drawing)
            except ValueError as problem:
                raise ValueError(f"{self.label}: {name}: {problem}") from None
        return str(given)

    def array(self, given):
        return jnp.asarray(np.stack([image(drawing) for drawing in self.value(given).split("~")]), dtype=float)

    def word(self, given):
        return self.value(given)


# ---- texts -----------------------------------------------------------------------------------------------------------


def written(strokes) -> str:
    """Strokes, each a list of points (x, y) from 0 to 104, as the text of one drawing."""
    sign = lambda value: "".join(_SIGNS[k] for k in divmod(min(max(int(value + 0.5), 0), PAPER - 1), 36))
    return "-".join("".join(sign(x) + sign(y) for x, y in stroke) for stroke in strokes)


def read(drawing: str) -> list:
    """The strokes of a text, each an array (points, 2). Raises ValueError for what is none."""
    strokes = []
    for text in drawing.split("-") if drawing else []:
        if not text or len(text) % 4 or not set(text) <= set(_SIGNS):
            raise ValueError(f"“{text}” is no stroke: four signs a point, of 0 to 9 and a to z.")
        numbers = np.array([int(text[k : k + 2], 36) for k in range(0, len(text), 2)])
        if numbers.max() >= PAPER:
            raise ValueError(f"“{text}” leaves the paper, which ends at {PAPER - 1}.")
        strokes.append(numbers.reshape(-1, 2))
    return strokes


# ---- ink -------------------------------------------------------------------------------------------------------------


@lru_cache(512)
def image(drawing: str) -> np.ndarray:
    """One drawing's text as 28 x 28 pixels, uint8, ink 255: what Omniglot's builder would have made of it."""
    return 255 - shrunk(np.where(inked(read(drawing)), 0, 255))


def inked(strokes) -> np.ndarray:
    """Which of the 105 x 105 pixels a round pen leaves ink on: those whose middle is within half its width of a stroke. In whole numbers, so exact."""
    y, x = np.mgrid[:PAPER, :PAPER]
    ink = np.zeros((PAPER, PAPER), bool)
    for stroke in strokes:
        for (ax, ay), (bx, by) in zip(stroke, stroke[1:] if len(stroke) > 1 else stroke):
            dx, dy, px, py = bx - ax, by - ay, x - ax, y - ay
            length, along = dx * dx + dy * dy, px * dx + py * dy
            beside = 4 * (px * dy - py * dx) ** 2 <= PEN**2 * length
            ends = 4 * np.minimum(px**2 + py**2, (x - bx) ** 2 + (y - by) ** 2) <= PEN**2
            ink |= ends | ((along > 0) & (along < length) & beside)
    return ink


def shrunk(paper) -> np.ndarray:
    """105 x 105 pixels of 0 to 255 at 28 x 28, by Pillow's bilinear filter bit for bit: rows first, both passes in whole numbers."""
    weights = _weights()
    half = lambda pixels: np.clip((pixels @ weights.T + (1 << 21)) >> 22, 0, 255)
    return half(half(np.asarray(paper, np.int64)).T).T.astype(np.uint8)


@lru_cache(1)
def _weights() -> np.ndarray:
    """(28, 105), 22 bits behind the point: triangles as wide as 3.75 pixels to either side."""
    scale = PAPER / SMALL
    table = np.zeros((SMALL, PAPER), np.int64)
    for k in range(SMALL):
        center = (k + 0.5) * scale
        low, high = max(int(center - scale + 0.5), 0), min(int(center + scale + 0.5), PAPER)
        heights = [max(1 - abs((place - center + 0.5) * (1 / scale)), 0.0) for place in range(low, high)]
        whole = sum(heights)
        table[k, low:high] = [int(0.5 + height / whole * (1 << 22)) for height in heights]
    return table
