"""Explorables in Python: what they compute, say, store and refuse. The page is tested in test_explore_browser.py."""

import itertools
import json
import shutil
import subprocess
import xml.etree.ElementTree as xml
from pathlib import Path

import ipywidgets
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmlcore import explore
from cmlcore.explore import (
    Arrow,
    Axis,
    Band,
    Bars,
    Choice,
    Dots,
    Drawing,
    Explorable,
    Image,
    Knob,
    Line,
    Marker,
    Panel,
    Row,
    Rule,
    Text,
    grid,
    page,
    picture,
    say,
)
from cmlcore.explore.program import RUNTIME

XS = np.linspace(-2, 3, 31)
RULES = ["one-sided", "symmetric"]


def slide(beta, rule):
    """Where the minimum of x^2 + beta (x - 2)^2 sits, and how wrong the two differences are about its slope."""
    at = 2 * beta / (1 + beta)
    error = jnp.where(rule == 0, beta / (1 + beta), beta**2 / (1 + beta) ** 2)
    return {"bowl": XS**2 + beta * (XS - 2) ** 2, "at": at, "low": 4 * beta / (1 + beta), "percent": 100 * error, "count": rule + 1200345}


def make(compute=slide, **changes):
    settings = dict(
        name="slide",
        title="A minimum slides",
        compute=compute,
        knobs=[Knob("beta", "nudge β", 1e-3, 10.0, 0.1, log=True, points=17), Choice("rule", "estimator", RULES)],
        draw=Drawing([Panel([Line(XS, "bowl", label="nudged"), Marker("at", "low")], x=Axis("φ"), y=Axis("loss", range=(0, 20)))]),
        say="At β = {beta:.2g} the {rule} rule is off by {percent:.2g} %{if percent > 50}, too much{end}.",
        table=[Row("percent", "error", "%"), "count", Row("bowl", "loss")],
    )
    return Explorable(**(settings | changes))


# ---- the sentence ----------------------------------------------------------------------------------------------------

SCOPE = {"x": 0.1234, "tiny": -1.26e-5, "n": 1234567, "zero": 0.0, "half": 2.5, "rule": "matched", "big": 3.0e8}
SENTENCES = [
    ("{x:.2g} {x:.1f} {x:.1%} {x}", "0.12 0.1 12.3\u00a0% 0.123"),
    ("{half:.0f} {half:d} {zero:.1f} {zero:.2g}", "3 3 0.0 0"),
    ("{tiny:.2g} {tiny} {tiny:.1f}", "−1.3 × 10⁻⁵ −1.26 × 10⁻⁵ 0.0"),
    ("{n:d} {n} {big}", "1234567 1.23 × 10⁶ 3 × 10⁸"),
    ("{{{rule}}}", "{matched}"),
    ("{if x < 0.2}low{elif x < 1}middle{else}high{end}", "low"),
    ("{if zero}yes{else}no{end}{if n >= 1234567}!{end}{if x != half}?{end}", "no!?"),
    ('{if rule == "matched"}A{if x > 1}B{else}C{end}{else}D{end}{if tiny < -1e-5}E{end}', "ACE"),
]


@pytest.mark.parametrize("template, told", SENTENCES)
def test_a_template_tells(template, told):
    assert say.tell(say.parse(template), SCOPE) == told


@pytest.mark.parametrize("template", ["{x", "x}", "{x:3}", "{x:.2x}", "{if x}", "{end}", "{if x ~ 3}a{end}", "{a b}", "{if x}a{else}b"])
def test_a_template_that_cannot_be_read_is_refused(template):
    with pytest.raises(ValueError):
        say.parse(template)


