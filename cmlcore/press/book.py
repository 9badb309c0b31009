"""The book's site: `python -m cmlcore.press.book` builds it; Sphinx loads this module as an extension while it does.

The site asks no other host for anything, works from a folder on a stick, and loads a library only on pages that use it.
"""

import re
import shutil
import subprocess
import sys
from html import escape
from pathlib import Path

import yaml
from docutils import nodes
from docutils.parsers.rst import Directive

from cmlcore import explore
from cmlcore.press import formulas, front, full_runs, lighten, reference
from cmlcore.press.notebooks import ROOT
from cmlcore.runs import page_weights

# Tokens of code that have the color of plain text: names, punctuation, spaces. An element for each is a quarter of a page.
COLORLESS = re.compile(r'<span class="(?:n|p|w)">([^<]*)</span>')
PREVIEW = "preview.png"


# ---- building -------------------------------------------------------------------------------------------------------


def pages(entry) -> list[str]:
    """Every page that the table of contents names, as a path without suffix."""
    if isinstance(entry, dict):
        own = [entry[key] for key in ("root", "file") if key in entry]
        return own + [page for value in entry.values() for page in pages(value)]
    return [page for value in entry for page in pages(value)] if isinstance(entry, list) else []


def build(folder: Path) -> Path:
    """Build the site afresh into `folder/_build/html`, any warning an error; gives the path of its first page.

    Raises RuntimeError where the build fails or a page of the table of contents is not there: after a failed build, an
    incremental one says nothing of the pages that it skips, so every build starts clean.
    """
    html = folder / "_build" / "html"
    for old in (html, folder / "_build" / ".doctrees"):
        shutil.rmtree(old, ignore_errors=True)
    command = "from jupyter_book.cli.main import main; main()"
    options = ["build", str(ROOT), "--path-output", str(folder), "--warningiserror", "--keep-going", "--quiet"]
    if subprocess.run([sys.executable, "-c", command, *options], stdout=subprocess.DEVNULL).returncode:
        raise RuntimeError("The site was not built; the messages above say why.")
    toc = pages(yaml.safe_load((ROOT / "_toc.yml").read_text()))
    if missing := [page for page in toc if not (html / f"{page}.html").is_file()]:
        raise RuntimeError(f"The build left out pages that _toc.yml names: {', '.join(missing)}")
    first = html / "index.html"  # it leads on to the first page; who shows a preview of a link reads only this
    told = "".join(re.findall(r'<meta (?:name|property)="(?:description|og:|twitter:)[^>]*>\n?', (html / f"{toc[0]}.html").read_text(encoding="utf-8")))
    first.write_text(f"<meta charset='utf-8'><title>{settings()['title']}</title>\n{told}{first.read_text(encoding='utf-8')}", encoding="utf-8")
    return first


def settings() -> dict:
    """The book's settings."""
    return yaml.safe_load((ROOT / "_config.yml").read_text())


def main() -> int:
    """Build into the repository, and say where to look."""
    print("Building the site ...", flush=True)
    try:
        first = build(ROOT)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Open {first.as_uri()}")
    return 0


# ---- the Sphinx extension -------------------------------------------------------------------------------------------


class ExplorableRenderer:
    """Draws the stored explorables of a notebook; found by MyST-NB through the package's entry point."""

    mime_priority_overrides = [("html", "application/vnd.cmlcore.explorable+json", 0)]

    @staticmethod
    def handle_mime(renderer, data, inline):
        """The output as a node of the page, or None for any other kind of output."""
        if inline or data.mime_type != "application/vnd.cmlcore.explorable+json":
            return None
        return [nodes.raw("", explore.render_html(data.content), format="html", classes=["explorable"])]


class FrontFigure(Directive):
    """A figure of the first page, which is no notebook: `:::{front} name`."""

    required_arguments = 1

    def run(self):
        made = front.FIGURES[self.arguments[0]]()
        still = front.ending() if made is front.draw_the_rest() else ""
        return [nodes.raw("", explore.render_html(made.payload()) + still, format="html", classes=["explorable"])]


