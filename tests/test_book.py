"""The site as it is built: every page is there, whole, light, and alone on its host."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
import yaml

from benchmarks.page import weights
from cmlcore.press import book, full_runs
from cmlcore.press.notebooks import ROOT
from cmlcore.runs import receipts
from cmlcore.runs.catalog import CATALOG

LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src", "link": "href"}
# Bytes of a page as they are sent, gzipped: with its style sheet and its font, which show text and stills; and what figures need beyond that to move.
TEXT_LIMIT, FIGURE_LIMIT = 200_000, 100_000


class Page(HTMLParser):
    """What a page loads by itself, what it links to, and the places that a link can point at."""

    def __init__(self, path: Path):
        super().__init__()
        self.path, self.loads, self.links, self.anchors = path, [], [], set()
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors |= {values[key] for key in ("id", "name") if values.get(key)}
        if (target := values.get(LOADS.get(tag))) and values.get("rel") not in ("canonical", "prev", "next"):
            self.loads.append(target)
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])


@pytest.fixture(scope="session")
def pages(site) -> dict[Path, Page]:
    """Every page of the site, parsed."""
    return {path: Page(path) for path in sorted(site.rglob("*.html")) if "_static" not in path.parts}


def is_remote(address: str) -> bool:
    return bool(urlsplit(address).netloc) or urlsplit(address).scheme in ("http", "https")


def test_every_page_of_the_table_of_contents_is_there(site):
    toc = book.pages(yaml.safe_load((ROOT / "_toc.yml").read_text()))
    assert len(toc) == len(set(toc)) > 5
    assert [page for page in toc if not (site / f"{page}.html").is_file()] == []


def test_every_notebook_is_a_page():
    toc = set(book.pages(yaml.safe_load((ROOT / "_toc.yml").read_text())))
    assert {f"book/{path.stem}" for path in (ROOT / "book").glob("*.ipynb")} <= toc


def test_nothing_is_loaded_from_another_host(pages):
    assert [(page.path.name, load) for page in pages.values() for load in page.loads if is_remote(load)] == []


def test_scripts_and_styles_name_no_content_network(site):
    own = [path for path in site.rglob("*") if path.suffix in (".html", ".css") or path.name.startswith("cml")]
    hosts = ("cdn.jsdelivr", "unpkg.com", "cdnjs.", "fonts.googleapis", "fonts.gstatic", "cdn.plot.ly")
    assert [(path.name, host) for path in own for host in hosts if host in path.read_text(encoding="utf-8")] == []


def test_what_a_page_loads_exists(pages):
    missing = [
        (page.path.name, load)
        for page in pages.values()
        for load in page.loads
        if not is_remote(load) and not load.startswith("data:") and not (page.path.parent / unquote(urlsplit(load).path)).exists()
    ]
    assert missing == []


def is_there(anchor: str, page: Page) -> bool:
    """Whether a link's anchor is a place of the page, or the settings of an explorable on it."""
    if "=" in anchor:
        return all(f"explorable-{setting.partition('.')[0]}" in page.anchors for setting in anchor.split("&"))
    return anchor in page.anchors


def test_links_within_the_book_lead_somewhere(pages):
    dead = []
    for page in pages.values():
        for link in page.links:
            address, anchor = urldefrag(link)
            if is_remote(link) or urlsplit(link).scheme in ("mailto", "javascript"):
                continue
            target = (page.path.parent / unquote(address)).resolve() if address else page.path
            if not target.exists() or (anchor and target in pages and not is_there(unquote(anchor), pages[target])):
                dead.append((page.path.name, link))
    assert dead == []


def test_a_page_fetches_one_sheet_one_script_and_one_for_its_figures(pages):
    for page in pages.values():
        if page.path.parent.name != "book":
            continue
        files = [Path(urlsplit(load).path).name for load in page.loads if load.partition("?")[0].endswith((".css", ".js"))]
        figures = ["figures.js"] if 'class="cml-explorable"' in page.text else []
        assert files == ["site.css", *figures, "site.js"], page.path.name
        assert "fontawesome" not in page.text


def test_launch_buttons_and_citation_name_the_book_s_own_repository(pages):
    repository = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]
    slug = urlsplit(repository["url"]).path
    for path in (ROOT / "book").glob("*.ipynb"):
        page = next(page for page in pages.values() if page.path.stem == path.stem)
        colab = [link for link in page.links if "colab.research.google.com" in link]
        assert colab == [f"https://colab.research.google.com/github{slug}/blob/{repository['branch']}/book/{path.name}"]
        assert any(link.endswith(f"_sources/book/{path.name}") for link in page.links), "no download button"
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["repository-code"] == repository["url"]


def test_every_output_was_drawn(pages):
    assert [path.name for path, page in pages.items() if "unknown mime type" in page.text.lower()] == []


def test_pages_are_light(pages, site):
    found = {path.name: weights(site, path) for path in pages if path.parent.name == "book"}
    assert {name: heavy for name, heavy in found.items() if heavy["text"] > TEXT_LIMIT or heavy["more"] > FIGURE_LIMIT} == {}


def test_the_preface_names_every_chapter_in_order():
    chapters = [page for page in book.pages(yaml.safe_load((ROOT / "_toc.yml").read_text())) if (ROOT / f"{page}.ipynb").exists()]
    preface = (ROOT / "book" / "intro.md").read_text()
    places = [preface.find(f"]({Path(page).name}.ipynb)") for page in chapters]
    assert -1 not in places and places == sorted(places)


