"""Hands on the picture: what is drawn, taken, pressed and played, by mouse, finger and keyboard; the first page, and the chapters' own handles."""

import re

import ipywidgets
import jax.numpy as jnp
import numpy as np
import pytest
from browsing import drawn, element, of_the_first_page, outputs, sentence, settle, stored
from PIL import Image
from test_explore_browser import held_by_finger, held_by_mouse, page, write  # noqa: F401  (a fixture)
from test_touch import drag

from cmlcore.explore import Axis, Dots, Drawing, Explorable, Knob, Line, Marker, Panel, Pen, Points, Touch, grid
from cmlcore.press import book, front

XS, FLAT = np.linspace(0, 4, 5), [(x, 0) for x in range(5)]
PLACES = np.linspace(0, 1, 11)


def shapes(curve, dots, step):
    height = jnp.sum(curve[:, 1])
    return {"curve_y": curve[:, 1], "x": dots[:, 0], "y": dots[:, 1], "height": height, "mean": jnp.mean(dots[:, 0]), "fall": 4 * PLACES**2,
            "drawing": 1.0 * (step < 5), "at": 4 * (step / 10) ** 2}  # fmt: skip


HANDS = Explorable(
    name="hands",
    title="Everything that a hand can do",
    compute=shapes,
    knobs=[
        Points("curve", "your curve", FLAT, x=(0, 4), y=(-3, 3), level=True),
        Points("dots", "three dots", [(1, 1), (2, 2), (3, 1)], x=(0, 4), y=(-3, 3), offers={"Others": [[(1, 2), (2, 0), (3, 2)], [(0, 0), (2, 1), (4, 0)]]}, fresh=("step",)),
        Knob("step", "step", 0, 10, 0, points=11, whole=True, play=True),
    ],
    draw=Drawing(
        [
            Panel([Line(XS, "curve_y"), Dots("x", "y"), Pen("dots"), Pen("curve", "drawing")], x=Axis("x", range=(0, 4)), y=Axis("y", range=(-3, 3))),
            Panel([Line(PLACES * 10, "fall"), Marker("step", "at"), Touch(PLACES * 10, "fall", "step", PLACES * 10, grip=True)], x=Axis("step", range=(0, 10)), y=Axis("fall", range=(0, 4))),
        ]
    ),
    say="Height {height:.2g}, mean {mean:.3g}, step {step}.",
)  # fmt: skip


# ---- points as a setting --------------------------------------------------------------------------------------------------


def test_points_are_a_text_and_read_what_somebody_pastes():
    dots = HANDS.knobs[1]
    assert dots.start == "1_1~2_2~3_1" and dots.positions == ("1_1~2_2~3_1", "1_2~2_0~3_2", "0_0~2_1~4_0")
    assert dots.value("0.123, -0\n 2 , 2.5\n3\t1\n") == "0.12_0~2_2.5~3_1"
    np.testing.assert_array_equal(dots.array("0_0~2_1~4_0"), [[0, 0], [2, 1], [4, 0]])
    assert HANDS.describe(curve="0_1~1_1~2_0~3_0~4_0") == "Height 2, mean 2, step 0."


WRONG = {
    "1, 1\n2, 2": "2 points; 3 are needed, one on a line",
    "1, 1\n2, two\n3, 1": "line 2, “2, two”: write two numbers, x, y",
    "1, 1\n2\n3, 1": "line 2, “2”: write two numbers, x, y",
    "1, 1\n2, 2\n3, 9": "line 3: y = 9 is outside -3 to 3",
    "-1, 1\n2, 2\n3, 1": "line 1: x = -1 is outside 0 to 4",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_are_no_points_is_told_line_by_line(text):
    with pytest.raises(ValueError, match=re.escape(WRONG[text])):
        HANDS.knobs[1].value(text)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: HANDS.knobs[0].value("0_0~1_0~2_0~3_0~3.5_0"), "every x stays as it is"),
        (lambda: _with(Pen("step")), "a Pen moves Points"),
        (lambda: _with(Touch((0.0,), (0.0,), "dots", (0,))), "a Pen moves Points, and they need one; dots is a Points"),
        (lambda: _with(Pen("nothing")), "sets the knob 'nothing'|names nothing"),
        (lambda: Explorable("w", "w", shapes, HANDS.knobs, HANDS.draw, "{height}", source=grid()).payload(), "more records than can be stored"),
    ],
)
def test_what_no_hand_can_do_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def _with(mark):
    return Explorable("w", "w", shapes, HANDS.knobs, Drawing([Panel([mark], x=Axis(range=(0, 1)), y=Axis(range=(0, 1)))]), "{height}")


