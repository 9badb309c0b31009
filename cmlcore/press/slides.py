"""Slides of every chapter, for reveal.js: `python -m cmlcore.press.slides` writes `_build/slides`, which opens from disk, without a network.

Sphinx-revealjs makes them from small notebooks, one a chapter, that hold the cells of `cmlcore.press.deck`. Figures are alive. The key S opens
the speaker's window: what the chapter says, and the minutes of its plan. Sphinx loads this module as an extension, too.
"""

import argparse
import copy
import html
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
from docutils import nodes
from docutils.parsers.rst import Directive

from cmlcore.explore import MIME
from cmlcore.press.deck import Slide, deck
from cmlcore.press.editions import numbered
from cmlcore.press.lesson import plan, teachers_part
from cmlcore.press.notebooks import ROOT
from cmlcore.press.plain import plain, references

CONF = f'''
project = "The Contrastive Rule"
extensions = ["myst_nb", "sphinx_revealjs", "cmlcore.press.book", "cmlcore.press.slides"]
root_doc = "index"
nb_execution_mode = "off"
nb_mime_priority_overrides = [("revealjs", mime, k) for k, mime in enumerate(["{MIME}", "text/html", "image/svg+xml", "text/markdown", "text/plain"])]
nb_render_markdown_format = "myst"
myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "dollarmath"]
suppress_warnings = ["config.cache", "myst.xref_missing"]  # a deck has not every section that its chapter has
revealjs_style_theme = "white"
revealjs_use_section_ids = True
revealjs_notes_from_comments = False
revealjs_static_path = ["_static"]
revealjs_css_files = ["slides.css"]
revealjs_js_files = ["slides.js"]
revealjs_script_plugins = [{{"src": "revealjs/plugin/notes/notes.js", "name": "RevealNotes"}}]
revealjs_script_conf = {{"width": "100%", "height": "100%", "margin": 0, "minScale": 1, "maxScale": 1, "center": False, "hash": True,
                        "slideNumber": "c/t", "transition": "none", "backgroundTransition": "none", "scrollActivationWidth": None}}
'''


class Notes(Directive):
    """`:::{notes}`: what only the speaker sees."""

    has_content = True

    def run(self):
        """The notes, as reveal.js looks for them."""
        inside = nodes.container()
        self.state.nested_parse(self.content, self.content_offset, inside)
        return [nodes.raw("", '<aside class="notes">', format="html"), *inside.children, nodes.raw("", "</aside>", format="html")]


def text(source: str, number: int) -> str:
    """MyST of the book as MyST of a slide: no links out of the deck, an equation's number below it."""
    words = re.sub(r"\[([^\]]+)\]\([\w-]+\.ipynb\)", r"\1", plain(source, number))
    words = re.sub(r"^(>? ?)\\tag\{([\d.]+)\} *\$\$", r"\1$$\n\1\n\1*(\2)*", words, flags=re.MULTILINE)
    return re.sub(r"^\*\*Your bet\.\*\* ", "", words)


def cells(slide: Slide, number: int, level: str = "##") -> list:
    """The notebook cells of one slide."""
    head = f"{level} {slide.title}\n\n"
    if slide.seconds:
        head += f":::{{revealjs-section}}\n:data-timing: {slide.seconds}\n:::\n"
    made = [nbformat.v4.new_markdown_cell(head)]
    for cell in slide.cells:
        if cell.cell_type == "markdown":
            made.append(nbformat.v4.new_markdown_cell(text(cell.source, number)))
        else:
            shown = nbformat.v4.new_code_cell(
                cell.source, outputs=copy.deepcopy(cell.outputs), metadata={"tags": [] if slide.kind == "code" else ["remove-input"]}
            )
            for data in (output.data for output in shown.outputs if "text/markdown" in output.get("data", {})):
                data["text/markdown"] = text(data["text/markdown"], number)
            made.append(shown)
    said = text("\n\n".join(filter(None, [slide.said, slide.notes])), number)
    if said:
        made.append(nbformat.v4.new_markdown_cell(f"::::{{notes}}\n{said}\n::::"))
    return made


def notebook(nb, chapter: str, number: int):
    """The chapter's deck as a notebook for Sphinx."""
    first, *rest = deck(nb, chapter)
    made = cells(first, number, "#") + [cell for slide in rest for cell in cells(slide, number)]
    return nbformat.v4.new_notebook(cells=made, metadata={"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}})


def index(chapters: list[tuple[int, Path]]) -> str:
    """The first page: a link to every deck, with the minutes of its plan."""
    rows = []
    for number, source in chapters:
        minutes = sum(step.minutes for step in plan(teachers_part(nbformat.read(source, as_version=4))))
        title = html.escape(references().pages[source.stem])
        rows.append(f'<li><a href="{source.stem}.html">{title}</a>{f", {minutes} minutes" if minutes else ""}</li>')
    return (
        "# Slides for *The Contrastive Rule*\n\nArrow keys and the space bar turn slides; inside a slider, arrow keys move it: Tab or a click beside it "
        f"goes back. **S** opens the speaker's window, **O** shows all slides, **F** fills the screen.\n\n```{{raw}} html\n<ul>{''.join(rows)}</ul>\n```\n"
    )


def build(folder: Path) -> Path:
    """Build the slides afresh into `folder`, any warning an error; gives the first page. Raises RuntimeError where that fails."""
    shutil.rmtree(folder, ignore_errors=True)
    source = folder / ".source"
    (source / "_static").mkdir(parents=True)
    (source / "conf.py").write_text(CONF)
    for name in ("slides.css", "slides.js"):
        shutil.copyfile(Path(__file__).parent / name, source / "_static" / name)
    chapters = numbered()
    (source / "index.md").write_text("---\norphan: true\n---\n" + index(chapters))
    for number, path in chapters:
        made = notebook(nbformat.read(path, as_version=4), path.stem, number)
        made.metadata["orphan"] = True
        nbformat.write(made, source / path.name)
    command = [sys.executable, "-m", "sphinx", "-b", "revealjs", "-W", "--keep-going", "-q", "-d", source / ".doctrees", source, folder]
    if subprocess.run(command).returncode:
        raise RuntimeError("The slides were not built; the messages above say why.")
    shutil.rmtree(source)
    return folder / "index.html"


def main(arguments: list[str] | None = None) -> int:
    """The command line; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m cmlcore.press.slides", description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "_build" / "slides", help="where to (default: _build/slides)")
    try:
        first = build(parser.parse_args(arguments).folder.resolve())
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Open {first.as_uri()}")
    return 0


def setup(app) -> dict:
    """Called by Sphinx."""
    app.add_directive("notes", Notes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    sys.exit(main())
