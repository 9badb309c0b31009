"""The site as a reader meets it, in a real browser: every page of the table of contents, every explorable, every theme."""

import base64
import hashlib
import io
import re
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from browsing import drawn, element, is_game, is_record, of_the_first_page, outputs, sentence, settle, stored, title, told
from PIL import Image, ImageChops
from playwright.sync_api import TimeoutError as TooLate

from cmlcore.press import book
from cmlcore.press.notebooks import ROOT

pytestmark = pytest.mark.browser

TOC = book.pages(yaml.safe_load((ROOT / "_toc.yml").read_text()))
BOOK = [*of_the_first_page(), *stored()]
KINDS = ("program", "grid")  # computed in the page, looked up in the page
every_page = pytest.mark.parametrize("name", TOC, ids=lambda name: name.rpartition("/")[2])
every_explorable = pytest.mark.parametrize("one", BOOK, ids=title)
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


# ---- the site, served, and a page that is watched ------------------------------------------------------------------------


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder, with a content security policy if there is one, and prints nothing."""

    policy = None

    def end_headers(self):
        if self.policy:
            self.send_header("Content-Security-Policy", self.policy)
        super().end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def serve(site):
    """Serve the site under a policy; gives the address."""
    servers = []

    def start(policy=None):
        handler = partial(type("Handler", (Quiet,), {"policy": policy}), directory=str(site))
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def address(serve):
    return serve()


@pytest.fixture(scope="module")
def reader(browser):
    """A browser that keeps what it has loaded and compiled, as a reader's does."""
    context = browser.new_context(viewport=WIDE)
    yield context
    context.close()


def watched(reader):
    """A page, and a list of all that goes wrong on it: errors and warnings in the console, failed loads, requests to another host."""
    page, wrong = reader.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("requestfailed", lambda request: wrong.append(f"{request.url} failed: {request.failure}"))
    page.on("response", lambda response: wrong.append(f"{response.url} answered {response.status}") if response.status >= 400 else None)
    own = re.compile(r"(http://127\.0\.0\.1:\d+/|file:|blob:|data:)")
    page.on("request", lambda request: None if own.match(request.url) else wrong.append(f"asked another host: {request.url}"))
    return page, wrong


@pytest.fixture
def page(reader):
    """A page that fails its test for all that goes wrong on it."""
    page, wrong = watched(reader)
    yield page
    page.close()
    assert wrong == []


@pytest.fixture(scope="module")
def reading(reader, address):
    """A chapter's watched page, open for the tests of its explorables, one after the other."""
    current = {}

    def open_page(chapter):
        if chapter not in current:
            for page, _ in current.values():
                page.close()
            current.clear()
            current[chapter] = page, _ = watched(reader)
            page.goto(f"{address}/book/{chapter}.html")
        return current[chapter]

    return open_page


def of(name):
    """The explorables of a page."""
    return [one for one in BOOK if f"book/{one.chapter}" == name]


def arrive(page, address, name):
    """Open a page of the book, wait for its formulas, and wake all of its figures."""
    page.goto(f"{address}/{name}.html")
    page.evaluate("document.fonts.ready.then(() => 0)")
    for one in of(name):
        settle(page, one)


def unfold(page):
    """Open what is folded: proofs, solutions, tables."""
    page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")


def thin_out(page):
    """Leave one of each kind of token of the code, code in a line as one piece, the words of formulas without their structure, ten entries of a list that
    a program made, and twenty rows of a table.

    What axe judges grows with the number of elements, and most of a page are elements that look and read alike.
    """
    page.evaluate(
        "() => { document.querySelectorAll('dl.py:nth-of-type(n + 11), dl.citation > :nth-child(n + 21), tbody > tr:nth-child(n + 21)').forEach(e => e.remove());"
        " const seen = new Set(); for (const token of document.querySelectorAll('.highlight span'))"
        "if (seen.has(token.className)) token.replaceWith(...token.childNodes); else seen.add(token.className);"
        "document.querySelectorAll('.highlight pre').forEach(code => code.normalize());"
        "document.querySelectorAll('code.literal').forEach(code => code.textContent = code.textContent);"
        "document.querySelectorAll('math').forEach(math => math.replaceChildren(math.textContent)) }"
    )


