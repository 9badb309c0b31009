"""Four small alphabets that nobody has met: drawn for this book as strokes in code, for whoever does not draw in the page.

A character is a text: strokes with | between, points "x,y" from 0 to 10 with a space between, the upper left being 0,0. A stroke goes smoothly through its
points; a point that is written twice is a corner. Two drawings of a character differ as two of one hand do: see `drawn`.
"""

import numpy as np

ALPHABETS = {
    "Anglers": (
        "3,1.5 3,7 4.5,8.8 6.5,7.6 6.4,5.8",
        "3,1.2 3,1.2 7,4.4 3.2,7 5.4,9",
        "2,8 2,8 8,8 8,8 | 5,8 5,3 6.4,1.6 8,2.8",
        "2.2,8.6 3,3.2 5,1.4 7,3.2 7.6,5.6 | 5,5.2 5,8.8",
        "1.8,2.2 4.6,1.8 5.2,4.6 4.8,8.8 4.8,8.8 8.4,7.4",
    ),
    "Tents": (
        "1.6,8.6 1.6,8.6 5,1.6 5,1.6 8.4,8.6 8.4,8.6",
        "1.6,8.4 1.6,8.4 5,1.8 5,1.8 8.4,8.4 8.4,8.4 1.6,8.4 1.6,8.4",
        "2,1.8 2,1.8 5,8.4 5,8.4 8,1.8 8,1.8 | 3.4,4.8 3.4,4.8 6.6,4.8 6.6,4.8",
        "1.8,6.4 1.8,6.4 3.6,2 3.6,2 5.2,6.4 5.2,6.4 6.8,2 6.8,2 8.6,6.4 8.6,6.4 | 1.8,8.6 1.8,8.6 8.4,8.6 8.4,8.6",
        "5,1.4 5,1.4 5,8.8 5,8.8 | 2,6 2,6 5,3 5,3 8,6 8,6",
    ),
    "Moons": (
        "6.8,1.8 3.6,2.8 2.4,5.2 3.8,8 7,8.6 | 5.6,5.2 5.6,5.2 8,5.2 8,5.2",
        "5,2 2.6,3.4 2.6,6.8 5,8.2 7.4,6.8 7.4,3.4 5,2 | 5,5.1",
        "7,1.8 3.6,2.8 2.4,5.2 3.8,7.8 7,8.6 | 7,1.8 7,1.8 7,8.6 7,8.6",
        "2,3.6 3,7 5.2,8.2 7.4,7 8.2,3.6 | 5.1,1.6 5.1,1.6 5.1,5.4 5.1,5.4",
        "5,5 6.2,4.2 7,5.6 5.2,7.2 3,5.6 4,2.6 7.6,1.8",
    ),
    "Ladders": (
        "3,1.4 3,1.4 3,8.8 3,8.8 | 7,1.4 7,1.4 7,8.8 7,8.8 | 3,3.6 3,3.6 7,3.6 7,3.6 | 3,6.6 3,6.6 7,6.6 7,6.6",
        "2.6,2 2.6,2 7.4,2 7.4,2 7.4,8 7.4,8 2.6,8 2.6,8 2.6,2 2.6,2 | 5,2 5,2 5,8 5,8",
        "2,2.4 2,2.4 8,2.4 8,2.4 | 2,5.2 2,5.2 8,5.2 8,5.2 | 5,2.4 5,2.4 5,8.8 5,8.8",
        "7.6,1.6 7.6,1.6 7.6,8.4 7.6,8.4 2.2,8.4 2.2,8.4 | 7.6,5 7.6,5 4,5 4,5",
        "2.2,2 2.2,2 7.8,8.4 7.8,8.4 | 7.8,2 7.8,2 2.2,8.4 2.2,8.4 | 1.8,5.2 1.8,5.2 8.2,5.2 8.2,5.2",
    ),
}  # fmt: skip


def drawn(character: str, seed: int, unsteady: float = 1.0) -> list:
    """One drawing of a character: strokes as arrays (points, 2), from 0 to 104. A seed is a hand at a moment.

    unsteady: how much it leans, is stretched, is moved, and trembles, in units of a practiced hand.
    """
    random = np.random.default_rng(seed)
    lean = np.eye(2) + unsteady * 0.09 * random.normal(size=(2, 2))
    moved = unsteady * 0.25 * random.normal(size=2)
    waves = unsteady * 0.12 * random.normal(size=(2, 3, 2))  # slow trembling: three waves along the paper

    def by_hand(points):
        phases = 0.45 * points @ np.array([[1.0, 0.6, 1.7], [0.8, -1.3, 0.5]])
        tremble = np.sin(phases) @ waves[0] + np.cos(phases) @ waves[1]
        return np.clip(10.4 * ((points - 5) @ lean.T + 5 + moved + tremble), 2, 102)

    return [by_hand(smooth(np.array([[float(part) for part in point.split(",")] for point in stroke.split()]))) for stroke in character.split("|")]


def smooth(points: np.ndarray, between: int = 3) -> np.ndarray:
    """A Catmull-Rom curve through (n, 2) points, so many steps from one to the next."""
    if len(points) < 2:
        return points
    ends = np.concatenate([points[:1], points, points[-1:]])
    t = np.arange(between)[:, None] / between
    curves = [
        0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        for a, b, c, d in zip(ends[:-3], ends[1:-2], ends[2:-1], ends[3:])
        if not (b == c).all()
    ]
    return np.concatenate([*curves, points[-1:]])
