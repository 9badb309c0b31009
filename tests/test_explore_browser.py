"""Explorables on a page, in a real browser, from a local file: no Sphinx, no kernel, no network."""

import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from browsing import drawn, element, move, outputs, sentence, settle

from cmlcore import explore
from cmlcore.explore import Arrow, Axis, Band, Bars, Choice, Dots, Drawing, Explorable, Handle, Image, Knob, Line, Marker, Panel, Polar, Row, Rule, Text, grid

pytestmark = pytest.mark.browser

# ---- three explorables: a light program, a heavy one, a grid -----------------------------------------------------------

XS = np.linspace(-2, 3, 41)


def bowls(beta, theta):
    at = (theta + 2 * beta) / (1 + beta)
    low = (at - theta) ** 2 + beta * (at - 2) ** 2
    return {"free": (XS - theta) ** 2, "nudged": (XS - theta) ** 2 + beta * (XS - 2) ** 2, "at": at, "low": low}


def heavy(steps, rate):
    """A long descent: some tenths of a second in the page."""
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(60, 60)) / 60, jnp.float32)
    matrix = weights @ weights.T + jnp.eye(60)
    phi = jax.lax.fori_loop(0, steps, lambda i, phi: phi - rate * (matrix @ phi - 1), jnp.zeros(60))
    return {"phi": phi, "loss": 0.5 * phi @ matrix @ phi - phi.sum(), "ks": jnp.arange(60.0)}


def pictures(size, rule, shift):
    image = jnp.sin(jnp.arange(6.0)[:, None] * size + jnp.arange(8.0) + shift)
    return {"image": image, "score": jnp.arange(1.0, 5) * size + rule, "best": 4 * size + rule}


LIGHT = Explorable(
    name="bowls",
    title="Two bowls",
    compute=bowls,
    knobs=[Knob("beta", "nudge β", 1e-3, 10, 0.1, log=True, points=65), Knob("theta", "θ", -1, 1, 0, points=21, unit="units")],
    draw=Drawing(
        [
            Panel(
                [Line(XS, "free", label="free"), Line(XS, "nudged", label="nudged", color="orange"), Marker("at", "low")],
                x=Axis("φ"),
                y=Axis("loss", range=(0, 20)),
                title="Bowls",
            ),
            Panel([Band(XS, "free", "nudged"), Rule(x="at"), Arrow("theta", 3, "at", 3), Text("at", 10, "{at:.2f}")], x=Axis("φ"), y=Axis("loss")),
        ]
    ),
    say="At β = {beta:.3g} and θ = {theta:.2g} the minimum is {at:.3g}{if at > 1}: past the middle{end}.",
    table=[Row("at", "minimum"), Row("low", "loss there"), Row("nudged", "loss")],
)
HEAVY = Explorable(
    name="descent",
    title="A long descent",
    compute=heavy,
    knobs=[Knob("steps", "steps T", 0, 40_000, 20_000, points=41, whole=True), Knob("rate", "rate", 1e-6, 1e-4, 1e-5, log=True, points=31)],
    draw=Drawing([Panel([Dots("ks", "phi")], x=Axis("index"), y=Axis("φ", range=(0, 1)))]),
    say="After {steps} steps the loss is {loss:.4g}.",
)
STORED = Explorable(
    name="stored",
    title="A stored grid",
    compute=pictures,
    knobs=[
        Knob("size", "size", 0.1, 1, 0.5, points=7),
        Choice("rule", "rule", ["one-sided", "symmetric"]),
        Knob("shift", "shift", 0, 3, 1, points=4, whole=True),
    ],
    draw=Drawing([Panel([Image("image", -1, 1)]), Panel([Bars(np.arange(1, 5), "score")], x=Axis("k"), y=Axis("score", range=(0, 5)))]),
    say="The {rule} rule reaches {best:.3g}.",
    source=grid(),
)
ALL = [LIGHT, HEAVY, STORED]