def describe(app, pagename, templatename, context, doctree) -> None:
    """What a shared link shows of a page: its title, its question, the book's picture."""
    repository = app.config.html_theme_options.get("repository_url")
    if doctree is None or repository is None:  # slides and printed pages have no address
        return
    base = address(repository)
    whole = pagename == app.config.master_doc
    title = app.config.html_title if whole else re.sub("<[^>]*>", "", context["title"])
    told = {"og:type": "book" if whole else "article", "og:site_name": app.config.html_title}
    told |= {"og:title": title, "og:description": description(doctree), "og:image": f"{base}_static/{PREVIEW}", "og:url": f"{base}{pagename}.html"}
    told |= {"og:image:width": "1200", "og:image:height": "630", "og:image:alt": "Ten dots of a sine wave, and what two networks draw through them"}
    metas = [f'<meta name="description" content="{escape(told["og:description"])}" />', '<meta name="twitter:card" content="summary_large_image" />']
    metas += [f'<meta property="{name}" content="{escape(text)}" />' for name, text in told.items()]
    context["metatags"] = context.get("metatags", "") + "".join(f"{meta}\n" for meta in metas)


def address(repository: str) -> str:
    """Where GitHub publishes the site of a repository."""
    owner, name = repository.rstrip("/").rpartition("/")[0].rpartition("/")[2], repository.rstrip("/").rpartition("/")[2]
    return f"https://{owner}.github.io/{name}/"


def description(doctree) -> str:
    """A page's first paragraph that is a text: a chapter's question, not the small print above it. At most 200 characters, cut between words."""
    texts = [node for node in doctree.findall(nodes.paragraph) if not (len(node.children) == 1 and isinstance(node[0], nodes.emphasis))]
    text = next((text for text in (" ".join(plain_text(node).split()) for node in texts) if len(text) > 30), "")
    return text if len(text) <= 200 else text[:200].rpartition(" ")[0] + " …"


def plain_text(node) -> str:
    """Its words; of a formula the letters, without TeX's signs."""
    if isinstance(node, nodes.math):
        return re.sub(r"\\([A-Za-z]+)|[\\{}^]", lambda found: found.group(1) or "", node.astext())
    return node.astext() if isinstance(node, nodes.Text) else "".join(plain_text(child) for child in node.children)


def add_explore_files(app, pagename, templatename, context, doctree) -> None:
    """Load the explorables' files, on pages that have one."""
    if doctree is None or not any("explorable" in node.get("classes", []) for node in doctree.findall(nodes.raw)):
        return
    for file in explore.static_files():
        if file.suffix == ".css":
            app.add_css_file(file.name)
        else:
            app.add_js_file(file.name, loading_method="defer")


def lighten_code(app, pagename, templatename, context, doctree) -> None:
    """Leave only those elements in a page's code that give a token a color of its own."""
    if "body" in context:
        context["body"] = COLORLESS.sub(r"\1", context["body"])


def copy_files(app) -> None:
    """Put the files of explorables and formulas, and the weights of figures, beside the pages; the weights are not kept in the repository a second time.

    Before the pages are written: Sphinx puts a digest of a script that is there into its address, so that no browser runs an
    old one on a new page.
    """
    if app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    static.mkdir(parents=True, exist_ok=True)
    for file in [*explore.static_files(), *formulas.FILES]:
        shutil.copyfile(file, static / file.name)
    for weights in page_weights.every():
        (static / weights.file).write_text(weights.script, encoding="utf-8")
    front.preview(static / PREVIEW)


def without_thebe(app) -> None:
    """Take Thebe out of the pages: Jupyter Book always loads it, twice, and it asks another host for its script."""
    for listeners in app.events.listeners.values():
        listeners[:] = [listener for listener in listeners if listener.handler.__module__ != "sphinx_thebe"]
    app.registry.css_files[:] = [entry for entry in app.registry.css_files if entry[0] != "sphinx-thebe.css"]


def name_beside_logo(app, config) -> None:
    """Show the book's name beside its logo; Jupyter Book has no setting for that."""
    config.html_theme_options["logo"] = {"text": config.html_title}


def setup(app) -> dict:
    """Called by Sphinx."""
    without_thebe(app)
    app.connect("config-inited", name_beside_logo)
    app.add_html_math_renderer("mathml", (formulas.visit_inline, None), (formulas.visit_display, None))
    app.config.html_math_renderer = "mathml"
    app.add_css_file(formulas.FILES[0].name)
    app.add_directive("front", FrontFigure)
    app.connect("source-read", reference.fill)
    app.connect("source-read", full_runs.fill)
    app.connect("html-page-context", describe)
    app.connect("html-page-context", add_explore_files)
    app.connect("html-page-context", lighten_code)
    app.connect("builder-inited", copy_files)
    app.connect("build-finished", lighten.lighten, priority=900)  # the theme writes the colors of code then, too
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    sys.exit(main())
