"""Drawings as a knob: texts, ink as Omniglot's, the page's twin of it, the pad, and what a page keeps beside itself and remembers."""

import base64
import json
import subprocess

import ipywidgets
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from browsing import element, outputs, sentence, settle
from PIL import Image
from test_explore_browser import held_by_finger, held_by_mouse, page, write  # noqa: F401  (a fixture)
from test_program import NODE, javascript, need

from cmlcore import explore
from cmlcore.data import archive, omniglot
from cmlcore.data.alphabets import ALPHABETS, drawn
from cmlcore.explore import Axis, Bars, Beside, Drawing, Explorable, Panel, Strokes, Touch, remembered, strokes, traced
from cmlcore.explore import Image as Picture
from cmlcore.explore.program import export

LINE, HOOK, DOT = strokes.written([[(10, 10), (90, 90)]]), strokes.written([[(30, 20), (30, 80), (70, 80)], [(60, 40)]]), strokes.written([[(52, 52)]])
WEIGHTS = np.random.default_rng(0).normal(size=(784, 3)).astype(np.float16).astype(np.float32)
CENTERS = 28.0 * np.arange(4) + 13.5


def weighed(drawings):
    there = jnp.sum(drawings, (1, 2)) > 0
    many = jnp.where(there[2], 3, 2)
    found = jax.lax.map(remembered(lambda drawing: drawing.reshape(1, -1) @ WEIGHTS), drawings / 255)[:, 0]
    share = jnp.mean(drawings, (1, 2)) / 255
    return {
        "sheet": jnp.round(drawings.transpose(1, 0, 2).reshape(28, -1) / 255 * 9), "share": share, "found": found, "whole": jnp.mean(share),
        "count": jnp.sum(there), "last": many + 0.5, "first": found[0, 0], "center": jnp.zeros(4) + 13.5,
    }  # fmt: skip


DRAWN = Explorable(
    name="drawn",
    title="Three drawings, and one of them again",
    compute=weighed,
    knobs=[
        Strokes(
            "drawings",
            "your drawings",
            ("one", "two", "three", "again"),
            2,
            {"Some": (f"{LINE}~{HOOK}~~{LINE}", f"{DOT}~{LINE}~{HOOK}~{DOT}"), "A dot": (f"{DOT}~~~",)},
        )
    ],
    draw=Drawing(
        [
            Panel([Picture("sheet", 0, 9), Touch(CENTERS, "center", "drawings", range(4), grip=True)], x=Axis(range=(-0.5, 111.5)), y=Axis(range=(27.5, -0.5))),
            Panel([Bars(np.arange(1.0, 5), "share")], x=Axis("drawing", range=(0.5, "last"), ticks=(1, 2, 3, 4)), y=Axis("share", range=(0, 0.2))),
        ]
    ),
    say="{count:d} drawings, {whole:.2%} ink, {first:.3g}.",
    source=traced(beside=Beside("weighed", (WEIGHTS,))),
)
KNOB = DRAWN.knobs[0]


# ---- texts and the knob ----------------------------------------------------------------------------------------------


def test_a_drawing_is_a_text_and_back():
    assert LINE == "0a0a2i2i" and [stroke.tolist() for stroke in strokes.read(HOOK)] == [[[30, 20], [30, 80], [70, 80]], [[60, 40]]]
    assert strokes.written([[(-3, 200.0)], [(1.5, 2.4)]]) == "002w-0202" and strokes.read("") == []


@pytest.mark.parametrize(
    "drawing, words", [("0a0", "no stroke"), ("0a0A", "no stroke"), ("0a0a-", "no stroke"), ("2x00", "ends at 104"), ("0a0a~", "no stroke")]
)
def test_what_is_no_drawing_is_refused(drawing, words):
    with pytest.raises(ValueError, match=words):
        strokes.read(drawing)
    with pytest.raises(ValueError, match=f"your drawings: two: .*{words}" if "~" not in drawing else "5 drawings; 4 are needed"):
        KNOB.value(f"{LINE}~{drawing}~~")


@pytest.mark.parametrize(
    "change, words",
    [
        ({"first": 0}, "first is 0"),
        ({"first": 4}, "first is 4"),
        ({"offers": {}}, "offer one setting"),
        ({"offers": {"Some": ("~",)}}, "2 drawings; 4 are needed"),
    ],
)
def test_a_knob_that_cannot_be_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        Strokes(**{"name": "d", "label": "d", "names": ("one", "two", "three", "again"), "first": 2, "offers": {"A": ("~~~",)}} | change)


