"""A reader's moves: recorded in one knob, made with buttons or by pressing the picture, in the page and in Jupyter."""

import json
import xml.etree.ElementTree as xml

import ipywidgets
import jax.numpy as jnp
import numpy as np
import pytest
from browsing import drawn, element, outputs, sentence, settle
from test_explore_browser import held_by_mouse, page, write  # noqa: F401  (a fixture)

from cmlcore.explore import Axis, Choice, Dots, Drawing, Explorable, Knob, Line, Marker, Panel, Touch, Turns, grid

CORNERS = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])
NAMES = ("left", "right", "up")


def walk(path, size, rule):
    made = path >= 0
    x = size * jnp.sum(jnp.where(made & (path == 1), 1.0, 0.0))
    return {"x": x / 4, "up": jnp.sum(path == 2), "count": jnp.sum(made), "last": path[0], "height": size * (1 + rule) / 4}


GAME = Explorable(
    name="walk",
    title="A walk",
    compute=walk,
    knobs=[Turns("path", "your steps", NAMES, 4), Knob("size", "size", 0.25, 1, 0.5, points=4), Choice("rule", "rule", ("low", "high"))],
    draw=Drawing(
        [
            Panel(
                [Dots(*CORNERS), Marker("x", "height"), Touch(*CORNERS, "path", (0, 1, 2))],
                x=Axis("x", range=(-0.2, 1.2)),
                y=Axis("y", range=(-0.2, 1.2)),
                square=True,
            ),
            Panel(
                [Line(np.arange(2.0), np.arange(2.0)), Touch((0.0, 1.0), (0.0, 1.0), "size", (0.25, 1.0))], x=Axis("x", range=(0, 1)), y=Axis("y", range=(0, 1))
            ),
            Panel(
                [Line(np.arange(1.0, 11), np.arange(1.0, 11)), Touch((2.0, 9.0), (3.0, 3.0), "rule", (0, 1))],
                x=Axis("x", range=(1, 10), log=True),
                y=Axis("y", range=(1, 10)),
            ),
        ]
    ),
    say='{count:d} steps{if path != ""}: {path}{end}; {up:d} up; {x:.3g}.',
)


# ---- the record ------------------------------------------------------------------------------------------------------


def test_a_record_is_a_text_with_a_sign_a_move():
    turns = Turns("path", "your steps", NAMES, 4)
    np.testing.assert_array_equal(turns.array("210"), [2, 1, 0, -1])
    np.testing.assert_array_equal(turns.array(""), [-1] * 4)
    assert turns.array("").dtype == jnp.int32
    assert turns.positions[0] == turns.start == "" and {"0", "1", "2", "0000", "0120"} <= set(turns.positions)
    assert all(turns.value(record) == record for record in turns.positions)


@pytest.mark.parametrize("wrong", ["00000", "3", "a", " ", "-", 1, None])
def test_what_is_no_record_is_refused(wrong):
    with pytest.raises(ValueError, match="no record of at most 4 moves, each of 0 to 2"):
        Turns("path", "your steps", NAMES, 4).value(wrong)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: Turns("p", "p", ("one",), 3), "2 to 36 different options"),
        (lambda: Turns("p", "p", ("one", "one"), 3), "2 to 36 different options"),
        (lambda: Turns("p", "p", NAMES, 0), "one move or more"),
        (lambda: Touch((0.0, 1.0), (0.0,), "p", (0, 1)), "1-d data of one length"),
        (lambda: _with(Touch((0.0,), (0.0,), "nothing", (0,))), "sets the knob 'nothing'|names nothing"),
        (lambda: _with(Touch((0.0,), (0.0,), "path", (3,))), "gives path the value 3, outside 0 to 2"),
        (lambda: _with(Touch((0.0,), (0.0,), "size", (2.0,))), "gives size the value 2, outside 0.25 to 1"),
        (lambda: Explorable("w", "w", walk, GAME.knobs, GAME.draw, "{count}", source=grid()).payload(), "more records than can be stored"),
    ],
)
def test_what_cannot_be_played_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def _with(touch):
    return Explorable("w", "w", walk, GAME.knobs, Drawing([Panel([touch], x=Axis(range=(0, 1)), y=Axis(range=(0, 1)))]), "{count}")


def test_a_touch_draws_nothing():
    with_touch, without = GAME.payload()["pictures"][0], [mark for mark in GAME.draw.panels[0].marks if not isinstance(mark, Touch)]
    bare = Explorable(
        "walk", "w", walk, GAME.knobs, Drawing([Panel(without, x=Axis("x", range=(-0.2, 1.2)), y=Axis("y", range=(-0.2, 1.2)), square=True)]), "{count}"
    )
    assert xml.canonicalize(with_touch) == xml.canonicalize(bare.payload()["pictures"][0])