def theme(page, scheme):
    """Ask for the light or the dark theme, as the reader's system does."""
    page.emulate_media(color_scheme=scheme)
    page.wait_for_function("scheme => document.documentElement.dataset.theme === scheme", arg=scheme)


# ---- pages ---------------------------------------------------------------------------------------------------------------


def links_of(site, page):
    """The links of the page as the browser has it, to pages of the book: (file, anchor)."""
    found = set()
    for link in page.evaluate("[...document.querySelectorAll('a[href]')].map(a => a.href)"):
        link, anchor = urldefrag(link)
        if urlsplit(link).hostname == "127.0.0.1":
            found.add((site / unquote(urlsplit(link).path).lstrip("/"), unquote(anchor)))
    return found


def anchors(file):
    return set(re.findall(r'\b(?:id|name)="([^"]+)"', file.read_text(encoding="utf-8")))


def require_whole(page, site, name):
    """Nothing missing, nothing from elsewhere; formulas and outputs are drawn; links lead somewhere."""
    assert page.get_by_role("heading", level=1).first.inner_text().strip("# \n")
    assert page.locator("merror").count() == 0
    assert "unknown mime type" not in page.content().lower()
    assert page.locator(".cml-explorable").count() == len(of(name))
    links = links_of(site, page)
    assert len(links) > 5
    ours = tuple(f"{one.name}." for one in BOOK) + tuple(f"{knob.name}=" for one in BOOK for knob in one.knobs)
    dead = [
        (str(file.relative_to(site)), anchor)
        for file, anchor in links
        if not file.is_file() or (anchor and not anchor.startswith(ours) and anchor not in anchors(file))
    ]
    assert dead == []


FITS = """width => document.documentElement.scrollWidth <= width &&
  [...document.querySelectorAll('.cml-plot, .cml-knob, .cml-say')].every(e => e.getBoundingClientRect().right <= width)"""


def require_fitting(page, width, state):
    """Nothing is wider than the window, and no part of a figure leaves it, once the figures have followed its size."""
    page.wait_for_timeout(200)
    try:  # a machine at work on other things draws them later
        page.wait_for_function(FITS, arg=width, timeout=10_000)
    except TooLate:
        pytest.fail(f"{state}: the page, or a part of a figure, is wider than the window ({page.evaluate('document.documentElement.scrollWidth')} px)")


ALL_RULES = {}
# Rules whose answer may change with colors and the width of the window; the others look at the elements alone.
RULES_OF_LOOKS = {"runOnly": ["color-contrast", "link-in-text-block", "target-size", "scrollable-region-focusable", "css-orientation-lock"]}


def require_accessible(page, state, rules):
    """axe finds no violation that it calls serious or critical.

    Its preloading is off: it asks for style sheets under addresses of its own making. One rule needs it, which is about
    styles that bind a page to one orientation of the screen.
    """
    page.wait_for_timeout(300)  # colors fade from one theme to the other
    context = {"exclude": [[".cml-plot svg"]]}  # paths of marks: what stands around them has the words
    violations = Axe().run(page, context, {"preload": False, "resultTypes": ["violations"], **rules}).response["violations"]
    told = [
        f"{state}: {rule['id']} ({rule['impact']}): {node['target']} {node['failureSummary']}"
        for rule in violations
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]
    assert told == []


@every_page
def test_a_page_is_whole_and_fits_and_can_be_read_by_everybody(page, site, address, name):
    """On a desk in the light, and on a phone in the dark, with everything unfolded."""
    arrive(page, address, name)
    require_whole(page, site, name)
    unfold(page)
    for viewport in (PHONE, WIDE):
        page.set_viewport_size(viewport)
        require_fitting(page, viewport["width"], f"{name}, {viewport['width']} px")
    thin_out(page)
    for viewport, scheme, rules in ((WIDE, "light", ALL_RULES), (PHONE, "dark", RULES_OF_LOOKS)):
        page.set_viewport_size(viewport)
        theme(page, scheme)
        require_accessible(page, f"{name}, {scheme}, {viewport['width']} px", rules)


# ---- explorables ---------------------------------------------------------------------------------------------------------


