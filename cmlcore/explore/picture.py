"""The drawing as SVG: in Jupyter, in print, on a page before (or without) scripts. Text takes the theme's own color.

It reads the plain data that `drawing.lower` makes, as its twin draw.js does, with the same margins, ticks and sizes.
"""

import base64
import html
import math
import struct
import zlib

import numpy as np

from cmlcore.explore import say

WIDTH = 420
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 10, 46


def svg(panel: dict, scope: dict, height: int) -> str:
    """One panel as an SVG element that scales with the width it is given.

    scope: outputs and knobs by name: numbers, arrays, and a Choice's text.
    """
    panel = _measured(panel, scope)
    frame = _Frame(panel, height)
    marks = "".join(_RENDER[mark["kind"]](mark, scope, frame) for mark in panel["marks"])
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" xmlns="http://www.w3.org/2000/svg" aria-hidden="true" '
        f'font-family="system-ui, sans-serif" font-size="12" style="width:100%;height:auto;display:block">'
        f"{_axes(panel, frame)}"
        f'<svg x="{_n(frame.left)}" y="{_n(frame.top)}" width="{_n(frame.right - frame.left)}" height="{_n(frame.bottom - frame.top)}" '
        f'viewBox="{_n(frame.left)} {_n(frame.top)} {_n(frame.right - frame.left)} {_n(frame.bottom - frame.top)}">{marks}</svg></svg>'
    )


def _measured(panel, scope):
    """The panel with numbers for the ends of its axes, and the ticks between them."""
    axes = {}
    for name in ("x", "y"):
        low, high = ends = [float(scope[end]) if isinstance(end, str) else end for end in panel[name]["range"]]
        if ends != panel[name]["range"]:
            ticks = [tick for tick in panel[name]["ticks"] if min(low, high) <= tick[0] <= max(low, high)]
            axes[name] = panel[name] | {"range": ends, "ticks": ticks}
    return panel | axes


class _Frame:
    """Where the plot stands in the picture, and the maps from data to pixels."""

    def __init__(self, panel, height):
        self.left, self.right, self.top, self.bottom = LEFT, WIDTH - RIGHT, TOP, height - BOTTOM
        if not panel["x"]["ticks"] and not panel["x"]["title"]:
            self.bottom = height - TOP
        if not panel["y"]["ticks"] and not panel["y"]["title"]:
            self.left = RIGHT
        if panel["square"]:
            self._square(panel)
        self.upright = panel["y"]
        self.x = _scale(panel["x"], self.left, self.right)
        self.y = _scale(panel["y"], self.bottom, self.top)

    def _square(self, panel):
        wide, high = (abs(np.subtract(*panel[name]["range"])) for name in ("x", "y"))
        unit = min((self.right - self.left) / wide, (self.bottom - self.top) / high)
        spare_x = (self.right - self.left - unit * wide) / 2
        spare_y = (self.bottom - self.top - unit * high) / 2
        self.left, self.right = self.left + spare_x, self.right - spare_x
        self.top, self.bottom = self.top + spare_y, self.bottom - spare_y


def _scale(axis, start, end):
    """Data to pixels, along one axis. What does not fit a log axis goes far outside."""
    move = np.log10 if axis["log"] else (lambda v: v)
    low, high = (float(move(v)) for v in axis["range"])

    def scale(values):
        values = np.asarray(values, float)
        values = np.maximum(values, 1e-300) if axis["log"] else values
        return np.clip(start + (move(values) - low) / (high - low) * (end - start), -9999, 9999)

    return scale


def _axes(panel, f):
    out = []
    for tick, text in panel["x"]["ticks"]:
        at = _n(f.x(tick))
        out.append(f'<path d="M{at} {_n(f.top)}V{_n(f.bottom)}" stroke="currentColor" opacity=".13"/>')
        out.append(f'<text x="{at}" y="{_n(f.bottom + 16)}" text-anchor="middle" fill="currentColor" opacity=".8">{text}</text>')
    for tick, text in panel["y"]["ticks"]:
        at = f.y(tick)
        out.append(f'<path d="M{_n(f.left)} {_n(at)}H{_n(f.right)}" stroke="currentColor" opacity=".13"/>')
        out.append(f'<text x="{_n(f.left - 7)}" y="{_n(at + 4)}" text-anchor="end" fill="currentColor" opacity=".8">{text}</text>')
    middle, level = _n((f.left + f.right) / 2), _n((f.top + f.bottom) / 2)
    if panel["x"]["title"]:
        out.append(f'<text x="{middle}" y="{_n(f.bottom + 37)}" text-anchor="middle" fill="currentColor">{html.escape(panel["x"]["title"])}</text>')
    if panel["y"]["title"]:
        out.append(f'<text transform="translate(13 {level}) rotate(-90)" text-anchor="middle" fill="currentColor">{html.escape(panel["y"]["title"])}</text>')
    return "".join(out)


def resolve(references: list, scope: dict) -> np.ndarray:
    """What a primitive draws along one axis: named values and constants, one after the other."""
    parts = [scope[ref] if isinstance(ref, str) else unpack(ref[0]) for ref in references]
    return np.asarray(parts[0], float) if np.ndim(parts[0]) == 2 else np.concatenate([np.ravel(p) for p in parts]).astype(float)


