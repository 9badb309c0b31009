"""Slides: every chapter's deck is there and alone on its host, its notes hold the plan's minutes, and its figures move in a browser."""

import re

import nbformat
import pytest
from browsing import element, sentence, settle, stored
from test_book import Page, is_remote
from test_site_browser import require_accessible, thin_out

from cmlcore.explore.explorable import MIME
from cmlcore.press import slides
from cmlcore.press.deck import Slide, deck
from cmlcore.press.editions import numbered
from cmlcore.press.lesson import Step, misconceptions, plan, starts, teachers_part

CHAPTERS = {path.stem: nbformat.read(path, as_version=4) for _, path in numbered()}
PLANS = {name: plan(teachers_part(nb)) for name, nb in CHAPTERS.items() if teachers_part(nb)}


@pytest.fixture(scope="module")
def decks(tmp_path_factory):
    pytest.importorskip("sphinx_revealjs")
    return slides.build(tmp_path_factory.mktemp("slides") / "slides").parent


# ---- plans ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_is_read_whole(name):
    assert sum(step.minutes for step in PLANS[name]) == 50 and len(PLANS[name]) >= 4
    assert len(misconceptions(teachers_part(CHAPTERS[name]))) >= 3


@pytest.mark.parametrize("name", PLANS)
def test_the_slides_of_a_chapter_take_the_minutes_of_its_plan(name):
    made = deck(CHAPTERS[name], name)
    assert sum(slide.seconds for slide in made) == 50 * 60
    said = [slide.said for slide in made if slide.said and not slide.said.startswith("*Still")]
    assert [text.partition(".** ")[2] for text in said] == [step.what for step in PLANS[name]]
    bet = next(k for k, slide in enumerate(made) if slide.said)
    assert made[bet].kind in ("bet", "title", "text"), "the first step of every plan is the bet"


def test_steps_begin_where_they_fit():
    made = [
        Slide("Bilevel", "title", ()),
        Slide("Your bet", "bet", ()),
        Slide("Play", "figure", ()),
        Slide("Maths", "equation", (), labels=("a-b",)),
        Slide("Three takeaways", "takeaways", ()),
    ]
    assert starts([Step(5, "the bet"), Step(9, "{eq}`a-b` on the board"), Step(1, "takeaways")], made) == [1, 3, 4]
    with pytest.raises(ValueError, match="only 1 slides"):
        starts([Step(1, "a"), Step(1, "b")], made[:1])


def test_a_plan_is_a_table():
    assert plan("| minutes | what |\n|---|---|\n| 5 | the bet |\n| 45 | play |") == [(5, "the bet"), (45, "play")] and plan("Nothing.") == []


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_opens_the_figures_that_it_names(name):
    """Each is a figure of the chapter, and every chapter with figures has such a link."""
    made = {output["data"][MIME]["name"] for cell in CHAPTERS[name].cells for output in cell.get("outputs", []) if MIME in output.get("data", {})}
    opened = re.findall(r'href="#(?:explorable-)?([\w-]+)', " ".join(step.what for step in PLANS[name]))
    assert opened and set(opened) <= made


def test_a_misconception_is_a_belief_and_an_answer():
    assert misconceptions('**Misconceptions to expect.** "A is\nB" (no: C). "D." (E).\n\nMore') == [("A is B", "no: C"), ("D", "E")]
    with pytest.raises(ValueError, match="is not"):
        misconceptions("**Misconceptions to expect.** They think that A.")


def test_a_tag_puts_a_cell_on_a_slide_or_off():
    long = "\n".join(f"x = {k}" for k in range(50))
    cells = {"words": "Words.\n\n$$ a = b $$\n\n### More", "formula": "$$ c = d $$ (c-d)", "long": long, "short": "y = 1", "drawn": "z = 2"}

    def made(**tags):
        nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title\n\n*A picture.*\n\n**Why?**")])
        for name, source in cells.items():
            new = nbformat.v4.new_markdown_cell if name in ("words", "formula") else nbformat.v4.new_code_cell
            own = ["hide-input"] if name == "drawn" else []
            nb.cells.append(new(source, metadata={"tags": own + ([tags[name]] if name in tags else [])}))
        slides = deck(nb, "tiny")
        return [(slide.kind, cell.source) for slide in slides[1:] for cell in slide.cells], " ".join(slide.notes for slide in slides)

    on, notes = made()
    assert on == [("equation", cells["formula"]), ("code", "y = 1")] and "Words." in notes and long not in notes
    on, notes = made(words="slide", long="slide", drawn="slide")
    assert on == [("text", cells["words"]), ("equation", cells["formula"]), ("code", long), ("code", "y = 1"), ("code", "z = 2")] and "Words." not in notes
    on, notes = made(words="no-slide", formula="no-slide", short="no-slide")
    assert on == [] and "Words." not in notes