def test_no_grid_holds_all_drawings():
    with pytest.raises(ValueError, match="more records than can be stored"):
        Explorable("d", "d", weighed, [KNOB], DRAWN.draw, "{count}", source=explore.grid()).payload()


def test_in_jupyter_a_list_offers_what_the_page_offers():
    box = DRAWN.live()
    (choice,) = (w for w in box.children if isinstance(w, ipywidgets.Dropdown))
    assert [text for text, _ in choice.options] == ["Some 1", "Some 2", "A dot 1"]
    choice.index = 2
    assert any("1 drawings" in w.value for w in box.children if isinstance(w, ipywidgets.HTML))


def test_an_axis_ends_where_an_output_says():
    two, three = (explore.picture.svg(DRAWN.lowered["panels"][1], DRAWN.scope(drawings=record), 300) for record in KNOB.offers["Some"])
    assert ">2</text>" in two and ">3</text>" not in two and ">3</text>" in three
    with pytest.raises(ValueError, match="the drawing names nothing"):
        Explorable(
            "d",
            "d",
            weighed,
            [KNOB],
            Drawing([Panel([Bars(np.arange(4.0), "share")], x=Axis(range=(0, "nothing"), ticks=()), y=Axis(range=(0, 1)))]),
            "{count}",
        )


# ---- ink, as in the data ---------------------------------------------------------------------------------------------


def test_paper_is_shrunk_as_pillow_shrinks_it():
    noise = np.random.default_rng(0).integers(0, 256, (20, strokes.PAPER, strokes.PAPER), np.uint8)
    for paper in [*noise, *(np.where(strokes.inked(strokes.read(each)), 0, 255).astype(np.uint8) for each in (LINE, HOOK, DOT))]:
        resized = Image.fromarray(paper).resize((strokes.SMALL, strokes.SMALL), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(strokes.shrunk(paper), np.asarray(resized))


def test_a_pen_is_five_pixels_wide():
    dot, upright = strokes.inked(strokes.read(DOT)), strokes.inked([np.array([[50, 20], [50, 80]])])
    assert dot.sum() == 21 and upright[50].sum() == 5 and 61 < upright.any(1).sum() <= 65
    tilted = strokes.inked([np.array([[20, 20], [80, 80]])])
    assert tilted[50].sum() == 7  # as a slanted stroke of the data has


def originals():
    """Drawings of evaluation characters as they were drawn, 105 x 105, and as they are kept; where the archive has both."""
    if (path := archive.find(omniglot.ARCHIVE)) is None:
        pytest.skip("no Omniglot archive here")
    with np.load(path) as saved:
        if "ink105" not in saved.files:
            pytest.skip("this archive has no originals")
        chosen = np.flatnonzero(saved["evaluation"])[::10]
        return np.unpackbits(saved["ink105"][chosen, 3], axis=-1, count=strokes.PAPER).astype(bool), 255 - saved["images28"][chosen, 3]


def thinned(ink):
    """The middle lines of strokes, one pixel wide (Zhang & Suen 1984)."""
    ink = np.pad(ink, ((0, 0), (1, 1), (1, 1)))
    while True:
        before = ink.sum()
        for turn in (0, 4):
            around = [np.roll(ink, shift, (1, 2)) for shift in ((1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1))]
            north, east, south, west = (around[(k + turn) % 8] for k in (0, 2, 4, 6))
            count = sum(each.astype(int) for each in around)
            steps = sum((~around[k] & around[(k + 1) % 8]).astype(int) for k in range(8))
            ink = ink & ~((count > 1) & (count < 7) & (steps == 1) & ~(north & east & south) & ~(east & south & west))
        if ink.sum() == before:
            return ink[:, 1:-1, 1:-1]


def test_strokes_have_the_ink_of_the_data():
    """The middle lines of real drawings, drawn over by this pen: as much ink, in the same places, and nearly the same picture in small."""
    real, small = originals()
    ours = np.stack([strokes.inked([np.array([[x, y]]) for y, x in np.argwhere(line)]) for line in thinned(real)])
    assert abs(ours.mean() / real.mean() - 1) < 0.06
    assert (ours & real).sum() / (ours | real).sum() > 0.88
    pictures = np.stack([255 - strokes.shrunk(np.where(ink, 0, 255)) for ink in ours])
    assert np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(pictures, small)]) > 0.98
    own = [strokes.inked([stroke.astype(int) for stroke in drawn(character, 0)]).mean() for each in ALPHABETS.values() for character in each]
    assert np.percentile(real.mean((1, 2)), 5) < np.mean(own) < np.percentile(real.mean((1, 2)), 95)