def require_marks(page, one):
    """Every panel of the figure looks different without its marks: it shows some."""
    panels = element(page, one).locator(".cml-panels")
    pictures = []
    for seen in ("1", "0"):
        panels.evaluate("(e, seen) => e.querySelectorAll(':is(.cml-marks, .cml-heat)').forEach(marks => marks.style.opacity = seen)", seen)
        pictures.append(Image.open(io.BytesIO(panels.screenshot())).convert("RGB"))
    panels.evaluate("e => e.querySelectorAll(':is(.cml-marks, .cml-heat)').forEach(marks => marks.style.opacity = '')")
    boxes = panels.evaluate(
        "e => { const o = e.getBoundingClientRect(); return [...e.querySelectorAll('.cml-plot')].map(plot => { const b = plot.getBoundingClientRect();"
        "return [b.left - o.left, b.top - o.top, b.right - o.left, b.bottom - o.top] }) }"
    )
    blank = [number for number, box in enumerate(boxes) if ImageChops.difference(*(picture.crop(box) for picture in pictures)).getbbox() is None]
    assert boxes and not blank, f"panels {blank} of {len(boxes)} show no marks"


TWINS = """name => {
  const e = document.getElementById('explorable-' + name), parsed = document.createElement('template');
  const told = (marks) => marks.map((m) => [m.tagName, ...[...m.attributes].map((a) => `${a.name}=${a.value}`), m.textContent].join(' | '));
  return [...e.querySelectorAll('.cml-still > svg')].map((still, p) => {
    parsed.innerHTML = `<svg>${e.explorable.stills()[p]}</svg>`;
    const axes = [...still.children].filter((m) => m.hasAttribute('opacity')), marks = [...still.querySelector('svg').children].filter((m) => m.tagName !== 'image');
    return [told([...axes, ...marks]), told([...parsed.content.firstChild.children])];
  });
}"""
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")


def require_twins(page, one):
    """At its start the page draws what Python drew: the same marks in the same colors, each coordinate to a tenth of a pixel."""
    for still, moving in page.evaluate(TWINS, one.name):
        assert [NUMBER.sub("#", mark) for mark in still] == [NUMBER.sub("#", mark) for mark in moving]
        for ours, theirs in zip(still, moving):
            apart = [abs(float(a) - float(b)) for a, b in zip(NUMBER.findall(ours), NUMBER.findall(theirs))]
            assert max(apart, default=0) < 0.25, (ours, theirs)


def press(page, one, knob):
    """Move one knob from its start to an end, by keyboard; make the first move of a game."""
    if is_game(knob):
        element(page, one).get_by_role("group", name=knob.label, exact=True).get_by_role("button").first.focus()
        page.keyboard.press("Enter")
        return
    if knob.drawn:
        element(page, one).get_by_role("group", name=knob.label, exact=True).get_by_role("button", name="Moons").focus()
        page.keyboard.press("Enter")
        return
    if is_record(knob):
        points = element(page, one).get_by_role("group", name=knob.label, exact=True)
        if not points.get_by_role("slider").first.is_visible():
            points.locator("summary").focus()
            page.keyboard.press("Enter")
        points.get_by_role("slider", name="its height").focus()
        page.keyboard.press("End")
        return
    role = "combobox" if isinstance(knob.start, str) else "slider"
    element(page, one).get_by_role(role, name=knob.label, exact=True).focus()
    at_end = knob.positions.index(knob.start) == len(knob.positions) - 1
    page.keyboard.press({"combobox": ("ArrowDown", "ArrowUp"), "slider": ("End", "Home")}[role][at_end])


@every_explorable
def test_an_explorable_shows_its_state_and_follows_every_knob_by_keyboard(reading, one):
    page, wrong = reading(one.chapter)
    start = {knob.name: knob.start for knob in one.knobs}
    assert settle(page, one) == start
    require_marks(page, one)
    require_twins(page, one)
    before = drawn(page, one), outputs(page, one)
    assert sentence(page, one) == told(one, before[1], start)
    for knob in one.knobs:
        press(page, one, knob)
        settings = settle(page, one)
        assert settings != start and {key for key in start if settings[key] != start[key]} == {knob.name}
        after = drawn(page, one), outputs(page, one)
        assert after[0] != before[0], f"{knob.name} moves nothing that is drawn"
        assert any((after[1][key] != before[1][key]).any() for key in before[1])
        assert sentence(page, one) == told(one, after[1], settings)
        element(page, one).get_by_role("button", name="Reset").focus()
        page.keyboard.press("Enter")
        assert settle(page, one) == start
    assert wrong == []