def test_the_page_tells_the_same():
    """The same templates and 3000 numbers through page.js, in node; the browser's tests compare sentences as well."""
    node = shutil.which("node")
    if not node:
        pytest.skip("needs node")
    rng = np.random.default_rng(0)
    values = [float(v) for v in np.concatenate([rng.normal(size=700) * 10.0 ** rng.integers(-9, 9, 700), rng.integers(-4000, 4000, 300) / 16])]
    specs = [("", 0), ("g", 1), ("g", 3), ("f", 0), ("f", 2), ("%", 1)]
    shown = [(v, kind, digits) for v in values for kind, digits in specs]
    script = (
        f"const {{show, tell}} = require({json.dumps(str(page.HERE / 'page.js'))}); let text = '';"
        "process.stdin.on('data', (d) => text += d).on('end', () => { const {shown, told, scope} = JSON.parse(text);"
        "console.log(JSON.stringify([shown.map((a) => show(...a)), told.map((t) => tell(t, scope))])); });"
    )
    given = json.dumps({"shown": shown, "told": [say.parse(template) for template, _ in SENTENCES], "scope": SCOPE})
    ran = subprocess.run([node, "-e", script], input=given, capture_output=True, text=True, check=True)
    numbers, told = json.loads(ran.stdout)
    assert told == [expected for _, expected in SENTENCES]
    assert numbers == [say.show(*arguments) for arguments in shown]


# ---- knobs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "knob",
    [
        Knob("k", "k", 1e-3, 10, 0.1, log=True, points=33),
        Knob("k", "k", -1, 1, 0.03, points=21),
        Knob("k", "k", 0, 100, 20, points=26, whole=True),
        Knob("k", "k", 1, 5, 5, points=25, whole=True),
        Knob("k", "k", 0, 3.14159, 0, points=9),
    ],
)
def test_positions_are_what_is_shown(knob):
    positions = knob.positions
    assert list(positions) == sorted(set(positions)) and knob.start in positions
    assert positions[0] == knob.low and positions[-1] == knob.high
    assert [float(text.replace("−", "-")) for text in knob.options] == pytest.approx(positions, rel=1e-5, abs=1e-12)
    assert all(isinstance(p, int) for p in positions) == knob.whole


# ---- what it computes ------------------------------------------------------------------------------------------------


def test_moving_a_knob_never_compiles_again():
    traces = []

    def traced(beta, rule):
        traces.append(beta)
        return slide(beta, rule)

    one = make(traced)
    widgets = one.live()
    before = len(traces)
    sliders = widgets.children[2:4]
    for position in one.knobs[0].positions:
        sliders[0].value = position
    sliders[1].value = "symmetric"
    for beta in (0.2, 0.3, 1, 0.0123):
        one.describe(beta=beta)
    assert before == len(traces) == 1


def test_sentence_and_table():
    one = make()
    assert one.describe() == "At β = 0.1 the one-sided rule is off by 9.1 %."
    assert one.describe(beta=5, rule="one-sided") == "At β = 5 the one-sided rule is off by 83 %, too much."
    scalars, curve = one.table(rule="symmetric")
    assert scalars.rows == [["error", "0.8264 %"], ["count", "1200346"]]
    assert curve.head == ["loss"] and len(curve.rows) == 11
    assert curve.rows[0] == ["5.6"] and curve.rows[-1] == ["9.1"]


def test_the_live_face_follows_its_widgets():
    one = make()
    widgets = one.live()
    title, pictures, beta, rule, reset, sentence, table = widgets.children
    beta.value, rule.value = 10.0, "symmetric"
    assert one.describe(beta=10.0, rule="symmetric") in sentence.value
    moved = pictures.value
    reset.click()
    assert (beta.value, rule.value) == (0.1, "one-sided")
    assert one.describe() in sentence.value and pictures.value != moved


def test_the_live_face_says_what_went_wrong():
    widgets = make(lambda beta, rule: slide(beta, rule) | {"at": jnp.where(beta > 5, jnp.inf, 1.0)}).live()
    widgets.children[2].value = 10.0
    assert "not finite at beta = 10.0" in widgets.children[5].value


def family(widget):
    """The widget and all that it holds."""
    return [widget] + [one for child in getattr(widget, "children", ()) for one in family(child)]