# ---- the page's twin -------------------------------------------------------------------------------------------------


def scribbles(count):
    random = np.random.default_rng(1)
    return [strokes.written(random.integers(0, strokes.PAPER, (random.integers(1, 4), random.integers(1, 6), 2))) for _ in range(count)]


def test_the_page_draws_the_same_pixels(tmp_path):
    need(NODE, "nodejs")
    texts = ["", LINE, HOOK, DOT, *scribbles(30), *(strokes.written(drawn(c, 3)) for each in ALPHABETS.values() for c in each)]
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    script = (
        f"const s = require({json.dumps(str(strokes.__file__).replace('.py', '.js'))}); const texts = JSON.parse(require('fs').readFileSync(process.argv[1]));"
    )
    script += "console.log(JSON.stringify(texts.map((text) => [Array.from(s.image(text)), s.written(s.read(text))])))"
    found = json.loads(subprocess.run([NODE, "-e", script, tmp_path / "texts.json"], check=True, capture_output=True, text=True).stdout)
    for text, (pixels, again) in zip(texts, found):
        np.testing.assert_array_equal(np.reshape(pixels, (28, 28)), strokes.image(text), err_msg=text)
        assert again == text


def test_a_function_that_remembers_gives_what_it_gave(tmp_path):
    """In a loop, between other inputs, and long after it has forgotten."""

    def both(x, scale):
        once = remembered(lambda row: (jnp.sin(row) @ jnp.arange(4.0), row[0] > 0))
        return {"found": jax.lax.map(once, x)[0] * scale, "up": jax.lax.map(once, x)[1]}

    settings = [{"x": np.full((3, 4), k % 150) + np.arange(12).reshape(3, 4) * (k % 3), "scale": 2.0 + k % 2} for k in range(320)]
    program = export(both, x=jnp.zeros((3, 4)), scale=1.0)
    assert "remembered" in json.dumps(program)
    (results,) = javascript(tmp_path, [{"program": program, "inputs": [{"x": s["x"].ravel().tolist(), "scale": s["scale"]} for s in settings]}])
    for setting, result in zip(settings, results, strict=True):
        expected = both(jnp.asarray(setting["x"], float), setting["scale"])
        np.testing.assert_allclose(np.frombuffer(base64.b64decode(result["found"]["data"]), np.float32), expected["found"], rtol=1e-5, atol=1e-5)
        assert (np.frombuffer(base64.b64decode(result["up"]["data"]), np.uint8) == np.asarray(expected["up"])).all()


def test_arrays_lie_beside_the_page_exactly_or_not_at_all():
    weights = Beside("weights", (WEIGHTS,))
    program = weights.lent(export(lambda x: {"y": x @ WEIGHTS}, x=jnp.zeros(784)))
    assert [value for _, value in program["constants"]] == [[0]]
    assert weights.file == f"{weights.key}.js" and weights.key != Beside("weights", (WEIGHTS * 2,)).key
    assert np.frombuffer(base64.b64decode(weights.script.split('"')[3]), np.float16).astype(np.float32).tobytes() == WEIGHTS.tobytes()
    with pytest.raises(ValueError, match="does not use array 0"):
        weights.lent(export(lambda x: {"y": 2 * x}, x=0.0))
    with pytest.raises(ValueError, match="16 bits do not hold"):
        Beside("weights", (np.float32([0.1]),)).script  # noqa: B018


# ---- in the page -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("strokes")
    weights = Beside("weighed", (WEIGHTS,))
    (folder / weights.file).write_text(weights.script)
    return write(folder, [DRAWN])


def agrees(page, settings):  # noqa: F811
    expected, found = DRAWN.at(**settings), outputs(page, DRAWN)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
    assert sentence(page, DRAWN) == DRAWN.describe(**settings)


def on_the_pad(page, hold, *points):  # noqa: F811
    frame = element(page, DRAWN).locator(".cml-pad").bounding_box()
    hold(page, *((frame["x"] + x * frame["width"], frame["y"] + y * frame["height"]) for x, y in points))


