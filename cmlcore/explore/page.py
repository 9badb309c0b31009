"""The explorable on a page with no kernel: its plain data, and the HTML around it. page.js brings it to life."""

import html
import json
from pathlib import Path

from cmlcore.explore import picture
from cmlcore.explore.program import RUNTIME
from cmlcore.explore.strokes import PAPER, PEN, Strokes
from cmlcore.explore.touch import Points, Turns

HERE = Path(__file__).parent
_FEW = 11  # rows of a table of 1-d outputs


def static_files() -> list:
    """The files that a page with explorables loads once, in this order."""
    return [HERE / "page.css", *RUNTIME, *(HERE / f"{part}.js" for part in ("handle", "label", "draw", "strokes", "beside", "floor", "page"))]


def payload(explorable) -> dict:
    """All that the page needs, as plain data for JSON. The same on every run on one machine."""
    source = explorable.source(explorable)
    scope = explorable.scope()
    lowered = explorable.lowered
    figure = {
        "drawing": lowered,
        "knobs": [_knob(knob) for knob in explorable.knobs],
        "say": explorable.sentence,
        "table": [list(row) for row in explorable.rows],
        "whole": explorable.whole,
        "source": source,
    }
    return {
        "version": 1,
        "name": explorable.name,
        "title": explorable.title,
        "sentence": explorable.describe(),
        "table": table_html(explorable.table()),
        "pictures": [picture.svg(panel, scope, lowered["height"]) for panel in lowered["panels"]],
        # One text, not a tree: a notebook file puts every leaf of a tree on an indented line of its own.
        "figure": json.dumps(figure, ensure_ascii=False, separators=(",", ":")),
    }


def _knob(knob):
    positions = knob.positions
    if isinstance(knob, Turns):
        return {"name": knob.name, "label": knob.label, "unit": "", "start": 0, "values": list(positions), "moves": list(knob.options), "count": knob.count}
    if isinstance(knob, Strokes):
        offers = {text: [positions.index(record) for record in records] for text, records in knob.offers.items()}
        told = {"start": positions.index(knob.start), "values": list(positions), "names": list(knob.names), "first": knob.first, "empty": knob.empty}
        return {"name": knob.name, "label": knob.label, "unit": "", **told, "offers": offers}
    if isinstance(knob, Points):
        offers = {text: [positions.index(record) for record in records] for text, records in knob.offered.items()}
        told = {"start": positions.index(knob.start), "values": list(positions), "x": knob.x, "y": knob.y, "level": knob.level}
        return {"name": knob.name, "label": knob.label, "unit": "", **told, "offers": offers, "fresh": knob.fresh}
    told = {
        "name": knob.name,
        "label": knob.label,
        "unit": knob.unit,
        "start": positions.index(knob.start),
        "values": list(positions),
        "options": list(knob.options),
    }
    return told | {"play": True} if getattr(knob, "play", False) else told


def render_html(payload: dict) -> str:
    """The page's part for one explorable. Reads without scripts; page.js (see `static_files`) makes it move.

    Raises ValueError for the payload of another version.
    """
    if payload.get("version") != 1:
        raise ValueError(f"an explorable of version {payload.get('version')}, not 1: run its notebook again.")
    figure, name = json.loads(payload["figure"]), payload["name"]
    data = payload["figure"].replace("</", "<\\/").replace("<!--", "<\\u0021--")
    return (
        f'<div class="cml-explorable" id="explorable-{name}" data-name="{name}" role="group" aria-labelledby="{name}--title">'
        f'<p class="cml-title" id="{name}--title">{html.escape(payload["title"])}</p>'
        f'<div class="cml-panels">{_panels(payload, figure)}</div>'
        f'<div class="cml-knobs" hidden>{"".join(_control(name, knob) for knob in figure["knobs"])}</div>'
        f'<p class="cml-say">{html.escape(payload["sentence"])}</p><p class="cml-status" role="status"></p>'
        f'<div class="cml-foot"><details><summary>As a table</summary><div class="cml-tables">{payload["table"]}</div></details>'
        '<span class="cml-tools" hidden><a class="cml-link" href="#">Link to these settings</a>'
        '<button type="button" class="cml-reset">Reset</button></span></div>'
        f'<script type="application/json" class="cml-figure">{data}</script></div>'
    )


