"""The frame of every figure: it fits into the window with its controls and its sentence, on a desk and on a phone, and a chapter begins with one."""

import pytest
from browsing import element, is_game, move, of_the_first_page, settle, stored

pytestmark = pytest.mark.browser

BOOK = [*of_the_first_page(), *stored()]
DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
CHAPTERS = list(dict.fromkeys(one.chapter for one in BOOK))
every_chapter = pytest.mark.parametrize("chapter", CHAPTERS)
both_sizes = pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])

BOX = """e => { const box = s => e.querySelector(s).getBoundingClientRect(), own = e.getBoundingClientRect();
  const over = [...e.querySelectorAll('figcaption, .cml-axis-x, .cml-axis-y')].filter(t => t.scrollWidth > t.clientWidth + 1 && t.matches('figcaption'));
  const upright = [...e.querySelectorAll('.cml-axis-y')].filter(t => t.getBoundingClientRect().height > t.parentElement.clientHeight);
  return { height: own.height, room: innerHeight - parseFloat(getComputedStyle(e).scrollMarginTop), plots: [...e.querySelectorAll('.cml-plot')].map(p => p.clientHeight),
    together: box('.cml-say').bottom - box('.cml-panels').top, cut: [...over, ...upright].map(t => t.textContent) } }"""


@pytest.fixture(scope="module")
def reader(browser):
    context = browser.new_context()
    yield context
    context.close()


def ends(one):
    """Places of the knobs, at each end; a game at its start."""
    for end in (0, -1):
        yield [0 if is_game(knob) else range(len(knob.positions))[end] for knob in one.knobs]


@both_sizes
@every_chapter
def test_a_chapter_begins_with_its_figure_and_every_figure_fits(reader, site, chapter, size):
    """Under the title, the question and the bet, before any scrolling: the first picture begins in the upper two thirds of the window, no code above it.

    At its start and with all sliders at their ends: below the header there is room for a figure with its controls and its sentence, and nothing of it is cut.
    """
    page, wrong = reader.new_page(), []
    page.set_viewport_size(size)
    page.goto((site / "book" / f"{chapter}.html").as_uri())
    page.evaluate("document.fonts.ready.then(() => 0)")
    top = page.locator(".cml-explorable").first.evaluate("e => e.getBoundingClientRect().top + scrollY")
    before = page.locator("article details, article .cell_input").first.evaluate("e => e.getBoundingClientRect().top + scrollY")
    for one in (one for one in BOOK if one.chapter == chapter):
        settle(page, one)
        for places in (None, *ends(one)):
            if places:
                move(page, one, places)
                settle(page, one)
            found = element(page, one).evaluate(BOX)
            if found["height"] > found["room"] + 1 or min(found["plots"]) < 90 or found["cut"]:
                wrong.append((one.name, places, found))
    page.close()
    assert wrong == []
    assert top < size["height"] * 2 / 3
    assert top < before
