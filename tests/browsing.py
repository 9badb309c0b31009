"""What the tests in a real browser share: the book's explorables as their notebooks store them, and how to watch one.

An explorable is anything with a `name` and `knobs`: the package's own object, or one that a notebook stores.
"""

import json
from types import SimpleNamespace

import nbformat
import numpy as np

from cmlcore import explore
from cmlcore.explore import say
from cmlcore.press import front
from cmlcore.press.notebooks import notebooks


def stored() -> list:
    """Every explorable of the book, in the order of its pages: chapter, name, title, knobs, parsed sentence, whole outputs."""
    found = []
    for path in notebooks():
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", []):
                if payload := output.get("data", {}).get(explore.MIME):
                    found.append(_stored(path.stem, payload))
    return found


def of_the_first_page() -> list:
    """The figures of the first page, which no notebook stores."""
    return [_stored("intro", make().payload()) for make in front.FIGURES.values()]


def _stored(chapter, payload):
    figure = json.loads(payload["figure"])
    knobs = [
        SimpleNamespace(name=knob["name"], label=knob["label"], positions=tuple(knob["values"]), start=knob["values"][knob["start"]], drawn="names" in knob)
        for knob in figure["knobs"]
    ]
    return SimpleNamespace(
        chapter=chapter,
        name=payload["name"],
        title=payload["title"],
        knobs=knobs,
        sentence=payload["sentence"],
        say=figure["say"],
        whole=figure["whole"],
        kind=figure["source"]["kind"],
        plays=any(knob.get("play") for knob in figure["knobs"]),
    )


def title(one) -> str:
    """The name of a test of this explorable."""
    return f"{one.chapter}-{one.name}"


def told(one, found, settings) -> str:
    """What Python's sentence says of outputs that the page computed at these settings."""
    typed = {name: np.asarray(value, int if name in one.whole else float) for name, value in found.items()}
    return say.sentence(one.say, say.words(settings | typed))


# ---- watching one in a page ---------------------------------------------------------------------------------------------


def element(page, one):
    return page.locator(f"#explorable-{one.name}")


def settle(page, one, timeout=30_000):
    """Scroll to an explorable and wait until it shows what its controls say; gives the settings that it shows."""
    element(page, one).scroll_into_view_if_needed()
    page.wait_for_function(
        "name => { const e = document.getElementById('explorable-' + name);"
        "return e.dataset.shown && e.querySelector('.cml-link').hash === '#' + e.dataset.shown }",
        arg=one.name,
        timeout=timeout,
    )
    places = page.evaluate("name => document.getElementById('explorable-' + name).explorable.indices", one.name)
    shown = dict(pair.removeprefix(f"{one.name}.").split("=") for pair in element(page, one).get_attribute("data-shown").split("&"))
    return {
        # A reader's record may be none of the positions.
        knob.name: shown[knob.name] if is_record(knob) else knob.positions[place]
        for knob, place in zip(one.knobs, places)
    }


def is_game(knob):
    """Whether it is `Turns`."""
    return knob.start == ""


def is_record(knob):
    """Whether a reader can make settings that are none of the positions."""
    return is_game(knob) or "~" in str(knob.start)


def move(page, one, places):
    """Set the knobs to these positions at once, as a hand on the controls would."""
    page.evaluate(
        "([name, places]) => document.querySelectorAll(`#explorable-${name} [data-knob]`).forEach((e, k) => {"
        "if (e.tagName === 'SELECT') e.selectedIndex = places[k]; else e.value = places[k];"
        "e.dispatchEvent(new Event('input', {bubbles: true})) })",
        [one.name, [int(place) for place in places]],
    )


def outputs(page, one):
    """What the page computed, by name."""
    found = page.evaluate(
        "name => Object.entries(document.getElementById('explorable-' + name).explorable.outputs)"
        ".map(([key, {shape, data}]) => [key, shape, Array.from(data)])",
        one.name,
    )
    return {key: np.reshape(data, shape) for key, shape, data in found}


def drawn(page, one):
    """The marks that the figure shows, as SVG, and its heat maps."""
    return page.evaluate(
        "name => [...document.querySelectorAll(`#explorable-${name} .cml-moving`)].map(e => e.innerHTML + (e.querySelector('canvas')?.toDataURL() ?? '')).join('')",
        one.name,
    )


def sentence(page, one):
    return element(page, one).locator(".cml-say").inner_text()