# ---- the browser -------------------------------------------------------------------------------------------------------


def write(folder, explorables, policy=""):
    """A page with nothing but explorables, as a folder of files."""
    for file in explore.static_files():
        shutil.copy(file, folder)
    head = "<meta charset='utf-8'><meta name='viewport' content='width=device-width'><title>Explorables</title><link rel='stylesheet' href='page.css'>"
    theme = "<style>:root{color-scheme:light}[data-theme=dark]{color-scheme:dark}body{margin:8px;background:Canvas;color:CanvasText}</style>"
    scripts = "".join(f"<script defer src='{file.name}'></script>" for file in explore.static_files() if file.suffix == ".js")
    space = "<div style='height:3000px'></div>"
    body = space.join(explore.render_html(json.loads(json.dumps(one.payload()))) for one in explorables)
    (folder / "index.html").write_text(f"<!doctype html><html lang='en'>{head}{policy}{theme}{scripts}<main>{body}</main></html>", encoding="utf-8")
    return (folder / "index.html").as_uri()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    return write(tmp_path_factory.mktemp("page"), ALL)


@pytest.fixture
def page(browser):
    """A page that fails its test for any error in the console and any request but to local files."""
    page, wrong = browser.new_page(viewport={"width": 900, "height": 800}), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("request", lambda request: wrong.append(request.url) if not request.url.startswith(("file:", "blob:", "data:")) else None)
    yield page
    page.close()
    assert not wrong


def matches(page, one, settings, rtol):
    """The page's outputs are the package's at these settings, and its sentence and table what the package says of them."""
    expected = one.at(**settings)
    found = outputs(page, one)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=rtol, atol=rtol * max(np.abs(value).max(), 1e-30), err_msg=f"{name} at {settings}")
    found = {name: np.asarray(value, expected[name].dtype) for name, value in found.items()}
    assert sentence(page, one) == one.describe_outputs(found, **settings)
    cells = element(page, one).locator(".cml-tables td").all_text_contents()
    assert cells == [cell for table in one.tabulate(found) for row in table.rows for cell in row]


# ---- as a reader meets it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_an_explorable_is_there_and_moves_with_every_knob_by_keyboard(page, address, one):
    page.goto(address)
    settings = settle(page, one)
    assert settings == {knob.name: knob.start for knob in one.knobs}
    before = drawn(page, one), sentence(page, one)
    assert len(before[0]) > 500
    for knob in one.knobs:
        control = element(page, one).get_by_label(knob.label)
        control.focus()
        page.keyboard.press("End" if isinstance(knob, Knob) else "ArrowDown")
        assert settle(page, one)[knob.name] == knob.positions[-1]
        after = drawn(page, one), sentence(page, one)
        assert after[0] != before[0]
        before = after
    element(page, one).get_by_role("button", name="Reset").click()
    assert settle(page, one) == {knob.name: knob.start for knob in one.knobs}


@pytest.mark.parametrize("one, rtol", [(LIGHT, 1e-5), (HEAVY, 1e-4), (STORED, 5.1e-5)], ids=lambda v: getattr(v, "name", None))
def test_the_page_computes_what_the_package_computes(page, address, one, rtol):
    rng = np.random.default_rng(1)
    page.goto(address)
    settle(page, one)
    for _ in range(6):
        places = [int(rng.integers(len(knob.positions))) for knob in one.knobs]
        move(page, one, places)
        settings = settle(page, one)
        assert settings == {knob.name: knob.positions[place] for knob, place in zip(one.knobs, places)}
        matches(page, one, settings, rtol)


# What a move costs in milliseconds is measured by `python -m benchmarks.page`; here it is counted what is asked of the worker.
COUNTED = """async ([name, values, wait]) => {
    const box = document.getElementById('explorable-' + name), slider = box.querySelector('input'), post = Worker.prototype.postMessage;
    let asked = 0;
    Worker.prototype.postMessage = function (...question) { asked++; return post.apply(this, question); };
    for (const value of values) {
        slider.value = value;
        slider.dispatchEvent(new Event('input', {bubbles: true}));
        while (wait && box.explorable.indices[0] !== value) await new Promise((done) => setTimeout(done));
    }
    while (box.explorable.indices[0] !== values.at(-1)) await new Promise((done) => setTimeout(done));
    return asked;
}"""