def test_the_buttons_of_jupyter_write_the_record():
    widgets = GAME.live()
    record, buttons = widgets.children[2:4]
    assert isinstance(record, ipywidgets.Text) and [b.description for b in buttons.children] == [*NAMES, "Take back"]
    for k in (2, 1, 1, 0, 0, 2):  # two too many
        buttons.children[k].click()
    assert record.value == "2110" and GAME.describe(path="2110") in "".join(w.value for w in widgets.children if isinstance(w, ipywidgets.HTML)).replace(
        "&quot;", '"'
    )
    buttons.children[-1].click()
    assert record.value == "211"


# ---- in the page -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    return write(tmp_path_factory.mktemp("touch"), [GAME])


def agrees(page, settings):
    expected, found = GAME.at(**settings), outputs(page, GAME)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6)
    assert sentence(page, GAME) == GAME.describe(**settings)


def drag(page, one, panel, start, end):
    """A mouse in a panel, between places given as shares of the plot, from the left and from below; without a start, from the panel's ring."""
    plot = element(page, one).locator(".cml-plot").nth(panel)
    frame = plot.locator(".cml-field").bounding_box()
    at = lambda x, y: (frame["x"] + x * frame["width"], frame["y"] + (1 - y) * frame["height"])
    if start is None:
        ring = plot.locator(".cml-grip").bounding_box()
        held_by_mouse(page, (ring["x"] + ring["width"] / 2, ring["y"] + ring["height"] / 2), at(*end))
    else:
        held_by_mouse(page, at(*start), at(*end))


def press(page, panel, x, y):
    """A finger in a panel, at a share of the plot's width from the left and of its height from below."""
    frame = element(page, GAME).locator(".cml-plot").nth(panel).locator(".cml-field").bounding_box()
    page.mouse.click(frame["x"] + x * frame["width"], frame["y"] + (1 - y) * frame["height"])


@pytest.mark.browser
def test_moves_are_made_and_taken_back_by_keyboard(page, address):  # noqa: F811
    page.goto(address)
    assert settle(page, GAME) == {"path": "", "size": 0.5, "rule": "low"}
    box = element(page, GAME).get_by_role("group", name="your steps")
    start = drawn(page, GAME)
    for name, record in (("right", "1"), ("up", "12"), ("left", "120"), ("right", "1201"), ("right", "1201"), ("Take back", "120")):
        button = box.get_by_role("button", name=name, exact=True)
        button.focus()
        page.keyboard.press("Enter")
        settings = settle(page, GAME)
        assert settings["path"] == record and box.locator(".cml-value").inner_text() == f"{len(record)} of 4"
        assert button.evaluate("e => e === document.activeElement")
        agrees(page, settings)
    assert drawn(page, GAME) != start
    assert element(page, GAME).locator(".cml-link").get_attribute("href") == "#path=120&size=0.5&rule=low"
    element(page, GAME).get_by_role("button", name="Reset").click()
    assert settle(page, GAME)["path"] == "" and drawn(page, GAME) == start


@pytest.mark.browser
def test_pressing_the_picture_makes_the_nearest_move(page, address):  # noqa: F811
    page.goto(address)
    settle(page, GAME)
    for x, y, record in ((0.8, 0.2, "1"), (0.2, 0.75, "12"), (0.1, 0.1, "120"), (0.9, 0.45, "1201"), (0.9, 0.1, "1201")):
        press(page, 0, x, y)
        settings = settle(page, GAME)
        assert settings["path"] == record
        agrees(page, settings)
    press(page, 1, 0.9, 0.9)
    assert settle(page, GAME)["size"] == 1
    press(page, 1, 0.1, 0.3)
    assert settle(page, GAME)["size"] == 0.25
    press(page, 2, 0.69, 0.3)  # a log axis: 5, which lies nearer to 2 than to 9 in numbers, but not on the paper
    assert settle(page, GAME) == {"path": "1201", "size": 0.25, "rule": "high"}


@pytest.mark.browser
def test_a_finger_presses_on_a_phone_and_nothing_leaves_the_window(browser, address):
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(address)
    settle(page, GAME)
    frame = element(page, GAME).locator(".cml-plot").first.locator(".cml-field").bounding_box()
    page.touchscreen.tap(frame["x"] + 0.8 * frame["width"], frame["y"] + 0.9 * frame["height"])
    assert settle(page, GAME)["path"] == "1"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


@pytest.mark.browser
def test_a_link_carries_a_game_and_refuses_what_is_none(page, address):  # noqa: F811
    page.goto(address + "#path=0212&size=1")
    settings = settle(page, GAME)
    assert settings == {"path": "0212", "size": 1, "rule": "low"}
    agrees(page, settings)
    for wrong in ("00000", "3", "x", "-1", "1 2"):
        page.evaluate("hash => location.hash = hash", f"path={wrong}")
        assert settle(page, GAME)["path"] == "0212"
    assert json.loads(GAME.payload()["figure"])["knobs"][0]["count"] == 4
