"""Every figure of the book in Firefox and in WebKit: it draws, follows its controls, and computes what it computes in Chromium."""

import numpy as np
import pytest
from engines import firefox, webkit

from cmlcore.press.notebooks import notebooks

pytestmark = pytest.mark.browser
PAGES = ["intro", *(path.stem for path in notebooks())]

# All controls of a figure go to three quarters of their way, or to their last name.
VISIT = """async () => {
  const figures = [];
  for (const figure of document.querySelectorAll('.cml-explorable')) {
    const shown = async () => {
      const end = performance.now() + 30_000;
      while (!(figure.dataset.shown && figure.querySelector('.cml-link').hash === '#' + figure.dataset.shown)) {
        if (performance.now() > end) throw new Error(`${figure.id} shows nothing`);
        await new Promise((done) => setTimeout(done, 5));
      }
    };
    const drawn = () => [...figure.querySelectorAll('.cml-moving')].map((e) => e.innerHTML + (e.querySelector('canvas')?.toDataURL() ?? '')).join('');
    figure.scrollIntoView({ behavior: 'instant' });
    await shown();
    const first = drawn(), before = figure.dataset.shown;
    for (const control of figure.querySelectorAll('[data-knob]')) {
      if (control.tagName === 'SELECT') control.selectedIndex = control.options.length - 1;
      else control.value = Math.round(0.75 * control.max);
      control.dispatchEvent(new Event('input', { bubbles: true }));
    }
    await shown();
    const outputs = Object.entries(figure.explorable.outputs).map(([name, { data }]) => [name, Array.from(data, (x) => (Number.isFinite(x) ? x : String(x)))]);
    figures.push({ name: figure.id, drawn: first.length > 0, moved: drawn() !== first && figure.dataset.shown !== before,
                   knobs: figure.querySelectorAll('[data-knob]').length, sentence: figure.querySelector('.cml-say').innerText, outputs });
  }
  const words = document.querySelector('main, article, body').innerText.length;
  return { figures, words, wide: document.documentElement.scrollWidth - document.documentElement.clientWidth };
}"""


@pytest.fixture(scope="module", params=[firefox, webkit])
def engine(request, tmp_path_factory):
    with request.param(tmp_path_factory.mktemp(request.param.__name__)) as running:
        if running is None:
            pytest.skip("not installed: apt-get install firefox-esr webkit2gtk-driver xvfb")
        running.command("SetWindowRect", {"width": 1280, "height": 900})
        yield running


@pytest.fixture(scope="module")
def chromium(browser, site):
    """What a page shows there, each asked for once."""
    page, seen = browser.new_page(viewport={"width": 1280, "height": 900}), {}

    def visit(name):
        if name not in seen:
            page.goto((site / f"book/{name}.html").as_uri())
            seen[name] = page.evaluate(VISIT)
        return seen[name]

    yield visit
    page.close()


def numbers(values):
    return np.array([float(value) for value in values])


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_alike_in_every_engine(engine, chromium, site, name):
    expected = chromium(name)
    engine.goto((site / f"book/{name}.html").as_uri())
    found = engine.evaluate(VISIT)
    assert found["wide"] <= 0 and found["words"] > 500
    assert [figure["name"] for figure in found["figures"]] == [figure["name"] for figure in expected["figures"]]
    for figure, there in zip(found["figures"], expected["figures"]):
        assert figure["drawn"], f"{figure['name']} is empty"
        assert figure["moved"] == there["moved"], f"{figure['name']} does not follow its controls"
        for (output, values), (same, others) in zip(figure["outputs"], there["outputs"]):
            assert output == same
            np.testing.assert_allclose(
                numbers(values),
                numbers(others),
                rtol=1e-4,
                atol=1e-4 * max(1e-30, np.abs(numbers(others)).max(initial=0)),
                err_msg=f"{figure['name']}: {output}",
            )
        assert figure["sentence"].split() == there["sentence"].split()
