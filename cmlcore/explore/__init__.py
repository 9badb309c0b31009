"""Explorables: figures that a reader plays with, live in a notebook and on a page with no kernel and no network.

The author's calls; all of it is this book's own.
"""

from cmlcore.explore.beside import Beside
from cmlcore.explore.drawing import COLORS, Arrow, Axis, Band, Bars, Dots, Drawing, Image, Line, Marker, Panel, Rule, Text
from cmlcore.explore.explorable import MIME, Explorable, Row
from cmlcore.explore.handle import Handle, Polar
from cmlcore.explore.knobs import Choice, Knob
from cmlcore.explore.loops import loops
from cmlcore.explore.page import render_html, static_files
from cmlcore.explore.program import remembered
from cmlcore.explore.source import grid, traced
from cmlcore.explore.strokes import Strokes
from cmlcore.explore.touch import Pen, Points, Touch, Turns

__all__ = [
    "Arrow",
    "Axis",
    "Band",
    "Bars",
    "Beside",
    "COLORS",
    "Choice",
    "Dots",
    "Drawing",
    "Explorable",
    "Handle",
    "Image",
    "Knob",
    "Line",
    "MIME",
    "loops",
    "Marker",
    "Panel",
    "Pen",
    "Points",
    "Polar",
    "Row",
    "Rule",
    "Strokes",
    "Text",
    "Touch",
    "Turns",
    "grid",
    "remembered",
    "render_html",
    "static_files",
    "traced",
]
