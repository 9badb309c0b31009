"""The book as one PDF: `python -m cmlcore.press.printed` prints the built site into `_build/the-contrastive-rule.pdf`.

All pages become one, without scripts: figures show their default state, with their settings, their sentence and their table, and
links lead to places in the file. Chromium prints it, twice: a page's number in the contents is known only after the first time.
"""

import argparse
import html
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import yaml
from bs4 import BeautifulSoup

from cmlcore.press import book, formulas
from cmlcore.press.notebooks import ROOT

FONTS = "font:8pt system-ui,sans-serif;color:#444;width:100%;padding:0 18mm;display:flex;justify-content:space-between"
FOOTER = f'<div style="{FONTS}"><span>The Contrastive Rule</span><span class="pageNumber"></span></div>'
# What a page has for a screen only, and code that draws: it is in the notebooks.
SCREEN = ".headerlink, .cml-tools, .cml-status, .cml-moving, .cml-axis-x, .cml-axis-y, .sd-summary-state-marker, details.above-input, .cml-bet, noscript, script:not(.cml-figure), button, .toctree-wrapper, .prev-next-footer"


def gathered(site: Path) -> BeautifulSoup:
    """The site's pages as one, in the order of the table of contents, each with its own names for places.

    Raises FileNotFoundError where a page is not there.
    """
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    names = book.pages(toc)
    whole = BeautifulSoup("", "html.parser")
    for name in names:
        page = BeautifulSoup((site / f"{name}.html").read_text(encoding="utf-8"), "html.parser").select_one("article.bd-article")
        made = whole.new_tag("article", id=Path(name).name)
        made.extend(list(page.contents))
        for tag in made.select(SCREEN):
            tag.decompose()
        still(made, whole)
        for tag in made.find_all(id=True):
            tag["id"] = place(name, tag["id"])
        for tag in made.find_all(attrs={"aria-labelledby": True}):
            tag["aria-labelledby"] = place(name, tag["aria-labelledby"])
        for link in made.find_all("a", href=True):
            link["href"] = target(link["href"], name, names)
        whole.append(made)
    there = set()
    for tag in whole.find_all(id=True):
        if tag["id"] in there:  # two proofs on one page; nothing points at the second
            del tag["id"]
        else:
            there.add(tag["id"])
    for link in whole.find_all("a", href=True):
        if link["href"] == "" or (link["href"].startswith("#") and link["href"][1:] not in there):
            link.unwrap()  # to what is on the site only: an archive, a list of files
    return whole


def _setting(knob: dict) -> str:
    """A knob's name and where it stands; of a game, that it has not begun."""
    if "options" not in knob:
        return f"{knob['label']}: {'no move yet' if 'moves' in knob else 'as drawn'}"
    return f"{knob['label']} = {knob['options'][knob['start']]} {knob['unit']}".strip()


def still(page, whole) -> None:
    """Open what is folded, and write a figure's default settings where its sliders were."""
    for link in page.select("a:has(.math)"):  # a link that is nothing but a symbol is named by it
        if link.get_text().strip() == (symbol := link.select_one(".math").get_text()).strip():
            link["aria-label"] = symbol.strip()
    for figure in page.select(".cml-explorable"):
        knobs = json.loads(figure.select_one(".cml-figure").string)["knobs"]
        words = whole.new_tag("p", attrs={"class": "settings"})
        words.string = "Drawn at: " + "; ".join(map(_setting, knobs)) + "."
        figure.select_one(".cml-knobs").replace_with(words)
        figure.select_one(".cml-figure").decompose()
    for fold in page.find_all("details"):
        if summary := fold.find("summary", recursive=False):
            summary.name = "p"
            summary.attrs = {"class": "folded"}
        fold.name = "div"
        fold.attrs = {"class": "fold"}
    for entry in page.select(".citation-list > .citation"):
        entry["role"] = "listitem"  # the role that Docutils gives it is no part of a list
    for image in page.find_all("img", alt=False):
        image["alt"] = ""


def place(name: str, anchor: str) -> str:
    """The name of a page's place in the whole."""
    return f"{Path(name).name}--{anchor}"


