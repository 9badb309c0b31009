"""The printed edition: one page of HTML with every figure's default state in words and numbers, and one PDF with contents, bookmarks, numbers and links."""

import re
import shutil

import pytest
from browsing import of_the_first_page, stored
from bs4 import BeautifulSoup
from test_site_browser import require_accessible, thin_out

from cmlcore.press import formulas, printed
from cmlcore.press.plain import references

STEMS = [stem for stem in ["intro", *references().pages]]


@pytest.fixture(scope="module")
def document(site):
    return BeautifulSoup(printed.document(site), "html.parser")


@pytest.fixture(scope="module")
def pdf(site, tmp_path_factory):
    pypdf = pytest.importorskip("pypdf")
    file = tmp_path_factory.mktemp("printed") / "book.pdf"
    try:
        printed.make(site, file)
    except RuntimeError as error:  # no browser here
        pytest.skip(str(error))
    return pypdf.PdfReader(file)


def test_every_page_is_there_in_order_and_in_the_contents(document):
    assert [article["id"] for article in document.select("main > article")] == STEMS
    assert [link["href"] for link in document.select("nav a")] == [f"#{stem}" for stem in STEMS]


def test_every_figure_has_its_settings_its_sentence_and_its_table(document):
    for one in [*of_the_first_page(), *stored()]:
        figure = document.find(id=f"{one.chapter}--explorable-{one.name}")
        text = " ".join(figure.get_text(" ").split())
        assert " ".join(one.sentence.split()) in text and figure.find("table"), one.name
        assert all(knob.label in figure.select_one(".settings").get_text() for knob in one.knobs), one.name
        assert figure.select(".cml-still svg")


def test_nothing_is_folded_or_for_a_screen_only(document):
    assert not document.select("details, button, input, select, .cml-tools, .headerlink")
    assert not document.find_all("script") and document.find("math")


def test_links_lead_to_a_place_that_is_there_once(document):
    ids = [tag["id"] for tag in document.find_all(id=True)]
    assert len(ids) == len(set(ids))
    links = [link["href"] for link in document.find_all("a", href=True)]
    assert all(link[1:] in set(ids) if link.startswith("#") else re.match(r"https?:|mailto:", link) for link in links)


@pytest.mark.parametrize(
    "link, leads",
    [
        ("#here", "#rule--here"),
        ("other.html", "#other"),
        ("other.html#there", "#other--there"),
        ("../book/other.html", "#other"),
        ("#valley.omega=1&valley.s=2", "#rule--explorable-valley"),
        ("https://example.org/a", "https://example.org/a"),
        ("../_sources/book/rule.ipynb", ""),
    ],
)
def test_where_a_link_leads(link, leads):
    assert printed.target(link, "book/rule", ["book/rule", "book/other"]) == leads


# ---- the PDF --------------------------------------------------------------------------------------------------------------


@pytest.mark.browser
def test_bookmarks_are_the_chapters(pdf):
    tops = [entry for entry in pdf.outline if not isinstance(entry, list)]
    titles = [" ".join(entry.title.replace("\u00ad", "").split()) for entry in tops]
    assert titles[0] == "Contents" and len(titles) == len(STEMS) + 1
    assert any(isinstance(entry, list) for entry in pdf.outline), "sections have bookmarks, too"


@pytest.mark.browser
def test_the_contents_name_the_pages_where_chapters_begin(pdf):
    where = {name.lstrip("/"): pdf.get_destination_page_number(place) + 1 for name, place in pdf.named_destinations.items()}
    listed = " ".join(page.extract_text() for page in pdf.pages[1:4])
    numbers = [where[stem] for stem in STEMS]
    assert numbers == sorted(numbers) and all(re.search(rf"\b{number}\b", listed) for number in numbers)


@pytest.mark.browser
def test_pages_are_numbered_and_the_file_says_what_its_parts_are(pdf):
    assert len(pdf.pages) > 100
    for number in (2, 50, len(pdf.pages)):
        assert re.search(rf"\b{number}\b", pdf.pages[number - 1].extract_text())
    assert pdf.trailer["/Root"]["/MarkInfo"]["/Marked"] and "/StructTreeRoot" in pdf.trailer["/Root"]


@pytest.mark.browser
def test_links_in_the_file_lead_into_it_or_to_other_hosts(pdf):
    inside, outside = 0, []
    for page in pdf.pages:
        for note in page.get("/Annots") or []:
            note = note.get_object()
            if note.get("/Subtype") == "/Link":
                address = note.get("/A", {}).get("/URI")
                inside += address is None
                outside += [address] if address else []
    assert inside > 500 and all(re.match(r"https?:|mailto:", address) for address in outside)


@pytest.fixture(scope="module")
def articles(document, site, tmp_path_factory):
    """Every article of the printed edition as a page of its own, the first with the title and the contents: what axe judges grows with the page."""
    folder = tmp_path_factory.mktemp("articles")
    shutil.copyfile(formulas.FILES[1], folder / formulas.FILES[1].name)
    before = f"{document.header}{document.nav}"
    for article in document.select("main > article"):
        page = f'<!DOCTYPE html><html lang="en">{document.head}<body>{before}<main>{article}</main></body></html>'
        (folder / f"{article['id']}.html").write_text(page)
        before = ""
    return folder


@pytest.mark.browser
@pytest.mark.parametrize("stem", STEMS)
def test_everybody_can_read_the_printed_edition(articles, browser, stem):
    page = browser.new_page()
    page.set_default_timeout(300_000)
    page.goto((articles / f"{stem}.html").as_uri())
    page.evaluate("document.fonts.ready.then(() => 0)")
    thin_out(page)
    require_accessible(page, f"{stem}, printed", {})
    page.close()