@pytest.mark.parametrize("by_name", [True, False], ids=["figure and knob", "knob alone"])
@pytest.mark.parametrize("one", [next(one for one in BOOK if one.kind == kind) for kind in KINDS], ids=title)
def test_a_link_carries_the_settings(page, address, one, by_name):
    wanted = {knob.name: knob.positions[len(knob.positions) // 3] for knob in one.knobs}
    prefix = f"{one.name}." if by_name else ""
    page.goto(f"{address}/book/{one.chapter}.html#" + "&".join(f"{prefix}{key}={value}" for key, value in wanted.items()))
    page.evaluate("document.fonts.ready.then(() => 0)")
    if by_name:  # else another figure, which has such a knob too, may come first
        page.wait_for_function(
            "name => { const top = document.getElementById('explorable-' + name).getBoundingClientRect().top; return top >= 0 && top < 300 }", arg=one.name
        )
    assert settle(page, one) == wanted
    assert sentence(page, one) == told(one, outputs(page, one), wanted)


# ---- without a server, and under a policy --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copied(site, tmp_path_factory):
    """The site, copied to a folder with a space in its name, as on a stick."""
    return shutil.copytree(site, tmp_path_factory.mktemp("stick") / "my book").as_uri()


@pytest.mark.parametrize("name", [TOC[0], *(f"book/{next(one.chapter for one in BOOK if one.kind == kind)}" for kind in KINDS)])
def test_a_copied_folder_works_from_a_file(page, copied, name):
    arrive(page, copied, name)
    for one in of(name):
        press(page, one, one.knobs[0])
        settings = settle(page, one)
        assert sentence(page, one) == told(one, outputs(page, one), settings)
    page.locator("a.right-next").click()
    page.wait_for_url(f"{copied}/{TOC[TOC.index(name) + 1]}.html")


def test_the_first_page_of_a_copied_folder_leads_into_the_book(page, copied):
    page.goto(f"{copied}/index.html")
    page.wait_for_url(f"{copied}/{TOC[0]}.html")


def hashes(texts):
    """Sources of a policy that allow exactly these scripts."""
    return " ".join(sorted({f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in texts}))


def test_the_page_computes_under_a_policy_without_eval(browser, site, serve):
    """What a strict host may say: our scripts, blobs as workers, the theme's own inline scripts and two buttons by their hashes.

    No eval. Styles must be allowed inline: the figures and the theme set them.
    """
    one = next(one for one in BOOK if one.kind == "program")
    text = (site / f"book/{one.chapter}.html").read_text(encoding="utf-8")
    scripts = hashes(re.findall(r"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", text, re.S))
    buttons = hashes(re.findall(r' onclick="([^"]*)"', text))
    policy = (
        f"default-src 'self'; script-src 'self' {scripts}; script-src-attr 'unsafe-hashes' {buttons}; worker-src blob:; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data:"
    )
    page, workers = browser.new_page(viewport=WIDE), []
    page.on("worker", lambda worker: workers.append(worker.url))
    page.add_init_script(
        "window.refused = []; addEventListener('securitypolicyviolation', e => refused.push(`${e.violatedDirective} ${e.blockedURI} ${e.sample}`))"
    )
    arrive(page, serve(policy), f"book/{one.chapter}")
    press(page, one, one.knobs[0])
    settings = settle(page, one)
    assert sentence(page, one) == told(one, outputs(page, one), settings)
    assert workers and workers[0].startswith("blob:")
    assert page.evaluate("refused") == []
    probe = "try { new Function('return 1')(); window.probed = 'ran' } catch (error) { window.probed = error.name }"
    page.route("**/probe.js", lambda route: route.fulfill(body=probe, content_type="text/javascript"))
    page.add_script_tag(url="/probe.js")
    assert page.evaluate("probed") == "EvalError", "the policy lets eval through, so this test shows nothing"
    page.close()