def test_jupyter_has_the_same_hands_as_widgets():
    box = HANDS.live()
    texts = [widget for widget in box.children if isinstance(widget, ipywidgets.Textarea)]
    play = next(widget for widget in box.children if isinstance(widget, ipywidgets.Play))
    slider = next(widget for widget in box.children if isinstance(widget, ipywidgets.SelectionSlider))
    said = lambda: [widget.value for widget in box.children if isinstance(widget, ipywidgets.HTML)][2]
    play.value = 7
    assert slider.value == 7 and "step 7" in said()
    slider.value = 2
    assert play.value == 2
    texts[1].value = "1, 1\n2, two\n3, 1"
    assert "line 2" in said()
    button = next(b for widget in box.children if isinstance(widget, ipywidgets.HBox) for b in widget.children if b.description == "Others")
    button.click(), button.click(), button.click()
    assert texts[1].value == "1_2~2_0~3_2" and "mean 2" in said()


# ---- in the page ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    return write(tmp_path_factory.mktemp("hands"), [HANDS])


def place(page, one, panel, x, y, ranges):
    """A point of a panel in pixels, for values on its axes; a panel leaves 3 % of room."""
    frame = element(page, one).locator(".cml-plot").nth(panel).locator(".cml-field").bounding_box()
    share = lambda value, low, high: (value - low + 0.03 * (high - low)) / (1.06 * (high - low))
    return frame["x"] + share(x, *ranges[0]) * frame["width"], frame["y"] + (1 - share(y, *ranges[1])) * frame["height"]


CURVE, FALL = ((0, 4), (-3, 3)), ((0, 10), (0, 4))


def agrees(page, one, settings):
    expected, found = one.at(**settings), outputs(page, one)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-4)
    assert sentence(page, one) == one.describe_outputs({name: np.asarray(found[name], expected[name].dtype) for name in expected}, **settings)


@pytest.mark.parametrize("hold, touch", [(held_by_mouse, False), (held_by_finger, True)], ids=["mouse", "finger"])
@pytest.mark.browser
def test_a_curve_is_drawn_a_dot_is_taken_and_a_ring_is_dragged(browser, address, hold, touch):
    context = browser.new_context(viewport={"width": 390, "height": 844} if touch else {"width": 900, "height": 800}, has_touch=touch, is_mobile=touch)
    page = context.new_page()
    page.goto(address)
    settle(page, HANDS)
    start, top = drawn(page, HANDS), page.evaluate("scrollY")
    hold(page, place(page, HANDS, 0, 0.05, -2, CURVE), place(page, HANDS, 0, 3.95, -1, CURVE))
    settings = settle(page, HANDS)
    heights = [float(pair.split("_")[1]) for pair in settings["curve"].split("~")]
    assert heights == pytest.approx([-2, -1.75, -1.5, -1.25, -1], abs=0.1) and settings["dots"] == HANDS.knobs[1].start
    agrees(page, HANDS, settings)
    hold(page, place(page, HANDS, 0, 2, 2, CURVE), place(page, HANDS, 0, 2.5, -0.5, CURVE))
    taken = settle(page, HANDS)
    assert taken["curve"] == settings["curve"]
    assert [float(part) for part in taken["dots"].split("~")[1].split("_")] == pytest.approx([2.5, -0.5], abs=0.1)
    agrees(page, HANDS, taken)
    ring = element(page, HANDS).locator(".cml-grip")
    assert ring.count() == 1
    hold(page, place(page, HANDS, 1, 0, 0, FALL), place(page, HANDS, 1, 8, 4 * 0.64, FALL))
    assert settle(page, HANDS)["step"] == 8
    page.wait_for_timeout(100)
    box = ring.bounding_box()
    assert (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2) == pytest.approx(place(page, HANDS, 1, 8, 4 * 0.64, FALL), abs=4)
    if not touch:  # where no hand is, a finger's swipe is the browser's
        hold(page, place(page, HANDS, 0, 0.05, 2, CURVE), place(page, HANDS, 0, 3.95, 2, CURVE))
        assert settle(page, HANDS)["curve"] == settings["curve"]  # from the fifth step on the pen is off
    assert (
        drawn(page, HANDS) != start and page.evaluate("scrollY") == top and page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    )
    context.close()