def _panels(payload, figure):
    return "".join(
        f'<figure class="cml-panel"><figcaption>{head_html(panel)}</figcaption>'
        f'<div class="cml-plot" role="img" aria-label="{html.escape(_spoken(panel))}">'
        f'<div class="cml-still">{still}</div><div class="cml-moving"></div>{_titles(panel)}</div></figure>'
        for panel, still in zip(figure["drawing"]["panels"], payload["pictures"])
    )


def _titles(panel):
    """Titles of the axes beside the moving figure, where its size leaves room for them."""
    return "".join(f'<div class="cml-axis-{name}">{html.escape(panel[name]["title"])}</div>' for name in ("x", "y") if panel[name]["title"])


def _spoken(panel):
    """What a screen reader says for the picture; the sentence below it says what is to be seen."""
    axes = [panel[name]["title"] for name in ("y", "x") if panel[name]["title"]]
    labels = [mark["label"] for mark in panel["marks"] if mark["label"]]
    parts = [panel["title"] or "Figure", " over ".join(axes), "showing " + ", ".join(dict.fromkeys(labels)) if labels else ""]
    return "; ".join(part for part in parts if part)


def _control(name, knob):
    ident, label = f"{name}--{knob['name']}", html.escape(knob["label"])
    if "moves" in knob:
        return _turns(ident, label, knob)
    if "names" in knob:
        return _strokes(ident, label, knob)
    if "offers" in knob:
        return _points(ident, label, knob)
    unit = html.escape(knob["unit"])
    shown = html.escape(knob["options"][knob["start"]])
    if isinstance(knob["values"][0], str):
        options = "".join(f"<option{' selected' if k == knob['start'] else ''}>{html.escape(text)}</option>" for k, text in enumerate(knob["options"]))
        return f'<div class="cml-knob"><label for="{ident}">{label}</label><select id="{ident}" data-knob="{knob["name"]}">{options}</select></div>'
    play = f'<button type="button" class="cml-play" aria-label="Play: {label}">▶</button>' if knob.get("play") else ""
    return (
        f'<div class="cml-knob{" cml-plays" if play else ""}"><label for="{ident}">{label}</label>'
        f'<span class="cml-value" aria-hidden="true"><b>{shown}</b>{f" {unit}" if unit else ""}</span>{play}'
        f'<input type="range" id="{ident}" data-knob="{knob["name"]}" min="0" max="{len(knob["values"]) - 1}" step="1" '
        f'value="{knob["start"]}" aria-valuetext="{shown}{f" {unit}" if unit else ""}" autocomplete="off"></div>'
    )


def _turns(ident, label, knob):
    moves = "".join(f'<button type="button" data-move="{k}">{html.escape(text)}</button>' for k, text in enumerate(knob["moves"]))
    return (
        f'<div class="cml-knob cml-turns" role="group" aria-labelledby="{ident}"><span id="{ident}">{label}</span>'
        f'<span class="cml-value"><b>0</b> of {knob["count"]}</span>'
        f'<div class="cml-moves">{moves}<button type="button" class="cml-back">Take back</button></div>'
        f'<input type="hidden" data-knob="{knob["name"]}" value="0" autocomplete="off"></div>'
    )


def _strokes(ident, label, knob):
    """A pad, a list of what it is for, and buttons; the page's own offers stand last, for whoever does not draw."""
    names = "".join(f"<option>{html.escape(text)}</option>" for text in knob["names"])
    offers = "".join(f'<button type="button" data-offer="{html.escape(text)}">{html.escape(text)}</button>' for text in knob["offers"])
    return (
        f'<div class="cml-knob cml-strokes" role="group" aria-label="{label}">'
        f'<svg class="cml-pad" viewBox="0 0 {PAPER} {PAPER}" role="img"><path fill="none" stroke="currentColor" stroke-width="{PEN}" stroke-linecap="round" stroke-linejoin="round"/></svg>'
        f'<div class="cml-desk"><label for="{ident}-place">On the paper</label><select id="{ident}-place" autocomplete="off">{names}</select>'
        '<div class="cml-moves"><button type="button" data-do="next">Next</button><button type="button" data-do="back">Take back</button>'
        '<button type="button" data-do="empty">Empty all</button></div>'
        f'</div><div class="cml-moves cml-ready"><span>Or take</span>{offers}</div>'
        f'<input type="hidden" data-knob="{knob["name"]}" value="{knob["start"]}" autocomplete="off"></div>'
    )