def test_a_heavy_figure_leaves_the_slider_free_and_the_last_answer_wins(page, address):
    page.goto(address)
    settle(page, HEAVY)
    values = list(range(10, 41, 2))
    assert page.evaluate(COUNTED, [HEAVY.name, values, False]) == 2  # the first move and the last: nothing in between is computed
    settings = settle(page, HEAVY)
    assert settings["steps"] == 40_000
    matches(page, HEAVY, settings, 1e-4)


def test_a_light_figure_answers_every_move_once(page, address):
    page.goto(address)
    settle(page, LIGHT)
    values = list(range(0, 61, 3))
    assert page.evaluate(COUNTED, [LIGHT.name, values, True]) == len(values)


def test_a_link_carries_the_settings(page, address):
    page.goto(address + "#bowls.beta=5&bowls.theta=-0.5&size=0.3")
    assert settle(page, LIGHT) == {"beta": 4.87, "theta": -0.5}  # the position nearest 5
    link = element(page, LIGHT).get_by_role("link", name="Link to these settings")
    copied = link.evaluate("e => e.href")
    assert settle(page, STORED)["size"] == pytest.approx(0.25, abs=0.06)  # a plain name reaches whoever has such a knob
    element(page, LIGHT).get_by_role("button", name="Reset").click()
    settle(page, LIGHT)
    page.goto(copied)
    assert settle(page, LIGHT)["theta"] == -0.5
    page.evaluate("location.hash = '#stored.rule=symmetric&bowls.theta=nonsense'")
    assert settle(page, STORED)["rule"] == "symmetric"
    assert settle(page, LIGHT)["theta"] == -0.5


def test_a_page_with_one_explorable_has_plain_links(page, tmp_path):
    page.goto(write(tmp_path, [LIGHT]) + "#beta=1&theta=0.5")
    assert settle(page, LIGHT) == {"beta": 1, "theta": 0.5}
    assert element(page, LIGHT).locator(".cml-link").get_attribute("href") == "#beta=1&theta=0.5"


def test_a_figure_waits_until_it_comes_near(page, tmp_path):
    address = write(tmp_path, [LIGHT])
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    (tmp_path / "index.html").write_text(text.replace("<main>", "<main><div style='height:4000px'></div>"), encoding="utf-8")
    page.goto(address)
    page.wait_for_timeout(300)
    assert not page.locator(".cml-awake").count() and not drawn(page, LIGHT).count("<path")
    settle(page, LIGHT)
    assert page.locator(".cml-awake").count() and drawn(page, LIGHT).count("<path")


def test_a_screen_reader_hears_name_value_and_sentence(page, address):
    page.goto(address)
    settle(page, LIGHT)
    page.wait_for_timeout(600)
    assert element(page, LIGHT).get_by_role("status").text_content() == ""  # nothing is spoken of a figure that nobody touched
    slider = element(page, LIGHT).get_by_role("slider", name="θ")
    slider.focus()
    page.keyboard.press("Home")
    assert slider.get_attribute("aria-valuetext") == "−1 units"
    settings = settle(page, LIGHT)
    status = element(page, LIGHT).get_by_role("status")
    page.wait_for_function("e => e.textContent", arg=status.element_handle())
    assert status.text_content() == LIGHT.describe(**settings)
    assert element(page, LIGHT).get_by_role("img").first.get_attribute("aria-label") == "Bowls; loss over φ; showing free, nudged"