@pytest.mark.browser
def test_points_move_by_keyboard_and_a_link_carries_them(page, address):  # noqa: F811
    page.goto(address)
    settle(page, HANDS)
    before = drawn(page, HANDS), sentence(page, HANDS)
    for label, knob, wanted in (("your curve", "curve", "0_0~1_0.1~2_0~3_0~4_0"), ("three dots", "dots", "1_1~2_2.1~3_1")):
        group = element(page, HANDS).get_by_role("group", name=label, exact=True)
        group.locator("summary").focus()
        page.keyboard.press("Enter")
        group.get_by_role("slider", name="point").focus()
        page.keyboard.press("ArrowRight")
        group.get_by_role("slider", name="its height").focus()
        page.keyboard.press("ArrowRight")
        assert settle(page, HANDS)[knob] == wanted
        after = drawn(page, HANDS), sentence(page, HANDS)
        assert after[0] != before[0]
        before = after
    link = element(page, HANDS).locator(".cml-link").evaluate("e => e.href")
    element(page, HANDS).get_by_role("button", name="Reset").click()
    assert settle(page, HANDS)["dots"] == HANDS.knobs[1].start
    page.goto(link)
    assert settle(page, HANDS) == {"curve": "0_0~1_0.1~2_0~3_0~4_0", "dots": "1_1~2_2.1~3_1", "step": 0}
    page.evaluate("location.hash = 'dots=1_1~2_2'")
    assert settle(page, HANDS)["dots"] == "1_1~2_2.1~3_1"


@pytest.mark.browser
def test_points_are_pasted_and_what_is_wrong_is_named(page, address):  # noqa: F811
    page.goto(address)
    settle(page, HANDS)
    group = element(page, HANDS).get_by_role("group", name="three dots", exact=True)
    group.locator("summary").click()
    field, take, wrong = group.get_by_role("textbox"), group.get_by_role("button", name="Take them"), group.get_by_role("alert")
    assert field.input_value() == "1, 1\n2, 2\n3, 1"
    for text, words in WRONG.items():
        field.fill(text)
        take.click()
        assert words in wrong.inner_text()
    assert settle(page, HANDS)["dots"] == HANDS.knobs[1].start
    field.fill("0.5, -1\n2;3,1\n".replace("2;", "2, 0\n"))
    take.click()
    settings = settle(page, HANDS)
    assert settings["dots"] == "0.5_-1~2_0~3_1" and wrong.inner_text() == ""
    agrees(page, HANDS, settings)


@pytest.mark.browser
def test_play_runs_and_can_be_stopped_and_scrubbed(page, address):  # noqa: F811
    page.goto(address)
    settle(page, HANDS)
    start = drawn(page, HANDS)
    element(page, HANDS).get_by_role("button", name="Play: step").focus()
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#explorable-hands').dataset.shown.endsWith('step=3')")
    element(page, HANDS).get_by_role("button", name="Pause: step").click()
    stopped = settle(page, HANDS)["step"]
    page.wait_for_timeout(900)
    assert 3 <= settle(page, HANDS)["step"] == stopped < 10 and drawn(page, HANDS) != start
    element(page, HANDS).get_by_role("button", name="Play: step").click()
    slider = element(page, HANDS).get_by_role("slider", name="step", exact=True)
    slider.focus()
    page.keyboard.press("Home")  # a hand on the slider stops it
    page.wait_for_timeout(900)
    assert settle(page, HANDS)["step"] == 0
    element(page, HANDS).get_by_role("button", name="Play: step").click()
    page.wait_for_function("document.querySelector('#explorable-hands').dataset.shown.endsWith('step=10')")
    page.wait_for_timeout(600)
    assert element(page, HANDS).get_by_role("button", name="Play: step").inner_text() == "▶"
    element(page, HANDS).get_by_role("button", name="Others").click()
    assert settle(page, HANDS) == {"curve": HANDS.knobs[0].start, "dots": "1_2~2_0~3_2", "step": 0}