def test_the_live_face_needs_no_extension_of_one_notebook_program():
    """VS Code and Colab bring ipywidgets' own widgets and HTML, and nothing that is JupyterLab's alone."""
    widgets = make().live()
    assert {one._model_module for one in family(widgets)} == {one._view_module for one in family(widgets)} == {"@jupyter-widgets/controls"}
    pictures = [one.value for one in family(widgets) if isinstance(one, ipywidgets.HTML)]
    assert "<svg" in pictures[1] and not any(word in "".join(pictures) for word in ("<script", "jp-", " href=", " src="))


# ---- what it stores --------------------------------------------------------------------------------------------------


def shown(explorable, monkeypatch):
    """What a cell stores."""
    import IPython.display

    bundles = []
    monkeypatch.setattr(IPython.display, "display", lambda data, raw=False: bundles.append(data))
    explorable._ipython_display_()
    return bundles[0]


def test_the_face_is_the_pages_only_when_asked(monkeypatch):
    monkeypatch.setenv("CMLCORE_FACE", "page")
    bundle = shown(make(), monkeypatch)
    assert bundle["text/plain"] == make().describe()
    assert "<script" not in bundle["text/html"] and "<table>" in bundle["text/html"]
    assert explore.render_html(bundle[explore.MIME]).count("<input") == 1
    monkeypatch.delenv("CMLCORE_FACE")
    assert hasattr(shown(make(), monkeypatch), "children")


@pytest.mark.parametrize("source", [explore.traced(), grid()])
def test_what_is_stored_is_byte_stable_and_small(source):
    first, second = (json.dumps(make(source=source).payload(), indent=1) for _ in range(2))
    assert first == second
    assert len(first) < 30_000


def test_a_grid_holds_every_setting_at_five_digits():
    one = make(source=grid())
    values = json.loads(one.payload()["figure"])["source"]["values"]
    counts = [len(knob.positions) for knob in one.knobs]
    assert values["bowl"]["follows"] == [0] and values["count"]["follows"] == [1]
    for place in itertools.product(*map(range, counts)):
        exact = one.at(**{knob.name: knob.positions[k] for knob, k in zip(one.knobs, place)})
        for name, stored in values.items():
            data = picture.unpack(stored["data"]).reshape([counts[k] for k in stored["follows"]] + stored["shape"])
            found = data[tuple(place[k] for k in stored["follows"])]
            np.testing.assert_allclose(found, exact[name], rtol=5.1e-5 if exact[name].dtype.kind == "f" else 0)


def test_a_grid_that_is_too_large_says_what_to_lower():
    with pytest.raises(ValueError, match=r"17 × 2 settings takes \d+ kB.*bowl \d+ kB.*Lower a knob's points"):
        make(source=grid(limit_kb=1)).payload()


def test_what_the_page_cannot_compute_is_offered_a_grid():
    def random(beta, rule):
        return slide(beta, rule) | {"at": jax.random.normal(jax.random.key(0), ()) * beta}

    with pytest.raises(ValueError, match=r"(?s)slide cannot compute in the page.*source=grid\(\)"):
        make(random).payload()


# ---- how it draws ----------------------------------------------------------------------------------------------------


def everything(beta, count):
    rows = jnp.arange(12.0).reshape(3, 4) * beta
    xs = jnp.arange(4.0)
    return {"image": rows, "xs": xs, "ys": xs * beta, "more": xs * beta + 1, "one": beta, "two": 2 * beta + 0 * count}


EVERYTHING = dict(
    name="everything",
    title="Every <mark>",
    compute=everything,
    knobs=[Knob("beta", "β < 2", 0.1, 1, 0.5, points=4), Knob("count", "n", 1, 3, 2, points=3, whole=True)],
    draw=Drawing(
        [
            Panel(
                [
                    Band("xs", "ys", "more", label="s.e.m."),
                    Line("xs", "ys", dash=True),
                    Dots("xs", "more"),
                    Marker("count", "one"),
                    Rule(x=1.5),
                    Rule(y="two"),
                    Arrow(0, "one", 2, "two"),
                    Text(1, 1, "{beta:.1f} & {count}"),
                ],
                x=Axis("x", unit="s"),
            ),
            Panel([Bars("xs", "more")], y=Axis("height", log=True, range=(0.1, 10)), title="Bars & more"),
            Panel([Image("image", 0, 12, scale="both")], title="Image"),
        ]
    ),
    say="{one}",
)