@pytest.mark.parametrize("width", [390, 320])
def test_a_phone_shows_all_of_it(page, address, width):
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(address)
    for one in ALL:
        settle(page, one)
        element(page, one).locator("summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for box in page.evaluate("[...document.querySelectorAll('.cml-plot, .cml-moving > svg, .cml-knob')].map(e => e.getBoundingClientRect().right)"):
        assert box <= width


def test_a_tap_moves_a_slider(browser, address):
    """On a touch screen: a finger at the right end of every slider, and nothing leaves the window."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(address)
    for one in ALL:
        settle(page, one)
        for knob in one.knobs:
            if isinstance(knob, Knob):
                slider = element(page, one).get_by_label(knob.label)
                slider.scroll_into_view_if_needed()
                box = slider.bounding_box()
                page.touchscreen.tap(box["x"] + box["width"] - 3, box["y"] + box["height"] / 2)
                assert settle(page, one)[knob.name] == knob.positions[-1]
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def test_a_program_that_the_page_cannot_run_says_why(browser, tmp_path):
    address = write(tmp_path, [LIGHT])
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    newer, found = re.subn(r'("program":\{[^{}\[\]]*?"version":)\d+', r"\g<1>99", text)
    assert found == 1
    (tmp_path / "index.html").write_text(newer, encoding="utf-8")
    page = browser.new_page()
    page.goto(address)
    page.wait_for_function("document.querySelector('.cml-say').textContent.includes('version 99')")
    page.close()


# ---- hands --------------------------------------------------------------------------------------------------------------

DISC = np.hypot(*np.meshgrid(np.arange(21.0) - 10, np.arange(21.0) - 10))
HELD = Explorable(
    name="held",
    title="Two markers to drag",
    compute=lambda re, im, degrees, size: {"far": jnp.hypot(re, im), "across": 10 + 10 * (size + 7) / 7 * jnp.cos(degrees * jnp.pi / 180),
                                           "down": 10 - 10 * (size + 7) / 7 * jnp.sin(degrees * jnp.pi / 180)},
    knobs=[Knob("re", "real part", -2, 2, 0, points=41), Knob("im", "imaginary part", 0.01, 100, 1, log=True, points=41),
           Knob("degrees", "angle", -180, 180, 0, points=73), Knob("size", "size: 10 to the", -7, 0, -3.5, points=15)],
    draw=Drawing([
        Panel([Handle("re", "im")], x=Axis("re", range=(-2, 2)), y=Axis("im", range=(0.01, 100), log=True)),
        Panel([Image(DISC, 0, 15), Handle("across", "down", polar=Polar("degrees", "size", (10, 10), 10))]),
    ]),
    say="{far:.2g} away, and 10 to the {size} at {degrees} degrees.",
)  # fmt: skip


def grip(page, number):
    """Where a handle stands, and the area of its panel: middle (x, y), and left, top, width, height."""
    box = element(page, HELD).locator(".cml-grip").nth(number).bounding_box()
    area = element(page, HELD).locator(".cml-field").nth(number).bounding_box()
    return (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2), (area["x"], area["y"], area["width"], area["height"])


def held_by_mouse(page, start, end):
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    page.mouse.move(*end)
    page.mouse.up()


def held_by_finger(page, start, end):
    session = page.context.new_cdp_session(page)
    touch = lambda kind, *points: session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]})
    touch("touchStart", start)
    touch("touchMove", ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2))
    touch("touchMove", end)
    touch("touchEnd")


@pytest.mark.parametrize("hold, touch", [(held_by_mouse, False), (held_by_finger, True)])
def test_a_marker_is_dragged_and_two_knobs_follow(browser, tmp_path, hold, touch):
    address = write(tmp_path, [HELD])
    context = browser.new_context(viewport={"width": 390, "height": 844} if touch else {"width": 900, "height": 800}, has_touch=touch, is_mobile=touch)
    page = context.new_page()
    page.goto(address)
    settle(page, HELD)
    element(page, HELD).locator(".cml-plot").first.scroll_into_view_if_needed()
    middle, (left, top, width, height) = grip(page, 0)
    assert middle == pytest.approx((left + width / 2, top + height / 2), abs=2)
    before = page.evaluate("scrollY")
    hold(page, middle, (left + 0.765 * width, top + 0.265 * height))
    settings = settle(page, HELD)
    assert settings["re"] == pytest.approx(1.1, abs=0.11)  # a panel leaves room of 3 % on both sides
    assert np.log10(settings["im"]) == pytest.approx(1, abs=0.11)
    assert page.evaluate("scrollY") == before  # the page did not scroll instead
    after, _ = grip(page, 0)
    assert after == pytest.approx((left + 0.765 * width, top + 0.265 * height), abs=8)  # it snaps to the nearest positions
    start, (left, top, width, height) = grip(page, 1)
    hold(page, start, (left + width / 2, top + height / 42))
    assert {k: settle(page, HELD)[k] for k in ("degrees", "size")} == {"degrees": 90, "size": 0}
    context.close()


def test_a_click_sends_the_marker_there_and_the_sliders_still_lead(page, tmp_path):
    page.goto(write(tmp_path, [HELD]))
    settle(page, HELD)
    _, (left, top, width, height) = grip(page, 1)
    page.mouse.click(left + width / 42, top + height / 2)
    assert abs(settle(page, HELD)["degrees"]) == 180
    element(page, HELD).get_by_label("angle").focus()
    page.keyboard.press("End")
    for _ in range(18):
        page.keyboard.press("ArrowLeft")
    assert settle(page, HELD)["degrees"] == 90
    page.wait_for_timeout(100)
    assert grip(page, 1)[0] == pytest.approx((left + width / 2, top + height / 42), abs=4)
    assert not element(page, HELD).locator(".cml-grip").first.evaluate("e => e.tabIndex >= 0")  # no second stop for the keyboard


ANGLES = np.linspace(0.1, 3, 30)
KINDS = Explorable(
    name="kinds",
    title="Every kind of mark",
    compute=lambda size: {
        "wave": size * jnp.sin(ANGLES),
        "low": -jnp.exp(-ANGLES) * size,
        "picture": size * jnp.outer(ANGLES[:3], ANGLES[:4]) / 3,
        "fall": size * jnp.exp(-ANGLES),
    },
    knobs=[Knob("size", "size", 0.2, 1, 0.8, points=9)],
    draw=Drawing(
        [
            Panel(
                [Line(ANGLES, "wave"), Dots(ANGLES[::7], np.cos(ANGLES[::7])), Band(ANGLES, "low", "wave"), Marker(2.0, "size")],
                x=Axis("angle", range=(0, 3)),
                y=Axis("height", range=(-1, 1)),
            ),
            Panel([Bars(np.arange(1, 5), np.array([0.5, -0.3, 0.8, 0.2]))], x=Axis("k", range=(0, 5)), y=Axis("score", range=(-1, 1))),
            Panel([Image("picture", -1, 1)]),
            Panel(
                [Line(ANGLES, "fall"), Dots(ANGLES[::9], np.exp(-ANGLES[::9]))],
                x=Axis("angle", range=(0.1, 10), log=True),
                y=Axis("fall", range=(0.01, 1), log=True),
            ),
        ]
    ),
    say="The size is {size:.1f}.",
)
PLACES = """(plot) => {
  const middles = (marks) => [...marks].map((e) => [e, getComputedStyle(e)]).filter(([, style]) => style.strokeWidth !== "0px" || style.fill !== "none")
    .map(([e]) => e.getBoundingClientRect()).map((b) => [b.left + b.width / 2, b.top + b.height / 2]).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const moving = ".cml-moving .cml-marks > g > *, .cml-heat";
  return [middles(plot.querySelectorAll(".cml-still svg svg > :is(path, circle, rect, image)")), middles(plot.querySelectorAll(moving))];
}"""


def test_the_picture_of_jupyter_and_of_paper_is_the_one_of_the_page(page, tmp_path):
    """Two programs draw the same plain data: the middles of a panel's marks lie alike, to a hundredth of the box around them."""
    page.goto(write(tmp_path, [KINDS]))
    settle(page, KINDS)
    counts = []
    for plot in element(page, KINDS).locator(".cml-plot").all():
        still, moving = (np.array(marks) for marks in plot.evaluate(PLACES))
        assert still.shape == moving.shape, (still, moving)
        alike = [(marks - marks.min(0)) / np.maximum(np.ptp(marks, axis=0), 1) for marks in (still, moving)]
        assert np.abs(alike[0] - alike[1]).max() < 0.01, (still, moving)
        counts.append(len(still))
    assert counts == [8, 4, 1, 5]


def test_a_mark_under_the_pointer_reads_its_numbers_off(page, tmp_path):
    page.goto(write(tmp_path, [KINDS]))
    settle(page, KINDS)
    shown = KINDS.at()
    read = [("circle", 0, "0.1, 0.995"), ("rect", 2, "3, 0.8"), ("canvas", 0, None), ("circle", -1, None)]
    for plot, (mark, number, wanted) in zip(element(page, KINDS).locator(".cml-plot").all(), read):
        reading = plot.locator(".cml-reading")
        assert not reading.is_visible()
        one = plot.locator(f".cml-marks {mark}, {mark}.cml-heat").nth(number)
        one.scroll_into_view_if_needed()
        one.hover(force=True)
        wanted = wanted or (f"{shown['picture'][1, 2]:.4g}" if mark == "canvas" else f"2.8, {np.exp(-2.8):.4g}")
        assert reading.inner_text() == wanted
        page.mouse.move(2, 2)
        assert not reading.is_visible()


def test_figures_follow_the_theme(page, address):
    page.goto(address)
    settle(page, LIGHT)
    color = "getComputedStyle(document.querySelector('.cml-axes text')).fill"
    light = page.evaluate(color)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_function(f"{color} !== {json.dumps(light)}")
    assert page.evaluate(color) == page.evaluate("getComputedStyle(document.querySelector('.cml-explorable')).color")


def test_paper_shows_the_default(page, address):
    page.goto(address + "#bowls.beta=10")
    settle(page, LIGHT)
    page.emulate_media(color_scheme="dark")
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.querySelector('.cml-explorable')).color") == "rgb(0, 0, 0)"
    assert sentence(page, LIGHT) == LIGHT.describe()
    assert element(page, LIGHT).locator(".cml-still svg").first.is_visible()
    assert not element(page, LIGHT).get_by_role("slider").first.is_visible()
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert sentence(page, LIGHT) == LIGHT.describe(beta=10)