def test_a_tagged_cell_keeps_its_heading():
    cells = [nbformat.v4.new_markdown_cell("# T\n\n*A.*"), nbformat.v4.new_markdown_cell("(here)=\n## Next\n\nOne.\n\nTwo.", metadata={"tags": ["slide"]})]
    assert [(slide.title, slide.text.strip()) for slide in deck(nbformat.v4.new_notebook(cells=cells), "tiny")] == [("T", "*A.*"), ("Next", "One.\n\nTwo.")]


# ---- the slides as files --------------------------------------------------------------------------------------------------


def test_every_chapter_has_a_deck_and_the_first_page_links_it(decks):
    links = Page(decks / "index.html").links
    assert [link for link in links if link.endswith(".html") and not link.startswith("#")] == [f"{name}.html" for name in CHAPTERS]
    assert all((decks / f"{name}.html").is_file() for name in CHAPTERS)


def test_slides_ask_no_other_host_and_find_what_they_load(decks):
    for name in CHAPTERS:
        page = Page(decks / f"{name}.html")
        assert page.loads and not [load for load in page.loads if is_remote(load)]
        assert not [load for load in page.loads if not (decks / load.partition("?")[0]).is_file()]
        assert not [link for link in page.links if not link.startswith("#")], "a deck stands by itself"


def test_every_figure_is_on_a_slide_and_every_plan_in_the_notes(decks):
    figures = stored()
    for name, nb in CHAPTERS.items():
        text = (decks / f"{name}.html").read_text()
        assert set(re.findall(r'id="explorable-([\w-]+)"', text)) == {one.name for one in figures if one.chapter == name}, name
        assert sum(map(int, re.findall(r'data-timing="(\d+)"', text))) == 60 * sum(step.minutes for step in PLANS.get(name, []))
        assert text.count('<aside class="notes">') >= len(PLANS.get(name, [])) and "$$" not in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
        assert "Solution" not in text and "For teachers" not in text


# ---- the slides in a browser ----------------------------------------------------------------------------------------------


@pytest.mark.browser
def test_a_figure_moves_on_its_slide(decks, browser):
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((decks / "bilevel.html").as_uri())
    page.wait_for_function("window.Reveal?.isReady()")
    page.evaluate("Reveal.slide(...Object.values(Reveal.getIndices(document.getElementById('explorable-sliding-floor').closest('section'))))")
    slide = page.evaluate("Reveal.getCurrentSlide().id")
    one = next(one for one in stored() if one.chapter == "bilevel")
    settle(page, one)
    before = sentence(page, one)
    element(page, one).locator("input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("([name, old]) => document.querySelector(`#explorable-${name} .cml-say`).textContent !== old", arg=[one.name, before])
    assert page.evaluate("Reveal.getCurrentSlide().id") == slide, "an arrow key in a slider turned the slide"
    assert not page.locator("aside.notes").first.is_visible()
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("before => Reveal.getCurrentSlide().id !== before", arg=slide)
    assert errors == []
    page.close()


@pytest.mark.browser
def test_what_is_too_large_becomes_smaller(decks, browser):
    """A formula, a table and lines of print that do not fit a small projector as they are."""
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    page.goto((decks / "whose-job.html").as_uri())
    page.wait_for_function("window.Reveal && Reveal.isReady()")
    page.evaluate("document.fonts.ready.then(() => 0)")
    made = deck(CHAPTERS["whose-job"], "whose-job")
    assert page.evaluate("Reveal.getTotalSlides()") == len(made)
    smaller = 0
    for one in made:
        shown = "Reveal.getCurrentSlide()"
        wide = f"[...{shown}.querySelectorAll('pre, .cml-lines')].filter(e => e.clientWidth && e.scrollWidth > e.clientWidth + 1).length"
        page.wait_for_function(f"{wide} === 0")
        if one.title == "Derived against simulated":
            page.wait_for_function(f"{shown}.scrollHeight <= {shown}.clientHeight + 1")
        smaller += page.evaluate(f"[...{shown}.querySelectorAll('table, pre, .cml-lines')].some(e => e.style.fontSize)")
        page.evaluate("Reveal.next()")
    assert smaller >= 4
    page.close()


@pytest.mark.browser
@pytest.mark.parametrize("scheme, width", [("light", 1280), ("dark", 390)])
@pytest.mark.parametrize("name", CHAPTERS)
def test_everybody_can_read_a_deck(decks, browser, name, scheme, width):
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.set_default_timeout(300_000)
    page.goto((decks / f"{name}.html").as_uri())
    page.wait_for_function("window.Reveal && Reveal.isReady()")
    page.evaluate("document.fonts.ready.then(() => 0)")
    # All slides at once, each as it is when its turn comes.
    page.add_style_tag(
        content=".reveal .slides, .reveal .slides section { display: block !important; position: static !important; visibility: visible !important; opacity: 1 !important; height: auto !important; transform: none !important; }"
    )
    page.evaluate(
        "document.querySelectorAll('.slides section').forEach(e => { e.hidden = false; e.removeAttribute('aria-hidden') }); dispatchEvent(new Event('resize'))"
    )
    thin_out(page)
    require_accessible(page, f"{name}, {scheme}, {width} px", {})
    page.close()
