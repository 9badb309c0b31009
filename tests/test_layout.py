"""Where code stands on a page, and what is asked there."""

import re

import bs4
import nbformat
import pytest

from cmlcore.press import bets, layout
from cmlcore.press.exercises import PYTHON, SOLUTION, tagged
from cmlcore.press.notebooks import ROOT, notebooks

CHAPTERS = [path.stem for path in notebooks()]
SAME = {"The question", "Play first", "The mathematics", "From scratch", "Check", "The two loops", "Where it breaks", "Experiment"}


def cells(chapter):
    return nbformat.read(ROOT / "book" / f"{chapter}.ipynb", as_version=4).cells


@pytest.fixture(scope="module")
def page(site):
    """A chapter's page as it is built, by name."""
    return lambda chapter: bs4.BeautifulSoup((site / "book" / f"{chapter}.html").read_text(encoding="utf-8"), "html.parser").article


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_code_stands_behind_its_figure(page, chapter):
    article = page(chapter)
    for figure in article.select(".cml-explorable"):
        cell = figure.find_parent("div", class_="cell")
        folds = cell.select("details.cml-fold")
        assert [fold.summary.text for fold in folds] == [layout.FIGURE]
        assert not folds[0].find(class_="cml-explorable") and folds[0] in figure.find_all_next("details")
    assert "Show code cell source" not in article.text
    first = article.select_one(".cml-explorable")
    assert not [fold for fold in article.select("details.cml-fold") if first in fold.find_all_next(class_="cml-explorable")]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_no_test_is_shown_as_prose_and_no_output_strays(page, chapter):
    article = page(chapter)
    seen = [output for output in article.select(".cell_output") if not output.find_parent("details")]
    assert [output.text for output in seen if layout.only_true(output.text)] == []
    assert "Not answered yet" not in " ".join(output.text for output in article.select(".cell_output"))
    hidden = [cell for cell in cells(chapter) if cell.cell_type == "code" and (tagged(cell, "remove-input") or tagged(cell, "hide-input"))]
    bare = [o.data for cell in hidden for o in cell.outputs if o.output_type == "execute_result" and set(o.data) == {"text/plain"}]
    assert bare == []


def test_what_only_prints_true_is_told_from_a_table():
    assert layout.only_true("right to 5e-6: True\nand below: True\n")
    assert not layout.only_true(" beta  agree\n  0.3  True\n")
    assert not layout.only_true("")


def test_sections_say_what_happens_in_their_chapter():
    heads = {
        chapter: re.findall(r"^## (.+)$", "\n".join(cell.source for cell in cells(chapter) if cell.cell_type == "markdown"), re.MULTILINE)
        for chapter in CHAPTERS
    }
    assert {chapter: SAME & set(found) for chapter, found in heads.items() if SAME & set(found)} == {}
    fixed = {"Three takeaways", "Exercises", "Sources"}
    every = [head for found in heads.values() for head in found if head not in fixed]
    assert len(every) == len(set(every)), sorted(head for head in set(every) if every.count(head) > 1)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_bet_is_placed_in_the_page_and_its_answer_is_the_chapters(page, chapter):
    article, entry = page(chapter), bets.asked(chapter, "bet")
    assert len(article.select('.cml-bet[data-kind="bet"]')) == 1 and len(article.select("#bet-settled")) == 1
    form = article.select_one(".cml-bet")
    assert article.find("strong", string="Your bet.") in form.find_all_previous("strong") and form.find_next(class_="cml-explorable")
    for field in entry["fields"]:
        given = field["answer"]
        if "options" in field:
            assert 0 <= given < len(field["options"]) and len(field.get("says", field["options"])) == len(field["options"])
        else:  # no diagnosis of a wrong answer is said of the right one
            assert not [said for low, high, said in field.get("says", []) if low <= given <= high]


@pytest.mark.parametrize("chapter", [c for c in CHAPTERS if bets.bets().get(c, {}).get("warm-up")])
def test_a_warm_up_is_settled_by_what_its_solution_binds(chapter):
    solution = next(cell.source for cell in cells(chapter) if tagged(cell, SOLUTION))
    bound = {}
    exec(PYTHON.search(solution).group(1), bound)
    for field, asked in zip(bets.bets()[chapter]["warm-up"]["fields"], bets.asked(chapter, "warm-up")["fields"], strict=True):
        assert asked["answer"] == pytest.approx(float(bound[field["name"]]), rel=field.get("within", 0.02), abs=1e-9)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_warm_up_with_a_check_is_asked_in_the_page(page, chapter):
    warm = [cell for cell in cells(chapter) if re.search(r"^### Warm-up", cell.source, re.MULTILINE)]
    assert len(page(chapter).select('.cml-bet[data-kind="warm-up"]')) == len(warm)


def test_a_number_stays_on_a_line_with_its_interval(page):
    assert not [td.text for chapter in CHAPTERS for td in page(chapter).find_all("td") if re.search(r"(^|\d )± \d|\d and \d", td.text)]


def test_a_table_of_very_many_rows_is_folded(page):
    long = [table for chapter in CHAPTERS for table in page(chapter).find_all("table") if len(table.select("tbody tr")) > layout.MANY]
    assert long and all(table.find_parent("details") for table in long)


@pytest.mark.browser
def test_a_bet_is_settled_kept_and_cleared(browser, site):
    context = browser.new_context()
    page = context.new_page()
    page.goto((site / "book" / "bilevel.html").as_uri())
    form = page.locator('.cml-bet[data-kind="bet"]')
    field = form.get_by_label("the test loss changes by")
    field.fill("nothing")
    form.get_by_role("button", name="Place your bet").click()
    assert "Put a number" in form.get_by_role("status").inner_text()
    field.fill("0.033")
    form.get_by_role("button", name="Place your bet").click()
    said = form.get_by_role("status").inner_text()
    assert "You said 0.033" in said and "It is 0.0111" in said and "the weight moves less than its spring" in said and "10/9" in said
    page.reload()
    assert "You said 0.033" in form.get_by_role("status").inner_text() and field.input_value() == "0.033"
    form.get_by_role("button", name="Clear").click()
    assert form.get_by_role("status").inner_text() == "" and field.input_value() == ""
    assert page.evaluate("localStorage.length") == 0 or "cml:" not in page.evaluate("Object.keys(localStorage).join()")
    warm = page.locator('.cml-bet[data-kind="warm-up"]')
    warm.locator("input").nth(0).fill("−5")
    warm.locator("input").nth(1).fill("0")
    warm.get_by_role("button", name="Check").click()
    assert warm.get_by_role("status").inner_text().count("right") == 2
    context.close()


@pytest.mark.browser
def test_without_scripts_a_bet_is_words_alone(browser, site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((site / "book" / "bilevel.html").as_uri())
    assert not page.locator(".cml-bet").first.is_visible() and page.get_by_text("Your bet.").first.is_visible()
    context.close()


@pytest.mark.browser
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_formulas_are_not_cut_on_a_phone(browser, site, chapter):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto((site / "book" / f"{chapter}.html").as_uri())
    page.evaluate("document.fonts.ready.then(() => 0)")
    page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
    page.wait_for_timeout(500)
    cut = page.evaluate("[...document.querySelectorAll('.cml-lines')].filter(e => e.scrollWidth > e.clientWidth + 2).map(e => e.textContent)")
    page.close()
    assert cut == []