# From the input event of the first slider to the figure that shows it, the best of six, and the program's part: printed, never judged.
MOVED = """async (name) => {
  const box = document.getElementById('explorable-' + name), slider = box.querySelector('input[type=range][data-knob]'), found = [];
  const last = Number(slider.max);
  for (let k = 0; k < 6; k++) { // ends at the last position
    const start = performance.now();
    slider.value = Number(slider.value) === last ? last - 1 : last;
    slider.dispatchEvent(new Event('input', { bubbles: true }));
    const wanted = box.querySelector('.cml-link').hash.slice(1);
    while (box.dataset.shown !== wanted) await new Promise((done) => setTimeout(done));
    found.push([performance.now() - start, box.explorable.milliseconds]);
  }
  return found.sort((a, b) => a[0] - b[0])[0];
}"""


# ---- the first page --------------------------------------------------------------------------------------------------------


DRAW, NUDGE = of_the_first_page()
WAVE = ((-5, 5), (-6, 6))


@pytest.fixture
def first(page, site):  # noqa: F811
    page.goto((site / "book" / "intro.html").as_uri())
    settle(page, DRAW)
    return page


@pytest.mark.browser
def test_a_reader_draws_then_two_networks_do(first):
    figure, x = front.draw_the_rest(), np.linspace(-4.95, 4.95, 60)
    amplitude, phase = 3.2, 1.0
    spots = [place(first, DRAW, 0, a, amplitude * np.sin(a + phase), WAVE) for a in x]
    first.mouse.move(*spots[0])
    first.mouse.down()
    for spot in spots[1:]:
        first.mouse.move(*spot)
    first.mouse.up()
    settings = settle(first, DRAW)
    assert sentence(first, DRAW).startswith("Your curve is drawn.")
    element(first, DRAW).get_by_role("button", name="Play: networks learn").click()
    first.wait_for_function("document.querySelector('#explorable-draw-the-rest').dataset.shown.includes('steps=100')", timeout=60_000)
    settings = settle(first, DRAW)
    found = outputs(first, DRAW)
    assert sentence(first, DRAW) == figure.describe_outputs({k: np.asarray(v, figure.at()[k].dtype) for k, v in found.items()}, **settings)
    assert found["your_error"] < 0.3 and found["prior_error"] < 0.1 < 1 < found["scratch_error"]
    np.testing.assert_allclose(found["truth"], amplitude * np.sin(front.LINE + phase), atol=0.02)
    agrees(first, figure, settings)
    print("100 steps of learning, twice, and the drawing: {:.0f} ms; of that the program {:.0f} ms".format(*first.evaluate(MOVED, DRAW.name)))
    before = settings["ten"]
    spot = [float(part) for part in before.split("~")[3].split("_")]
    held_by_mouse(first, place(first, DRAW, 0, *spot, WAVE), place(first, DRAW, 0, spot[0], spot[1] - 2, WAVE))
    settings = settle(first, DRAW)
    assert settings["ten"] != before and "nearest to your dots" in sentence(first, DRAW)
    element(first, DRAW).get_by_role("button", name="Another wave").click()
    assert settle(first, DRAW) == {"steps": 0, "guess": "drawn by you", "curve": figure.knobs[2].start, "ten": figure.knobs[3].positions[0]}