def target(link: str, name: str, names: list[str]) -> str:
    """Where a link of a page leads in the whole: a place of it, another host, or "" for a file of the site that is no page."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return link
    address, anchor = urldefrag(link)
    page = (Path(name).parent / unquote(address)).as_posix().removesuffix(".html") if address else name
    page = re.sub(r"[^/]+/\.\./", "", page)
    if page not in names:
        return ""
    anchor = f"explorable-{unquote(anchor).partition('.')[0]}" if "=" in anchor else unquote(anchor)
    return f"#{place(page, anchor)}" if anchor else f"#{Path(page).name}"


def document(site: Path) -> str:
    """The printed edition as one HTML page: a title, the contents, every page. The font of its formulas stands beside it."""
    whole = gathered(site)
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    lines, articles = [], {article["id"]: article for article in whole.find_all("article", recursive=False)}
    for part in [{"caption": "", "chapters": [{"file": toc["root"]}]}, *toc["parts"]]:
        rows = "".join(
            f'<li><a href="#{stem}">{title}</a> <span class="at" data-of="{stem}"></span></li>'
            for stem in (Path(entry["file"]).name for entry in part["chapters"])
            for title in [html.escape(" ".join(articles[stem].find("h1").get_text().split()))]
        )
        lines.append((f"<h2>{html.escape(part['caption'])}</h2>" if part["caption"] else "") + f"<ul>{rows}</ul>")
    css = formulas.FILES[0].read_text() + (Path(__file__).parent / "printed.css").read_text()
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{config["title"]}</title><style>{css}</style>'
        f'</head><body><header><p class="title">{config["title"]}</p>'
        f"<p>An explorable book about learning to learn, printed. Figures are drawn at their default settings.</p><p>{config['author']}, {config['copyright']}. CC BY 4.0.</p></header>"
        f'<nav aria-label="Contents"><h1>Contents</h1>{"".join(lines)}</nav><main>{whole}</main></body></html>'
    )


def page_numbers(pdf: Path) -> dict[str, int]:
    """The page, counted from 1, on which each place of the document lies that a link leads to."""
    from pypdf import PdfReader

    reader = PdfReader(pdf)
    return {name.lstrip("/"): reader.get_destination_page_number(where) + 1 for name, where in reader.named_destinations.items()}


def make(site: Path, pdf: Path) -> int:
    """Print the site; gives the number of pages. Raises RuntimeError where there is no Chromium."""
    from playwright.sync_api import sync_playwright
    from pypdf import PdfReader

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        raise RuntimeError("The printed edition needs Chromium: apt-get install chromium.")
    pdf.parent.mkdir(parents=True, exist_ok=True)
    paper = {
        "format": "A4",
        "margin": {"top": "18mm", "bottom": "20mm", "left": "18mm", "right": "18mm"},
        "outline": True,
        "tagged": True,
        "print_background": True,
    }
    paper |= {"display_header_footer": True, "header_template": "<span></span>", "footer_template": FOOTER, "path": str(pdf)}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        (Path(folder) / "book.html").write_text(document(site), encoding="utf-8")
        shutil.copyfile(formulas.FILES[1], Path(folder) / formulas.FILES[1].name)
        for images in ("_images", "_static/images"):
            if (site / images).is_dir():
                shutil.copytree(site / images, Path(folder) / images, dirs_exist_ok=True)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.set_default_timeout(0)
        page.goto((Path(folder) / "book.html").as_uri())
        page.evaluate("document.fonts.ready.then(() => 0)")
        page.pdf(**paper | {"outline": False, "tagged": False})
        page.evaluate("numbers => document.querySelectorAll('.at').forEach(e => e.textContent = numbers[e.dataset.of])", page_numbers(pdf))
        page.pdf(**paper)
        browser.close()
    return len(PdfReader(pdf).pages)


def main(arguments: list[str] | None = None) -> int:
    """The command line; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m cmlcore.press.printed", description=__doc__.splitlines()[0])
    parser.add_argument("--site", type=Path, default=ROOT / "_build" / "html", help="the built site (default: _build/html)")
    parser.add_argument("--pdf", type=Path, default=ROOT / "_build" / "the-contrastive-rule.pdf", help="the file to write")
    asked = parser.parse_args(arguments)
    try:
        count = make(asked.site, asked.pdf)
    except (RuntimeError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{asked.pdf}: {count} pages, {asked.pdf.stat().st_size / 1e6:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
