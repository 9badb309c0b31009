"""The picture of the two loops: the same drawing in every chapter, with that chapter's arrow lit."""

import math
from typing import NamedTuple

from cmlcore.explore.drawing import COLORS

# Two ends (x, y), where its label stands, and the label; one for each arrow but the round one.
_STRAIGHT = {
    "shape": ((48, 206), (146, 116), (84, 160, "end"), "shapes"),
    "contrast": ((178, 116), (84, 206), (120, 194, "start"), "contrast"),
    "test": ((274, 116), (372, 206), (336, 160, "start"), "test"),
    "nudge": ((336, 206), (242, 116), (302, 194, "end"), "nudge β"),
    "credit": ((284, 232), (136, 232), (210, 224, "middle"), "dL_out / dθ"),
    "task": ((34, 92), (138, 92), (84, 84, "middle"), "next task"),
}
_BOXES = {
    (140, 70, 140, 44): ("φ", "fast parameters"),
    (12, 208, 122, 48): ("θ", "slow parameters"),
    (286, 208, 122, 48): ("L_out", "outer loss, query set"),
}
_SAYS = {
    "learn": "the inner loop: fast parameters learn the support set, step by step",
    "shape": "the slow parameters shape what is learned",
    "contrast": "a contrast of two local derivatives, read off at the synapses, changes the slow parameters",
    "test": "what was learned is tested on the query set",
    "nudge": "a nudge of strength beta lets the outer loss act on learning",
    "credit": "the meta-gradient: how the outer loss changes with the slow parameters",
    "task": "the next task is drawn, and learning starts again",
}


class Picture(NamedTuple):
    """A drawing that shows itself in a notebook: the SVG, and what it shows, in words."""

    svg: str
    words: str

    def _repr_html_(self) -> str:
        return f'<div style="max-width:32rem;margin:0 auto">{self.svg}</div>'

    def __repr__(self) -> str:
        return self.words


def loops(*lit: str) -> Picture:
    """The two loops, with the arrows `lit` in color.

    lit: any of learn, shape, contrast, test, nudge, credit, task. Raises ValueError for another name.
    """
    if unknown := set(lit) - _SAYS.keys():
        raise ValueError(f"{', '.join(sorted(unknown))}: no arrow of the two loops; they are {', '.join(_SAYS)}.")
    words = (
        "Two loops. Above, the inner loop: fast parameters phi learn a task's support set. Below, the outer loop: slow "
        "parameters theta shape that learning, and what it reached is judged by the outer loss on the query set. "
        f"Lit in this picture: {'; '.join(_SAYS[name] for name in lit) or 'nothing'}."
    )
    parts = [_loop("learn" in lit)]
    parts += [_arrow(*_STRAIGHT[name], name in lit) for name in sorted(_STRAIGHT, key=lambda name: name in lit)]
    parts += [_box(*box, *texts) for box, texts in _BOXES.items()]
    parts += [_text(210, 14, "inner loop: many fast steps", "middle", False)]
    parts += [_text(210, 282, "outer loop: one slow step a batch of tasks", "middle", False)]
    svg = (
        f'<svg viewBox="0 0 420 290" xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{words}" '
        f'font-family="system-ui, sans-serif" font-size="13" style="width:100%;height:auto;display:block;color:inherit">'
        f"{''.join(parts)}</svg>"
    )
    return Picture(svg, words)


def _style(lit: bool) -> tuple[str, float, float]:
    return (COLORS["orange"], 4, 1) if lit else ("currentColor", 1.5, 0.55)


def _text(x, y, text, anchor, lit: bool, size=13) -> str:
    color, _, _ = _style(lit)
    weight = ' font-weight="700"' if lit else ""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{color}" font-size="{size}"{weight}>{_subscripts(text)}</text>'


def _subscripts(text: str) -> str:
    return text.replace("L_out", 'L<tspan dy="3" font-size="10">out</tspan><tspan dy="-3">&#8203;</tspan>')


def _head(x, y, angle, lit: bool) -> str:
    """An arrow's head, its tip at (x, y)."""
    color, _, opacity = _style(lit)
    size = 13 if lit else 9
    corners = [(x, y)] + [(x - size * math.cos(angle + turn), y - size * math.sin(angle + turn)) for turn in (0.42, -0.42)]
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in corners)
    return f'<polygon points="{points}" fill="{color}" opacity="{opacity}"/>'


def _arrow(start, end, at, label, lit: bool) -> str:
    color, width, opacity = _style(lit)
    angle = math.atan2(end[1] - start[1], end[0] - start[0])
    # The shaft ends inside the head, so that a thick one does not stick out beyond the tip.
    stop = (end[0] - 8 * math.cos(angle), end[1] - 8 * math.sin(angle))
    line = f'<line x1="{start[0]}" y1="{start[1]}" x2="{stop[0]:.1f}" y2="{stop[1]:.1f}" stroke="{color}" stroke-width="{width}" opacity="{opacity}"/>'
    return line + _head(*end, angle, lit) + _text(at[0], at[1], label, at[2], lit)


def _loop(lit: bool) -> str:
    """The round arrow over the fast parameters."""
    color, width, opacity = _style(lit)
    path = f'<path d="M250 69 C 285 12, 135 12, 166 58" fill="none" stroke="{color}" stroke-width="{width}" opacity="{opacity}"/>'
    return path + _head(170, 69, 1.18, lit) + _text(210, 52, "learn", "middle", lit)


def _box(x, y, width, height, symbol, words) -> str:
    middle = x + width / 2
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="9" fill="none" stroke="currentColor" stroke-width="1.5"/>'
        + _text(middle, y + 20, symbol, "middle", False, 16)
        + _text(middle, y + height - 9, words, "middle", False, 10.5)
    )
