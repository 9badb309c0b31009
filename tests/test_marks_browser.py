"""What every figure draws, in a browser: no curve lies clamped along the end of its axis, and the words in a picture can be read."""

import itertools
import json

import nbformat
import numpy as np
import pytest
from browsing import element, is_game, move, of_the_first_page, outputs, settle, stored

from cmlcore import explore
from cmlcore.press import front
from cmlcore.press.notebooks import notebooks

pytestmark = pytest.mark.browser

BOOK = [*of_the_first_page(), *stored()]
CHAPTERS = list(dict.fromkeys(one.chapter for one in BOOK))
every_chapter = pytest.mark.parametrize("chapter", CHAPTERS)
DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
NATURAL = (-1, 0, 1, 100, 180)  # where a quantity ends by itself: a share, a rate, an angle
RUN = 3  # so many equal values along an axis' end are no chance


@pytest.fixture(scope="module")
def drawings():
    """What each explorable draws, as its page gets it."""
    payloads = [make().payload() for make in front.FIGURES.values()]
    cells = itertools.chain.from_iterable(nbformat.read(path, as_version=4).cells for path in notebooks())
    payloads += [payload for cell in cells for output in cell.get("outputs", []) if (payload := output.get("data", {}).get(explore.MIME))]
    return {payload["name"]: json.loads(payload["figure"])["drawing"] for payload in payloads}


@pytest.fixture(scope="module")
def reader(browser):
    context = browser.new_context()
    yield context
    context.close()


def opened(reader, site, chapter, size):
    page = reader.new_page()
    page.set_viewport_size(size)
    page.goto((site / "book" / f"{chapter}.html").as_uri(), wait_until="domcontentloaded")
    return page


# ---- clamps ----------------------------------------------------------------------------------------------------------------


def ends(one):
    """Places of the knobs: all at their starts, all at an end, and each alone at an end; a game stays at its start."""
    starts = [0 if is_game(knob) else list(knob.positions).index(knob.start) for knob in one.knobs]
    last = [0 if is_game(knob) else len(knob.positions) - 1 for knob in one.knobs]
    alone = [[end if i == k else start for i, start in enumerate(starts)] for k in range(len(starts)) for end in (0, last[k])]
    return [list(places) for places in dict.fromkeys(map(tuple, [starts, [0] * len(starts), last, *alone]))]


def clamped(panel, mark, scope):
    """Whether so many values in a row lie exactly where the panel's upright axis ends. A line on a log axis leaves the picture there."""
    axis = panel["y"]
    first, last = np.log10(axis["range"]) if axis["log"] else axis["range"]
    room = 0.03 / 1.06 * (last - first)
    number = lambda key: np.concatenate([np.ravel(scope[ref] if isinstance(ref, str) else [float(n) for n in ref[0].split()]) for ref in mark[key]])
    if mark["kind"] in ("path", "points") and np.ptp(number("x")) == np.ptp(number("y")) == 0:
        return False  # a path that has not begun
    for key in ("y", "upper"):
        parts = [scope[ref] if isinstance(ref, str) else [float(number) for number in ref[0].split()] for ref in mark.get(key, [])]
        values = np.concatenate([np.ravel(part) for part in parts]) if parts else np.array([])
        values = np.log10(np.maximum(values, 1e-300)) if axis["log"] else values
        for end in (first + room, last - room):
            if axis["log"] and (mark["kind"] == "path" or (mark["kind"] == "bars" and end == first + room)):
                continue  # a bar from the end of a log axis has no height there
            if not axis["log"] and min(abs(end - natural) for natural in NATURAL) < 1e-6:
                continue
            there = np.abs(values - end) < 1e-5 * abs(last - first)
            if max((len(list(group)) for same, group in itertools.groupby(there) if same), default=0) >= RUN:
                return True
    return False


@every_chapter
def test_nothing_that_is_clamped_is_drawn_as_data(reader, site, drawings, chapter):
    page, wrong = opened(reader, site, chapter, DESK), []
    for one in (one for one in BOOK if one.chapter == chapter):
        for places in ends(one):
            move(page, one, places)
            settings = settle(page, one)
            scope = outputs(page, one) | {name: value for name, value in settings.items() if not isinstance(value, str)}
            for panel in drawings[one.name]["panels"]:
                kinds = [mark for mark in panel["marks"] if mark["kind"] in ("path", "points", "area", "bars")]
                wrong += [(one.name, panel["title"], mark["y"], settings) for mark in kinds if clamped(panel, mark, scope)]
    page.close()
    assert wrong == []


# ---- words -----------------------------------------------------------------------------------------------------------------

WORDS = """e => [...e.querySelectorAll('.cml-plot')].map(plot => {
  const box = e => { const { left, top, right, bottom } = e.getBoundingClientRect(); return [left, top, right, bottom] };
  const inside = plot.querySelector('.cml-field') ?? plot.querySelector('.cml-moving');
  return { area: box(inside), words: [...plot.querySelectorAll('.cml-moving text')].filter(t => t.textContent.trim()).map(t => [t.textContent, box(t)]) } })"""


def unreadable(panel, area, words):
    """Words of a panel that lie on each other, or leave it; the numbers along its axes are not asked."""
    ticks = {text for axis in ("x", "y") for _, text in panel[axis]["ticks"]}
    words = [(text, box) for text, box in words if text not in ticks]
    out = [text for text, box in words if box[0] < area[0] - 3 or box[1] < area[1] - 6 or box[2] > area[2] + 3 or box[3] > area[3] + 6]
    meet = lambda a, b: min(a[2], b[2]) - max(a[0], b[0]) > 1 and min(a[3], b[3]) - max(a[1], b[1]) > 4  # a line of text has room above and below
    return out + [(a, b) for (a, here), (b, there) in itertools.combinations(words, 2) if meet(here, there)]


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@every_chapter
def test_the_words_in_a_picture_can_be_read(reader, site, drawings, chapter, size):
    """At its start: no two lie on each other, and none leaves its panel."""
    page, wrong = opened(reader, site, chapter, size), []
    for one in (one for one in BOOK if one.chapter == chapter):
        settle(page, one)
        page.wait_for_timeout(150)  # a place for a label changes the key, and with it the plot's height, a frame later
        found = element(page, one).evaluate(WORDS)
        panels = drawings[one.name]["panels"]
        wrong += [(one.name, panel["title"], bad) for panel, seen in zip(panels, found, strict=True) if (bad := unreadable(panel, seen["area"], seen["words"]))]
    page.close()
    assert wrong == []