def test_every_mark_is_drawn():
    pictures = Explorable(**EVERYTHING).payload()["pictures"]
    first, bars, image = (xml.fromstring(text) for text in pictures)
    tags = lambda tree: [element.tag.split("}")[1] for element in tree.iter()]
    assert tags(first).count("circle") == 5
    assert "0.5 & 2" in [element.text for element in first.iter()]
    assert "x (s)" in [element.text for element in first.iter()]
    assert tags(bars).count("rect") == 4
    assert tags(image).count("image") == 1
    assert not any("nan" in text or "inf" in text for text in pictures)


def test_plotly_has_every_mark_too():
    one = Explorable(**EVERYTHING)
    made = one.plotly(beta=1.0)
    assert [trace.type for trace in made.data] == ["scatter"] * 8 + ["bar", "heatmap"]
    np.testing.assert_allclose(made.data[-1].z, one.at(beta=1.0)["image"])
    assert made.data[7].text == ("1.0 & 2",) and made.layout.yaxis2.type == "log" and made.layout.yaxis3.scaleanchor == "x3"
    np.testing.assert_allclose(made.layout.xaxis.range, one.lowered["panels"][0]["x"]["range"])
    assert json.loads(made.to_json())["data"]


def test_an_image_keeps_its_pixels():
    from base64 import b64decode
    from io import BytesIO

    pil = pytest.importorskip("PIL.Image")
    tree = xml.fromstring(Explorable(**EVERYTHING).payload()["pictures"][2])
    (element,) = (e for e in tree.iter() if e.tag.endswith("image"))
    pixels = np.asarray(pil.open(BytesIO(b64decode(element.get("href").partition(",")[2]))))
    assert pixels.shape == (3, 4, 3)
    assert pixels[0, 0].tolist() == [0xB5, 0x5A, 0x0C]  # the low end of the scale


def test_the_pages_html_is_escaped():
    html = explore.render_html(Explorable(**EVERYTHING | {"say": "</script><b>{one}"}).payload())
    assert "Every &lt;mark&gt;" in html and "β &lt; 2" in html
    assert html.count("</script>") == 1


def test_ranges_stay_while_a_knob_moves():
    lowered = Explorable(**EVERYTHING).lowered["panels"][0]
    low, high = lowered["y"]["range"]
    assert low < 0 and high > 4  # the largest `more`, at beta = 1