def _points(ident, label, knob):
    """Buttons for what is offered; folded, a slider for which point, one for each of its numbers, and a field to paste points into."""
    count = len(knob["values"][knob["start"]].split("~"))
    offers = "".join(f'<button type="button" data-offer="{html.escape(text)}">{html.escape(text)}</button>' for text in knob["offers"])
    parts = [("which", "point", 1, count, 1)]
    parts += [] if knob["level"] else [("x", "its x", *knob["x"], 0.1)]
    parts += [("y", "its height", *knob["y"], 0.1)]
    sliders = "".join(
        f'<div class="cml-knob"><label for="{ident}-{part}">{words}</label><span class="cml-value" aria-hidden="true"><b></b></span>'
        f'<input type="range" id="{ident}-{part}" data-part="{part}" value="1" min="{low:g}" max="{high:g}" step="{step:g}" autocomplete="off"></div>'
        for part, words, low, high, step in parts
    )
    paste = (
        f'<label for="{ident}-text">{count} of your own: x, y on a line</label><textarea id="{ident}-text" rows="4" spellcheck="false"></textarea>'
        '<button type="button" class="cml-take">Take them</button><p class="cml-wrong" role="alert"></p>'
    )
    return (
        f'<div class="cml-knob cml-turns cml-points" role="group" aria-labelledby="{ident}"><span id="{ident}">{label}</span>'
        f'<div class="cml-moves">{offers}</div><details><summary>{"By keyboard" if knob["level"] else "By keyboard, or from a file of your own"}</summary>'
        f'<div class="cml-apart">{sliders}</div>{"" if knob["level"] else paste}</details>'
        f'<input type="hidden" data-knob="{knob["name"]}" value="{knob["start"]}" autocomplete="off"></div>'
    )


def head_html(panel: dict) -> str:
    """A panel's title and the key of its marks, one line."""
    keys = {mark["label"]: mark for mark in panel["marks"] if mark["label"]}
    texts = [f"<b>{html.escape(panel['title'])}</b>"] if panel["title"] else []
    texts += [f"{_swatch(mark)} {html.escape(label)}" for label, mark in keys.items()]
    return "".join(f'<span style="display:inline-block;margin-right:1em;white-space:nowrap">{text}</span>' for text in texts)


def _swatch(mark):
    ink = "currentColor" if mark["color"] == "ink" else mark["color"]
    dash = ' stroke-dasharray="5 3"' if mark.get("dash") else ""
    shape = {
        "path": f'<path d="M0 6H18" stroke="{ink}" stroke-width="3"{dash}/>',
        "points": f'<circle cx="9" cy="6" r="4.5" fill="{ink}"/>',
        "area": f'<path d="M0 0H18V12H0Z" fill="{ink}" opacity=".3"/>',
        "bars": f'<path d="M4 0H14V12H4Z" fill="{ink}"/>',
    }[mark["kind"]]
    return f'<svg width="18" height="12" viewBox="0 0 18 12" aria-hidden="true" style="display:inline;vertical-align:-1px">{shape}</svg>'


def still_html(payload: dict) -> str:
    """The explorable where nothing runs (GitHub, a notebook just opened): pictures, sentence, table of the default."""
    pictures = "".join(f'<div style="max-width:420px">{still}</div>' for still in payload["pictures"])
    return f"<p><b>{html.escape(payload['title'])}</b></p>{pictures}<p>{html.escape(payload['sentence'])}</p>{payload['table']}"


def table_html(tables: list) -> str:
    """Tables of texts as HTML; page.js makes the same."""
    return "".join(f"<table><thead>{_row('th', table.head)}</thead><tbody>{''.join(_row('td', row) for row in table.rows)}</tbody></table>" for table in tables)


def _row(tag, texts):
    return f"<tr>{''.join(f'<{tag}>{html.escape(text)}</{tag}>' for text in texts)}</tr>"


def thin(length: int) -> list:
    """Which of `length` rows a table shows: at most eleven, the first and the last among them."""
    few = min(length, _FEW)
    return [int(k * (length - 1) / max(few - 1, 1) + 0.5) for k in range(few)]