@pytest.mark.browser
def test_everything_works_without_drawing(page, address):  # noqa: F811
    page.goto(address)
    settings = settle(page, DRAWN)
    assert settings == {"drawings": KNOB.start}
    agrees(page, settings)
    box = element(page, DRAWN).get_by_role("group", name="your drawings")
    for name, record in (("Some", KNOB.offers["Some"][1]), ("A dot", f"{DOT}~~~"), ("Some", KNOB.start), ("Empty all", "~~~"), ("Take back", "~~~")):
        button = box.get_by_role("button", name=name, exact=True)
        button.focus()
        page.keyboard.press("Enter")
        settings = settle(page, DRAWN)
        assert settings["drawings"] == record
        agrees(page, settings)
    paper, listed = box.get_by_role("img"), box.get_by_role("combobox")
    assert paper.get_attribute("aria-label") == "Paper for one, empty"
    listed.select_option("three")
    assert paper.get_attribute("aria-label") == "Paper for three, empty"
    for name in ("again", "one", "two", "again"):
        box.get_by_role("button", name="Next").click()
        assert listed.evaluate("e => e.options[e.selectedIndex].text") == name
    element(page, DRAWN).get_by_role("button", name="Reset").click()
    assert settle(page, DRAWN)["drawings"] == KNOB.start and paper.get_attribute("aria-label") == "Paper for again, drawn"


@pytest.mark.browser
@pytest.mark.parametrize("hold, touch", [(held_by_mouse, False), (held_by_finger, True)])
def test_a_hand_draws_and_the_answer_follows(browser, address, hold, touch):
    context = browser.new_context(viewport={"width": 390, "height": 844} if touch else {"width": 900, "height": 800}, has_touch=touch, is_mobile=touch)
    page = context.new_page()  # noqa: F811
    page.goto(address)
    settle(page, DRAWN)
    box = element(page, DRAWN).get_by_role("group", name="your drawings")
    box.get_by_role("button", name="Empty all").click()
    top = page.evaluate("scrollY")
    for number, ends in enumerate((((0.1, 0.1), (0.8, 0.9)), ((0.2, 0.8), (0.2, 0.2)), ((0.5, 0.1), (0.9, 0.5))), 1):
        on_the_pad(page, hold, *ends)
        settings = settle(page, DRAWN)
        texts = settings["drawings"].split("~")
        assert [bool(text) for text in texts] == [number >= 1, number >= 2, False, number >= 3]
        agrees(page, settings)
        (stroke,) = strokes.read(texts[{1: 0, 2: 1, 3: 3}[number]])
        np.testing.assert_allclose(stroke[[0, -1]] / 105, ends, atol=0.02)
        box.get_by_role("button", name="Next").click()
    assert page.evaluate("scrollY") == top and page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    on_the_pad(page, hold, (0.3, 0.3), (0.6, 0.3))
    assert settle(page, DRAWN)["drawings"].split("~")[0].count("-") == 1
    box.get_by_role("button", name="Take back").click()
    assert settle(page, DRAWN)["drawings"] == settings["drawings"]
    context.close()


@pytest.mark.browser
def test_pressing_a_cell_of_the_sheet_takes_its_drawing_to_the_pad(page, address):  # noqa: F811
    page.goto(address)
    settle(page, DRAWN)
    frame = element(page, DRAWN).locator(".cml-plot").first.locator(".cml-field").bounding_box()
    listed = element(page, DRAWN).get_by_role("combobox")
    for k, name in ((1, "two"), (0, "one"), (3, "again")):
        page.mouse.click(frame["x"] + (k + 0.3) / 4 * frame["width"], frame["y"] + frame["height"] / 2)
        assert listed.evaluate("e => e.options[e.selectedIndex].text") == name
    assert settle(page, DRAWN)["drawings"] == KNOB.start


@pytest.mark.browser
def test_a_link_carries_an_alphabet_and_refuses_what_is_none(page, address):  # noqa: F811
    record = f"{HOOK}~{scribbles(1)[0]}~{DOT}~"
    page.goto(f"{address}#drawings={record}")
    settings = settle(page, DRAWN)
    assert settings["drawings"] == record
    agrees(page, settings)
    for wrong in ("", "~~", "0a~~~", "zzzz~~~"):
        page.evaluate("hash => location.hash = hash", f"drawings={wrong}")
        assert settle(page, DRAWN)["drawings"] == record


@pytest.mark.browser
def test_where_no_worker_may_start_the_page_itself_computes(browser, address):
    page = browser.new_page()  # noqa: F811
    page.add_init_script("delete window.Worker")
    page.goto(address)
    agrees(page, settle(page, DRAWN))
    page.close()


@pytest.mark.browser
def test_without_its_weights_a_figure_says_so(browser, tmp_path):
    page = browser.new_page()  # noqa: F811
    page.goto(write(tmp_path, [DRAWN]))
    element(page, DRAWN).scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('.cml-say').textContent.includes('did not load')")
    page.close()