def test_colors_read_on_both_themes():
    def luminance(text):
        c = np.array([int(text[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    dark = luminance("#14181e")
    for color in explore.COLORS.values():
        assert 1.05 / (luminance(color) + 0.05) > 3 and (luminance(color) + 0.05) / (dark + 0.05) > 3


# ---- what it refuses -------------------------------------------------------------------------------------------------

BOWL = Line(XS, "bowl")


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(name="Two bowls"), "use a-z, 0-9 and -"),
        (dict(knobs=[Knob("gamma", "γ", 0, 1, 0.5)]), "takes no argument gamma; it takes beta, rule"),
        (dict(knobs=[Knob("beta", "β", 0, 1, 0.5)]), "compute needs rule"),
        (dict(draw=Drawing([Panel([Line("bowl", "height")])])), "the drawing names height; compute returns at, bowl"),
        (dict(say="{nothing}"), "the sentence names nothing; compute returns"),
        (dict(say="{bowl}"), "not a single number"),
        (dict(table=["nothing"]), "the table asks for 'nothing'"),
        (dict(compute=lambda beta, rule: beta), "must return a dict of arrays"),
        (dict(compute=lambda beta, rule: {"beta": beta}), "is a knob and an output"),
        (dict(compute=lambda beta, rule: {"at": jnp.log(-beta)}), "'at' is not finite at beta = 0.1.*Narrow the knob"),
        (dict(compute=lambda beta, rule: {"at": jnp.zeros((2, 2, 2))}), "at most 2 dimensions"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        make(**changes)


def test_values_that_run_away_at_an_end_are_refused_before_they_are_stored():
    with pytest.raises(ValueError, match="not finite at beta = 10.0"):
        make(lambda beta, rule: slide(beta, rule) | {"at": 1 / jnp.maximum(10 - beta, 0)}).payload()


@pytest.mark.parametrize(
    "panel, message",
    [
        (lambda: Panel([Line(XS, "bowl", color="pink")]), "no color of the book"),
        (lambda: Panel([BOWL], y=Axis("loss", log=True, range=(0, 1))), "a log axis stays above 0"),
        (lambda: Panel([BOWL], y=Axis("loss", range=(1, 1))), "give it a range"),
        (lambda: Panel([Rule(x=1)]), "draws nothing along y"),
        (lambda: Panel([BOWL, Rule()]), "exactly one"),
        (lambda: Panel([Line(XS, "bowl", label=str(k)) for k in range(5)], title="many"), "more than four"),
        (lambda: Panel([Image(np.eye(3), 1, 0)]), "low must be the smaller"),
        (lambda: Panel([Image("bowl", 0, 1)]), "2 or more rows and columns"),
        (lambda: Panel([Line(XS[:3], "bowl", label="short")]), r"1-d data of one length, not x \(3,\), y \(31,\)"),
        (lambda: Panel([Marker("at", "bowl")]), "single numbers"),
        (lambda: Panel([Text(0, 0, "{x")]), "lone"),
    ],
)
def test_a_panel_that_cannot_be_drawn_is_refused(panel, message):
    with pytest.raises(ValueError, match=message):
        make(draw=Drawing([panel()])).payload()


@pytest.mark.parametrize(
    "knob, message",
    [
        (lambda: Knob("a b", "", 0, 1, 0), "no name"),
        (lambda: Knob("k", "", 1, 0, 0), "low must be the smaller"),
        (lambda: Knob("k", "", 0, 1, 2), "start is 2, outside 0 to 1"),
        (lambda: Knob("k", "", 0, 1, 1, log=True), "starts above 0"),
        (lambda: Knob("k", "", 0, 1, 0, points=1), "2 or more positions"),
        (lambda: Knob("k", "", 0, 1, 0.5, whole=True), "must be integers"),
        (lambda: Choice("k", "", ["a"]), "two or more"),
        (lambda: Choice("k", "", ["a", "b"], start="c"), "'c' is none of a, b"),
    ],
)
def test_a_knob_that_cannot_be_is_refused(knob, message):
    with pytest.raises(ValueError, match=message):
        knob()


def test_settings_outside_are_refused():
    one = make()
    with pytest.raises(ValueError, match="20 is outside 0.001 to 10"):
        one.at(beta=20)
    with pytest.raises(ValueError, match="no knob 'gamma'; its knobs are beta, rule"):
        one.describe(gamma=1)


def test_another_versions_payload_is_refused():
    with pytest.raises(ValueError, match="run its notebook again"):
        explore.render_html(make().payload() | {"version": 0})


def test_static_files_are_there():
    assert [Path(file).name for file in explore.static_files()] == [
        "page.css",
        *(file.name for file in RUNTIME),
        *(f"{part}.js" for part in ("handle", "label", "draw", "strokes", "beside", "floor", "page")),
    ]
    assert all(file.exists() for file in explore.static_files())
    assert set(RUNTIME) == set(RUNTIME[0].parent.glob("*.js"))


def test_a_handle_moves_two_sliders_and_nothing_else():
    marked = lambda mark: Drawing([Panel([mark], x=Axis("φ", range=(0, 1)), y=Axis("loss", range=(0, 1)))])
    ring = explore.Polar("beta", "rule", (0, 0), 1)
    with pytest.raises(ValueError, match="a handle moves sliders; 'rule' is none of beta"):
        make(draw=marked(explore.Handle("beta", "low", polar=ring)))
    with pytest.raises(ValueError, match="'at' is none of beta"):
        make(draw=marked(explore.Handle("at", "beta")))