def unpack(text: str) -> np.ndarray:
    """Back from `drawing.pack`: a flat array, or rows."""
    rows = [np.array([float(number) for number in row.split()]) for row in text.split(";")]
    return np.stack(rows) if len(rows) > 1 else rows[0]


def _points(mark, scope, f):
    return f.x(resolve(mark["x"], scope)), f.y(resolve(mark["y"], scope))


def _ink(mark):
    return "currentColor" if mark["color"] == "ink" else mark["color"]


def _leaving(values, axis):
    """On a log axis a line that lies along the end of the range has been clamped there: it leaves the picture instead."""
    if not axis["log"]:
        return values
    first, last = sorted(np.log10(axis["range"]))
    room = 0.03 * (last - first) / 1.06
    for end, factor in ((10 ** (first + room), 1e-9), (10 ** (last - room), 1e9)):
        there = np.abs(values / end - 1) < 1e-4
        beside = np.append(there[1:], False) | np.append(False, there[:-1])
        values = np.where(there & beside, values * factor, values)
    return values


def _path(mark, scope, f):
    x, y = f.x(resolve(mark["x"], scope)), f.y(_leaving(resolve(mark["y"], scope), f.upright))
    line = "M" + " ".join(f"{_n(a)} {_n(b)}" for a, b in zip(x, y))
    dash = ' stroke-dasharray="6 4"' if mark["dash"] else ""
    drawn = f'<path d="{line}" fill="none" stroke="{_ink(mark)}" stroke-width="{mark["width"]}" stroke-linejoin="round"{dash}/>'
    return drawn + _head(mark, x, y) if mark.get("arrow") else drawn


def _head(mark, x, y):
    if math.hypot(x[1] - x[0], y[1] - y[0]) < 1:
        return ""
    turn = math.degrees(math.atan2(y[1] - y[0], x[1] - x[0]))
    return f'<path transform="translate({_n(x[1])} {_n(y[1])}) rotate({_n(turn)})" d="M0 0L-9 4.5V-4.5Z" fill="{_ink(mark)}"/>'


def _dots(mark, scope, f):
    x, y = _points(mark, scope, f)
    return "".join(f'<circle cx="{_n(a)}" cy="{_n(b)}" r="{_n(mark["size"] / 2)}" fill="{_ink(mark)}"/>' for a, b in zip(x, y))


def _area(mark, scope, f):
    x, low, high = (resolve(mark[key], scope) for key in ("x", "y", "upper"))
    corners = zip(f.x(np.concatenate([x, x[::-1]])), f.y(np.concatenate([low, high[::-1]])))
    return f'<path d="M{" ".join(f"{_n(a)} {_n(b)}" for a, b in corners)}Z" fill="{_ink(mark)}" opacity=".22"/>'


def _bars(mark, scope, f):
    x, y = (resolve(mark[key], scope) for key in ("x", "y"))
    ground = float(np.clip(f.y(0), f.top, f.bottom))
    left, right = f.x(x - mark["width"] / 2), f.x(x + mark["width"] / 2)
    return "".join(
        f'<rect x="{_n(a)}" y="{_n(min(h, ground))}" width="{_n(b - a)}" height="{_n(abs(h - ground))}" fill="{_ink(mark)}"/>'
        for a, b, h in zip(left, right, f.y(y))
    )


def _text(mark, scope, f):
    x, y = _points(mark, scope, f)
    words = html.escape(say.tell(mark["say"], say.words(scope)))
    return f'<text x="{_n(x[0])}" y="{_n(y[0] + 4)}" text-anchor="{mark["anchor"]}" fill="{_ink(mark)}">{words}</text>'


def _image(mark, scope, f):
    z = resolve(mark["z"], scope)
    rows, columns = z.shape
    left, right = sorted((float(f.x(-0.5)), float(f.x(columns - 0.5))))
    top, bottom = sorted((float(f.y(-0.5)), float(f.y(rows - 0.5))))
    return (
        f'<image x="{_n(left)}" y="{_n(top)}" width="{_n(right - left)}" height="{_n(bottom - top)}" preserveAspectRatio="none" '
        f'style="image-rendering:pixelated" href="data:image/png;base64,{_png(_shade(mark, z))}"/>'
    )


def _shade(mark, z):
    """Values to bytes, `(rows, columns, 3)`, along the three colors of the scale."""
    stops = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in mark["scale"]], float)
    place = np.clip((z - mark["low"]) / (mark["high"] - mark["low"]), 0, 1)
    return np.stack([np.interp(place, [0, 0.5, 1], stops[:, c]) for c in range(3)], -1).round().astype(np.uint8)


def _png(pixels):
    """A PNG file of `(rows, columns, 3)` bytes, in base64."""
    rows, columns, _ = pixels.shape
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    lines = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)
    file = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b"")
    return base64.b64encode(file).decode()


def _n(value):
    """A coordinate at a tenth of a pixel."""
    return f"{float(value):.1f}".removesuffix(".0").replace("-0", "0") if abs(value) < 0.05 else f"{float(value):.1f}".removesuffix(".0")


def _nothing(mark, scope, f):
    return ""


_RENDER = {"path": _path, "points": _dots, "area": _area, "bars": _bars, "text": _text, "image": _image, "touch": _nothing, "pen": _nothing}
