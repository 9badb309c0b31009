"""Formulas as MathML, made when the site is built: they read without a script, and no page fetches one for them.

Sphinx calls the two renderers for every formula. One that is displayed is cut before its relations and sums, so that a narrow window can break it
into lines, as it does with words. `python -m cmlcore.press.formulas FONT` makes the font again that goes with them.
"""

import argparse
import html
import re
from functools import cache
from pathlib import Path

from docutils import nodes
from math_core import LatexToMathML
from sphinx.util.math import get_node_equation_number

FILES = [Path(__file__).parent / name for name in ("formulas.css", "math.woff2")]  # the font is Latin Modern Math, with the characters that `characters` lists
NAME = "Latin Modern Math of this book"
TOKEN = re.compile(r"\\begin\{\w+\*?\}|\\end\{\w+\*?\}|\\[a-zA-Z]+|\\.|.", re.DOTALL)
OPEN, CLOSE = re.compile(r"[{(\[]|\\left|\\langle"), re.compile(r"[})\]]|\\right|\\rangle")
INNER, OUTER, LONG = re.compile(r"\{|\\left"), re.compile(r"\}|\\right"), 40  # letters that a phone has room for
LARGE, AXIS = re.compile(r'<mo minsize="([\d.]+)em" maxsize="[\d.]+em">([^<]+)</mo>'), 0.25
RELATION, SUM, GAP = re.compile(r"=|\\leq?|\\approx|\\propto|\\Longrightarrow"), re.compile(r"[+-]"), re.compile(r"\\qquad")


@cache
def mathml(tex: str, display: bool = False) -> str:
    """A formula as one MathML element. Raises ValueError for TeX that cannot be read."""
    tex = re.sub(r"\\(begin|end)\{split\}", "", tex).strip()
    try:
        made = LatexToMathML(fancy_error=False).convert_with_local_state(tex, displaystyle=display)
    except Exception as problem:
        raise ValueError(f"this formula cannot be read ({problem}): {tex}") from problem
    return LARGE.sub(enlarged, made.replace('<math display="block">', '<math displaystyle="true">'))


def enlarged(found) -> str:
    """A bracket of a given size as a larger letter around the formula's axis: one that is stretched gets room for the widest there is, in Chromium."""
    size, bracket = float(found[1]), found[2]
    size *= 1 if size < 1.5 else 1.12  # as large as in TeX, next to a fraction
    return f'<mpadded voffset="{-AXIS * (size - 1):.2f}em"><mo stretchy="false" style="font-size:{size:g}em">{bracket}</mo></mpadded>'


def pieces(tex: str, brackets: bool = True) -> list[str]:
    """A displayed formula in the parts between which a line may end: at wide spaces, before relations and sums; in no bracket, unless that is asked for."""
    if re.search(r"\\(begin|tag|label|middle)\b", tex):
        return [tex]
    opens, closes = (OPEN, CLOSE) if brackets else (INNER, OUTER)
    found, depth, bars, last = [""], 0, set(), ""
    for token in TOKEN.findall(tex.strip()):
        free = depth == 0 and not bars
        if free and GAP.fullmatch(token):
            found.append("")
        else:
            # A sign that begins a term adds nothing; a relation without a left side says nothing.
            if free and (RELATION.fullmatch(token) or SUM.fullmatch(token)) and re.search(r"[\w})\]'|*]\s*(\\[,;!]\s*)?$", found[-1]):
                found.append("")
            if token in ("|", r"\|") and not re.fullmatch(r"\\([bB]ig+[lrm]?|left|right)", last):
                bars ^= {token}
            depth += bool(opens.fullmatch(token)) - bool(closes.fullmatch(token))
            found[-1] += token
        last = token if token.strip() else last
    return [part.strip() for part in found if part.strip()]


def displayed(tex: str) -> str:
    """A displayed formula: its parts, and the room between them. Rows that are aligned are a table, and on a narrow window lines of parts."""
    inner = re.sub(r"\\(begin|end)\{(split|aligned|gathered)\}", "", tex)
    if inner != tex and not re.search(r"\\begin", inner) and len(lines := re.split(r"\\\\(?:\[[^\]]*\])?", inner)) > 1:
        narrow = "".join(f'<span class="cml-row">{parts(columns(line))}</span>' for line in lines if line.strip())
        return f'<span class="cml-lines cml-wide">{mathml(tex, display=True)}</span><span class="cml-lines cml-narrow">{narrow}</span>'
    return f'<span class="cml-lines">{parts(tex)}</span>'


