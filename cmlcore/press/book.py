"""The book's site: `python -m cmlcore.press.book` builds it; Sphinx loads this module as an extension while it does.

The site asks no other host for anything, works from a folder on a stick, and loads a library only on pages that use it.
"""

import re
import shutil
import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path

import yaml
from docutils import nodes

from cmlcore import explore
from cmlcore.press import full_runs, reference
from cmlcore.press.notebooks import ROOT

# Tokens of code that have the color of plain text: names, punctuation, spaces. An element for each is a quarter of a page.
COLORLESS = re.compile(r'<span class="(?:n|p|w)">([^<]*)</span>')
MATHJAX = "tex-svg.js"  # one file, with its fonts inside: font files of their own are blocked where a page is a local file


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
    return html / "index.html"


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
    """Put MathJax, plotly and the explorables' files beside the pages; none of them is kept in the repository.

    Before the pages are written: Sphinx puts a digest of a script that is there into its address, so that no browser runs an
    old one on a new page.
    """
    if app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    static.mkdir(parents=True, exist_ok=True)
    mathjax = next(file for file in metadata.files("sphinx-mathjax-offline") if file.name == MATHJAX)
    shutil.copyfile(mathjax.locate(), static / MATHJAX)
    shutil.copyfile(resources.files("plotly") / "package_data" / "plotly.min.js", static / "plotly.min.js")
    for file in explore.static_files():
        shutil.copyfile(file, static / file.name)


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
    app.config.mathjax_path = MATHJAX
    app.connect("source-read", reference.fill)
    app.connect("source-read", full_runs.fill)
    app.connect("html-page-context", add_explore_files)
    app.connect("html-page-context", lighten_code)
    app.connect("builder-inited", copy_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    sys.exit(main())