@pytest.mark.browser
def test_a_guess_can_be_taken_and_ten_points_pasted(first):
    group = element(first, DRAW).get_by_role("group", name="the ten dots", exact=True)
    group.locator("summary").click()
    group.get_by_role("textbox").fill("\n".join(f"{x:.2f}, {2 * np.cos(x):.2f}" for x in np.linspace(-4, 4, 9)))
    group.get_by_role("button", name="Take them").click()
    assert "9 points; 10 are needed" in group.get_by_role("alert").inner_text()
    group.get_by_role("textbox").fill("\n".join(f"{x:.2f}, {2 * np.cos(x):.2f}" for x in np.linspace(-4, 4, 10)))
    group.get_by_role("button", name="Take them").click()
    element(first, DRAW).get_by_role("combobox", name="your guess").select_option("the dots, joined")
    slider = element(first, DRAW).get_by_role("slider", name="networks learn")
    slider.focus()
    first.keyboard.press("End")
    settings = settle(first, DRAW)
    agrees(first, front.draw_the_rest(), settings)
    np.testing.assert_allclose(outputs(first, DRAW)["truth"], 2 * np.cos(front.LINE), atol=0.02)
    assert sentence(first, DRAW).startswith("Mean squared error on the whole wave: you 0.")


@pytest.mark.browser
def test_one_nudge_is_dragged(first):
    figure = front.one_nudge()
    settle(first, NUDGE)
    before = sentence(first, NUDGE)
    ring = element(first, NUDGE).locator(".cml-grip").first.bounding_box()
    middle = ring["x"] + ring["width"] / 2, ring["y"] + ring["height"] / 2
    held_by_mouse(first, middle, place(first, NUDGE, 0, 0.64, 0.2, ((-1.5, 2), (0, 6))))
    settings = settle(first, NUDGE)
    assert settings["beta"] < 0.1 and sentence(first, NUDGE) == figure.describe(**settings) != before
    assert figure.at(beta=0.01)["gradient"] == pytest.approx(10 / 9, rel=0.02)


