"""The explorable in a notebook: widgets drive the jitted function, Python draws.

Only the widgets that ipywidgets brings are used, and pictures are SVG: what Jupyter, VS Code and Colab all show without an
extension of their own.
"""

import html

from cmlcore.explore import page, picture
from cmlcore.explore.strokes import Strokes
from cmlcore.explore.touch import Points, Turns
from cmlcore.extras import need

ipywidgets = need("ipywidgets", "book")


def live(explorable):
    """A box of sliders, pictures, sentence and table for this explorable."""
    sliders = {knob.name: _slider(knob) for knob in explorable.knobs}
    pictures, sentence, table = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
    reset = ipywidgets.Button(description="Reset")

    def update(_=None):
        settings = {name: slider.value for name, slider in sliders.items()}
        try:
            pictures.value = _pictures(explorable, settings)
            sentence.value = f'<p style="line-height:1.5">{html.escape(explorable.describe(**settings))}</p>'
            table.value = page.table_html(explorable.table(**settings))
        except ValueError as problem:
            sentence.value = f"<p><b>{html.escape(str(problem))}</b></p>"

    def start(_=None):
        for knob in explorable.knobs:
            sliders[knob.name].value = knob.start

    shown = [box for knob in explorable.knobs for box in (sliders[knob.name], *_moves(knob, sliders[knob.name]))]
    for slider in sliders.values():
        slider.observe(update, "value")
    reset.on_click(start)
    update()
    more = ipywidgets.Accordion([table], selected_index=None)
    more.set_title(0, "As a table")
    title = ipywidgets.HTML(f"<b>{html.escape(explorable.title)}</b>")
    return ipywidgets.VBox([title, pictures, *shown, reset, sentence, more])


def _moves(knob, record):
    """What stands beside a knob's own widget: the buttons of `Turns` and of `Points`, which write into the record, and the button that plays."""
    if getattr(knob, "play", False):
        last = len(knob.positions) - 1
        play = ipywidgets.Play(min=0, max=last, value=knob.positions.index(knob.start), interval=max(100, 4000 // last), description=f"Play: {knob.label}")
        ipywidgets.link((play, "value"), (record, "index"))
        return [play]
    if isinstance(knob, Points):
        return [ipywidgets.HBox([_offer(text, records, record) for text, records in knob.offered.items()])] if knob.offers else []
    if not isinstance(knob, Turns):
        return []
    buttons = [ipywidgets.Button(description=text) for text in (*knob.options, "Take back")]
    for k, button in enumerate(buttons[:-1]):
        button.on_click(lambda _, one=knob.sign(k): setattr(record, "value", (record.value + one)[: knob.count]))
    buttons[-1].on_click(lambda _: setattr(record, "value", record.value[:-1]))
    return [ipywidgets.HBox(buttons, layout={"flex_flow": "row wrap"})]


def _offer(text, records, record):
    """A button that takes the first of these settings, then the next."""
    button = ipywidgets.Button(description=text, layout={"width": "auto"})
    button.on_click(lambda _: setattr(record, "value", records[(records.index(record.value) + 1) % len(records) if record.value in records else 0]))
    return button


def _slider(knob):
    if isinstance(knob, Points):
        return ipywidgets.Textarea(value=knob.start, description=knob.label, style={"description_width": "12em"}, layout={"width": "auto", "max_width": "40em"})
    if isinstance(knob, Turns):
        return ipywidgets.Text(value=knob.start, description=knob.label, style={"description_width": "12em"})
    if isinstance(knob, Strokes):  # no pad: what the page offers, to choose from
        options = [(f"{text} {k}", record) for text, records in knob.offers.items() for k, record in enumerate(records, 1)]
        return ipywidgets.Dropdown(options=options, value=knob.start, description=knob.label, style={"description_width": "12em"})
    options = list(zip(knob.options, knob.positions))
    label = f"{knob.label} ({knob.unit})" if knob.unit else knob.label
    kind = ipywidgets.SelectionSlider if hasattr(knob, "points") else ipywidgets.Dropdown
    return kind(
        options=options,
        value=knob.start,
        description=label,
        style={"description_width": "12em"},
        layout={"width": "auto", "max_width": "40em"},
    )


def _pictures(explorable, settings):
    scope = explorable.scope(**settings)
    panels = [
        f'<div style="flex:1 1 300px;max-width:560px;line-height:1.4">{page.head_html(panel)}{picture.svg(panel, scope, explorable.lowered["height"])}</div>'
        for panel in explorable.lowered["panels"]
    ]
    return f'<div style="display:flex;flex-wrap:wrap;align-items:end;gap:16px">{"".join(panels)}</div>'