def test_without_scripts_the_default_reads(browser, address):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert sentence(page, STORED) == STORED.describe()
    assert element(page, STORED).locator("svg").first.is_visible()
    assert not element(page, STORED).locator("input").first.is_visible()  # nothing that would not answer
    context.close()


@pytest.mark.parametrize("policy", ["script-src 'self' file: blob: 'unsafe-inline'", "script-src 'self' file: 'unsafe-inline'; worker-src 'none'"])
def test_no_eval_and_no_worker_are_needed(browser, tmp_path, policy):
    """Under a policy without eval; and where workers are forbidden, the page computes by itself."""
    page = browser.new_page()
    page.goto(write(tmp_path, [LIGHT], f'<meta http-equiv="Content-Security-Policy" content="{policy}">'))
    settings = settle(page, LIGHT)
    matches(page, LIGHT, settings, 1e-5)
    page.close()


def test_a_missing_script_is_said(browser, tmp_path):
    address = write(tmp_path, [LIGHT])
    (tmp_path / "draw.js").unlink()
    page = browser.new_page()
    page.goto(address)
    page.wait_for_function("document.querySelector('.cml-say').textContent.includes('draw.js did not load')")
    assert element(page, LIGHT).locator(".cml-still svg").first.is_visible()
    page.close()