@pytest.mark.browser
def test_without_scripts_there_is_a_still_a_sentence_and_how_it_ends(browser, site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((site / "book" / "intro.html").as_uri())
    assert page.locator(".cml-still svg").first.is_visible() and page.locator("noscript svg, div > svg").first.is_visible()
    text = page.locator("article").inner_text()
    assert "Press into the picture" in text and "the one with learned synapses" in text
    context.close()


def test_a_shared_link_shows_title_question_and_picture(site):
    picture = Image.open(site / "_static" / book.PREVIEW)
    assert picture.size == (1200, 630) and len(picture.convert("L").getcolors()) > 50
    told = {}
    for path in [site / "index.html", *sorted((site / "book").glob("*.html"))]:
        text = path.read_text(encoding="utf-8")
        metas = dict(re.findall(r'<meta (?:name|property)="([\w:]+)" content="([^"]*)"', text))
        assert {"description", "og:title", "og:description", "og:image", "og:url", "twitter:card"} <= metas.keys(), path.name
        assert metas["og:image"].endswith(f"/_static/{book.PREVIEW}") and 20 < len(metas["description"]) <= 202, (path.name, metas["description"])
        assert not re.search(r"[\\$]", metas["description"]), (path.name, metas["description"])
        told[path.name] = metas["og:title"]
    assert told["index.html"] == told["intro.html"] == "The Contrastive Rule" and len(set(told.values())) == len(told) - 1
    assert "<h1>The Contrastive Rule" not in (site / "book" / "intro.html").read_text(encoding="utf-8")  # the name stands beside the logo


# ---- the chapters' handles ---------------------------------------------------------------------------------------------------

BOOK = {one.name: one for one in stored()}
# A figure, a panel of it, from where to where a hand moves (as shares of the panel, from the left and from below), and the knobs that follow.
GESTURES = [
    ("settling-ball", 0, (0.078, 0.807), (0.9, 0.2), {"x", "y"}),
    ("two-bowls", 0, None, (0.66, 0.3), {"beta"}),
    ("two-bowls", 1, (0.2, 0.3), (0.8, 0.6), {"beta"}),
    ("one-synapse", 0, (0.5, 0.5), (0.14, 0.3), {"synapse"}),
    ("one-synapse", 1, None, (0.2, 0.5), {"by"}),
    ("sliding-floor", 0, None, (0.75, 0.2), {"omega"}),
    ("sliding-floor", 2, None, (0.2, 0.3), {"omega"}),
    ("stopped-early", 0, (0.2, 0.3), (0.7, 0.7), {"steps"}),
    ("two-photographs", 0, (0.66, 0.3), (0.66, 0.9), {"beta"}),
    ("two-photographs", 1, (0.66, 0.3), (0.66, 0.5), {"beta"}),
    ("laboratory", 0, None, (0.3, 0.4), {"beta"}),
    ("how-many-points", 0, (0.19, 0.88), (0.8, 0.4), {"shots"}),
    ("overfitting", 0, None, (0.3, 0.6), {"steps"}),
    ("one-weight", 0, None, (0.75, 0.2), {"task_spread"}),
    ("other-waves", 0, (0.5, 0.6), (0.5, 0.25), {"frequency"}),
    ("how-many-hyperparameters", 1, (0.59, 0.8), (0.9, 0.3), {"doublings"}),
    ("photographs", 0, None, (0.3, 0.6), {"step"}),
    ("photographs", 1, (0.3, 0.2), (0.5, 0.3), {"step"}),
    ("side-by-side", 0, (0.2, 0.4), (0.2, 0.05), {"steps"}),
    ("side-by-side", 3, (0.2, 0.4), (0.2, 0.1), {"nudge"}),
    ("retuned", 0, (0.04, 0.12), (0.06, 0.12), {"neuron"}),
    ("one-drawing-each", 0, (0.5, 0.6), (0.9, 0.6), {"drawing"}),
]


@pytest.mark.browser
@pytest.mark.parametrize("name, panel, start, end, follow", GESTURES, ids=lambda value: value if isinstance(value, str) else None)
def test_what_a_chapter_shows_can_be_grabbed(page, site, name, panel, start, end, follow):  # noqa: F811
    one = BOOK[name]
    page.goto((site / "book" / f"{one.chapter}.html").as_uri())
    before, said = settle(page, one), sentence(page, one)
    element(page, one).locator(".cml-plot").nth(panel).scroll_into_view_if_needed()
    page.wait_for_timeout(200)
    drag(page, one, panel, start, end)
    after = settle(page, one)
    assert {key for key in before if before[key] != after[key]} == follow
    assert sentence(page, one) != said
    if one.kind == "program" and element(page, one).locator("input[type=range][data-knob]").count():
        print("{}, a move and its drawing: {:.0f} ms; of that the program {:.1f} ms".format(name, *page.evaluate(MOVED, name)))


@pytest.mark.browser
def test_a_support_point_of_a_wave_is_dragged(page, site):  # noqa: F811
    one = BOOK["ten-points"]
    page.goto((site / "book" / "sine-waves.html").as_uri())
    before = settle(page, one)
    spot = [float(part) for part in before["dots"].split("~")[4].split("_")]
    held_by_mouse(page, place(page, one, 1, *spot, WAVE), place(page, one, 1, spot[0], spot[1] - 3, WAVE))
    after = settle(page, one)
    assert after["dots"] != before["dots"] and "on the wave nearest to them" in sentence(page, one)


@pytest.mark.browser
@pytest.mark.parametrize("name", [name for name, one in BOOK.items() if one.plays], ids=str)
def test_learning_is_played_in_a_chapter(page, site, name):  # noqa: F811
    one = BOOK[name]
    page.goto((site / "book" / f"{one.chapter}.html").as_uri())
    settle(page, one)
    start, button = drawn(page, one), element(page, one).locator(".cml-play")
    button.click()
    page.wait_for_function("([name, now]) => document.getElementById('explorable-' + name).dataset.shown !== now", arg=[name, ""])
    page.wait_for_timeout(1200)
    assert button.inner_text() == "❚❚"
    button.click()
    assert drawn(page, one) != start
