"""An explorable at one setting as a figure of plotly: for a talk, a paper, a notebook of one's own. The book's pages do without it."""

import numpy as np

from cmlcore.explore import say
from cmlcore.explore.picture import _leaving, resolve
from cmlcore.extras import need

INK = "#1c1b1a"


def figure(explorable, **settings):
    """Panels side by side, with the axes, colors and marks of the drawing."""
    subplots = need("plotly.subplots", "book")
    lowered, scope = explorable.lowered, explorable.scope(**settings)
    panels = lowered["panels"]
    made = subplots.make_subplots(cols=len(panels), subplot_titles=[panel["title"] for panel in panels])
    for column, panel in enumerate(panels, 1):
        for mark in panel["marks"]:
            if mark["kind"] in _TRACE:
                made.add_trace({"name": mark["label"], "showlegend": bool(mark["label"])} | _TRACE[mark["kind"]](mark, scope, panel), row=1, col=column)
        made.update_xaxes(_axis(panel["x"]), row=1, col=column)
        made.update_yaxes(_axis(panel["y"]), row=1, col=column)
        if panel["square"]:
            made.update_yaxes(scaleanchor=made.get_subplot(1, column).yaxis.anchor, constrain="domain", row=1, col=column)
            made.update_xaxes(constrain="domain", row=1, col=column)
    made.update_layout(title=explorable.title, height=lowered["height"] + 130, template="plotly_white", font={"color": INK}, bargap=0)
    return made


def _axis(axis):
    values, texts = zip(*axis["ticks"]) if axis["ticks"] else ((), ())
    told = {"title": axis["title"], "type": "log" if axis["log"] else "linear", "tickvals": list(values), "ticktext": list(texts), "zeroline": False}
    return told | {"range": [float(end) for end in (np.log10(axis["range"]) if axis["log"] else axis["range"])]}


def _ink(mark):
    return INK if mark["color"] == "ink" else mark["color"]


def _path(mark, scope, panel):
    x, y = resolve(mark["x"], scope), _leaving(resolve(mark["y"], scope), panel["y"])
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "line": {"color": _ink(mark), "width": mark["width"], "dash": "dash" if mark["dash"] else "solid"},
    }
    if not mark.get("arrow"):
        return line
    return line | {"mode": "lines+markers", "marker": {"symbol": ["circle", "arrow"], "size": [0, 13], "angleref": "previous", "color": _ink(mark)}}


def _points(mark, scope, panel):
    marker = {"color": _ink(mark), "size": mark["size"]}
    return {"type": "scatter", "mode": "markers", "x": resolve(mark["x"], scope), "y": resolve(mark["y"], scope), "marker": marker}


def _area(mark, scope, panel):
    x, low, high = (resolve(mark[key], scope) for key in ("x", "y", "upper"))
    shape = {"x": np.concatenate([x, x[::-1]]), "y": np.concatenate([low, high[::-1]]), "fill": "toself", "fillcolor": _ink(mark), "opacity": 0.22}
    return shape | {"type": "scatter", "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}


def _bars(mark, scope, panel):
    return {"type": "bar", "x": resolve(mark["x"], scope), "y": resolve(mark["y"], scope), "width": mark["width"], "marker": {"color": _ink(mark)}}


def _image(mark, scope, panel):
    colors = [[k / 2, color] for k, color in enumerate(mark["scale"])]
    return {"type": "heatmap", "z": resolve(mark["z"], scope), "zmin": mark["low"], "zmax": mark["high"], "colorscale": colors, "showscale": False}


def _text(mark, scope, panel):
    anchor = {"start": "middle right", "middle": "middle center", "end": "middle left"}[mark["anchor"]]
    told = {"text": [say.tell(mark["say"], say.words(scope))], "textposition": anchor, "textfont": {"color": _ink(mark)}}
    return {"type": "scatter", "mode": "text", "x": resolve(mark["x"], scope), "y": resolve(mark["y"], scope)} | told


_TRACE = {"path": _path, "points": _points, "area": _area, "bars": _bars, "image": _image, "text": _text}