def coverage_rows() -> list[tuple[str, str, str]]:
    return re.findall(r"^\| (\d+)[a-e]? \| (.+) \| (.+) \|$", (ROOT / "book" / "coverage.md").read_text(), re.M)


def test_the_coverage_page_links_every_idea_or_says_that_it_is_not_there():
    rows = coverage_rows()
    assert {int(number) for number, _, _ in rows} == {*range(1, 47)}
    assert "|\n\n|" not in (ROOT / "book" / "coverage.md").read_text(), "an empty line ends a table"
    shown = re.compile(r"\]\([\w-]+\.ipynb(#[\w-]+)?\)|\{prf:ref\}`[\w-]+`")
    silent = [number for number, _, where in rows if not shown.search(where) and where != "not in the book yet"]
    assert silent == []


def test_a_row_of_the_coverage_page_waits_for_no_run_that_has_been_made():
    small = {"7": "maml", "8": "first-order", "9": "reptile", "10": "imaml-gd", "11": "imaml-hf"}
    text = {number: where for number, _, where in coverage_rows()}
    for number, method in small.items():
        receipts.read(f"omniglot-small-{method}")  # raises where the run waits
        assert "in small](characters.ipynb#all-methods-in-small), run" in text[number], number
        with pytest.raises(receipts.WaitingReceipt):
            receipts.read(f"omniglot-20w1s-{method}")
        assert "full run waits" in text[number], number


def test_every_full_run_is_on_the_page_of_all(pages):
    page = next(page for page in pages.values() if page.path.name == "runs.html")
    folded = re.findall(r"<details.*?</details>", page.text, re.S)
    shown = {re.search(r"<summary.*?<span class=.pre.>([\w-]+)<", fold, re.S)[1]: fold for fold in folded}
    assert shown.keys() == {file.stem for file in receipts.FOLDER.glob("*.json")}
    for name, fold in shown.items():
        assert f"cmlcore.runs {name}" in re.sub(r"<[^>]*>", "", fold) and receipts.read(name)["versions"]["jax"] in fold


def test_what_waits_for_its_run_is_listed_and_costs_something():
    own, others = full_runs.markdown().split("## Published settings")
    for experiment in CATALOG:
        if not (receipts.FOLDER / f"{experiment.name}.json").exists():
            assert re.search(rf"^\* `{experiment.name}`: .* on two cores", others if experiment.published else own, re.M)


GREEK = "alpha beta gamma delta varepsilon eta theta kappa lambda mu nu xi pi rho sigma tau phi chi psi omega vartheta Omega Phi Psi Sigma Gamma".split()


def formulas(text: str) -> list[str]:
    return ["".join(found) for found in re.findall(r"\$\$(.+?)\$\$|\$([^$]+)\$", text, re.S)]


def letters(text: str) -> set[str]:
    """The single letters, Latin and Greek, in the formulas of a text; words in them are none."""
    bare = [re.sub(r"\\(text|mathrm|operatorname|mathcal|begin|end|label|tag)\*?\{[^}]*\}", " ", formula) for formula in formulas(text)]
    return {token.lstrip("\\") for formula in bare for token in re.findall(r"\\?[A-Za-z]+", formula) if len(token) == 1 or token.lstrip("\\") in GREEK}


def listed_letters() -> tuple[set[str], list[tuple[str, str, str]]]:
    """The letters of the whole book, and (letters, chapter, meaning) for those of a chapter."""
    everywhere, _, local = (ROOT / "book" / "notation.md").read_text().partition("(local-symbols)=")
    table, _, habits = local.partition("## Habits")
    rows = re.findall(r"^\| (\$.+?\$) \| (.+?) \| (.+) \|$", table, re.M)
    return letters(everywhere + habits.partition("\n\n")[2].partition("\n\n")[0]), [
        (those, name, what) for those, names, what in rows for name in re.findall(r"\{doc\}`([\w-]+)`", names)
    ]


def chapter_text(path: Path) -> str:
    return "\n".join("".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "markdown")


def test_a_letter_that_is_listed_for_a_chapter_stands_in_it():
    _, rows = listed_letters()
    assert len(rows) > 60
    absent = [(those, name) for those, name, _ in rows if not letters(those) <= letters(chapter_text(ROOT / "book" / f"{name}.ipynb"))]
    assert absent == []


@pytest.mark.parametrize("path", sorted((ROOT / "book").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_letter_of_a_chapter_is_on_the_page_of_notation(path):
    """In proofs (folded) and exercises a letter may be introduced on the spot."""
    text = re.sub(r":::+\{dropdown\}.*?\n:::+", "", chapter_text(path).partition("## Exercises")[0], flags=re.S)
    everywhere, rows = listed_letters()
    here = letters(" ".join(those + what for those, name, what in rows if name == path.stem))
    assert letters(text) - everywhere - here - {"d"} == set()


def test_what_readers_missed_is_in_the_glossary():
    text = (ROOT / "book" / "glossary.md").read_text()
    terms = re.findall(r"^(\S.*)\n    \S", text, re.M)
    assert {"three-point rule", "three wishes", "transductive", "matched control", "Reptile"} <= set(terms)
