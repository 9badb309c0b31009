"""Formulas as MathML: all of the book's are read, what is displayed may break between its parts, and the font has their characters."""

import html
import re

import pytest

from cmlcore.press import formulas


@pytest.mark.parametrize(
    "tex, parts",
    [
        (r"a = b + c \qquad d = 1", ["a", "= b", "+ c", "d", "= 1"]),
        (r"-x = (1 - y) = \frac{1 - z}{2}", ["-x", "= (1 - y)", r"= \frac{1 - z}{2}"]),
        (r"\Delta W = - \eta e", [r"\Delta W", r"= - \eta e"]),
        (r"\Big[ a + \left( b - c \right) \Big] \le \|\rho - 1\|", [r"\Big[ a + \left( b - c \right) \Big]", r"\le \|\rho - 1\|"]),
        (r"f\Big|_0 - g\Big|_1", [r"f\Big|_0", r"- g\Big|_1"]),
        (r"\begin{aligned}a &= b + c\end{aligned}", [r"\begin{aligned}a &= b + c\end{aligned}"]),
    ],
)
def test_where_a_formula_may_break(tex, parts):
    assert formulas.pieces(tex) == parts


def test_a_long_part_is_cut_in_its_brackets():
    tex = r"\Big[ a_{1234567890} + b_{1234567890} + \left( c_{1234567890} - d_{1234567890} \right) \Big]"
    assert formulas.displayed(tex).count("<wbr>") == 2 and formulas.displayed(r"\Big[a + b\Big]").count("<wbr>") == 0


def test_aligned_rows_are_lines_on_a_phone():
    made = formulas.displayed(r"\begin{split}\begin{aligned}a &= b \\ c &= d\end{aligned}\end{split}")
    assert made.count('class="cml-row"') == 2 and made.count("<mtable") == 1


def test_a_formula_is_one_element_and_what_is_none_is_said():
    assert formulas.mathml(r"\phi^*").startswith("<math><msup>")
    assert formulas.mathml(r"\begin{split}\sum_k k\end{split}", display=True).startswith('<math displaystyle="true"><munder>')
    with pytest.raises(ValueError, match="cannot be read"):
        formulas.mathml(r"\nonsense{x}")


def test_every_formula_is_there_and_the_font_has_its_characters(site):
    known, count = set(formulas.characters()), 0
    for path in site.glob("book/*.html"):
        text = path.read_text(encoding="utf-8")
        found = re.findall(r"<math[ >].*?</math>", text, re.DOTALL)
        assert len(found) >= len(re.findall(r'class="math ', text)), path.name
        used = set(html.unescape(re.sub("<[^>]*>", "", "".join(found))))
        assert used - known - {"\n", "\u2061", "\ufe00"} == set(), path.name
        count += len(found)
    assert count > 2500