def parts(tex: str) -> str:
    """The parts of a formula as MathML, together where no wide space is between them; one that is long is cut in its brackets, too."""
    said = []
    for part in pieces(tex):
        joined = bool(said) and bool(RELATION.match(part) or SUM.match(part))
        said += [] if joined else [""]
        long = len(re.sub(r"<[^>]*>|&[^;]*;", "", mathml(part, display=True))) > LONG
        for k, one in enumerate(pieces(part, brackets=False) if long else [part]):
            said[-1] += "<wbr>" + mathml(f"{{}}{one}", display=True) if joined or k else mathml(one, display=True)
    return '<span class="cml-gap"> </span>'.join(f'<span class="cml-part">{one}</span>' for one in said)


def columns(row: str) -> str:
    """A row of an aligned formula as a line: what stands in a pair of columns, and wide spaces between."""
    cells = row.split("&")
    return r"\qquad ".join("".join(cells[k : k + 2]) for k in range(0, len(cells), 2))


def visit_inline(self, node) -> None:
    """Called by Sphinx for a formula within a line."""
    self.body.append(f"{self.starttag(node, 'span', '', CLASS='math notranslate nohighlight')}{mathml(node.astext())}</span>")
    raise nodes.SkipNode


def visit_display(self, node) -> None:
    """Called by Sphinx for a displayed formula, which may have a number and be the end of links."""
    self.body.append(self.starttag(node, "div", CLASS="math notranslate nohighlight"))
    if node["number"]:
        self.body.append(f'<span class="eqno">({html.escape(get_node_equation_number(self, node))})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append("".join(displayed(part) for part in node.astext().split("\n\n") if part.strip()) + "</div>\n")
    raise nodes.SkipNode


# ---- the font ---------------------------------------------------------------------------------------------------------


def characters() -> str:
    """What the font has: letters, digits, Greek, some script and double-struck ones, operators, arrows, brackets, accents."""
    spans = [(0x20, 0x7E), (0x391, 0x3A9), (0x3B1, 0x3C9), (0x1D434, 0x1D467), (0x1D6E4, 0x1D71B)]
    single = "ϑϕϵϱħ±×÷·¬°′″∂∇∀∃∅∈∉∏∑−∗∘∙√∝∞∧∨∩∪∫∼≃≈≠≡≤≥≪≫⊂⊆⊗⊙⊤⊥⊕⋅⋮⋯…←↑→↓↔⇒⇔⟵⟶⟸⟹⟺↦‖∣⌊⌋⌈⌉⟨⟩⏞⏟ℎℒ𝒩ℓℜℑℝℕℤ𝔼ℙ∎□⪯⪰⋆\u00a0\u0302\u0303\u0304\u0307\u20d7ˆ˜¯˙ˉ"
    return "".join(chr(code) for first, last in spans for code in range(first, last + 1)) + single


def main() -> None:
    """Write the font of the pages from the whole one, Latin Modern Math (GUST Font License); needs fonttools and brotli."""
    from fontTools import subset
    from fontTools.ttLib import TTFont

    parser = argparse.ArgumentParser(prog="python -m cmlcore.press.formulas", description=main.__doc__)
    parser.add_argument("font", type=Path, help="latinmodern-math.otf")
    asked = parser.parse_args()
    font = TTFont(asked.font)
    options = subset.Options(flavor="woff2", layout_features=[], hinting=False, name_IDs=[1, 2, 4, 6, 13, 14], notdef_outline=True)
    small = subset.Subsetter(options)
    small.populate(text=characters())
    small.subset(font)
    for entry in font["name"].names:
        if entry.nameID in (1, 4, 6):  # what is changed has another name
            entry.string = NAME.replace(" ", "") if entry.nameID == 6 else NAME
    font.flavor = "woff2"
    font.save(FILES[1])


if __name__ == "__main__":
    main()
