"""`python -m benchmarks.page [--receipt]`: what a page fetches, when it answers, and what a move of a slider costs, in Chromium on this machine.

Three tables. Every page with figures as a phone gets it: bytes, gzipped, up to its text with the first still and up to a figure that moves, and the
milliseconds until then, from an empty cache, at a processor four times slower and Chromium's "Fast 3G". One program beside its floor: a meta-gradient of the sine network, 20 free and 20 nudged Adam steps, against its
operations at the rate of a plain loop over typed arrays. And every explorable of the site as `make site` built it, at two widths of
the window: from the input event to the finished drawing, and of that the program's part and the drawing's.
"""

import argparse
import gzip
import re
import shutil
import statistics
import threading
from contextlib import contextmanager
from datetime import date
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jax
import optax
from playwright.sync_api import sync_playwright

from benchmarks import table
from benchmarks.sine import POINTS, operations
from cmlcore.data.sine import WIDTHS, sine_task
from cmlcore.estimators.contrastive import contrastive
from cmlcore.explore.program import RUNTIME, export
from cmlcore.models.mlp import init_mlp
from cmlcore.press.notebooks import ROOT
from cmlcore.runs.experiment import device_in_words
from cmlcore.solve import optimizer
from cmlcore.speed.fast import pulled_regression

SITE = ROOT / "_build" / "html"
STEPS, MOVES = 20, 21
WINDOWS = {"desk": (1280, 900), "phone": (390, 844)}


# ---- what a page fetches, and when it answers --------------------------------------------------------------------------------

# What Chromium's developer tools call Fast 3G: nine tenths of 1.6 Mbit/s down and 0.75 up, and a wait of 150 ms, 3.75 times, before every answer.
FAST_3G = {"offline": False, "latency": 562.5, "downloadThroughput": 0.9 * 1.6 * 2**20 / 8, "uploadThroughput": 0.9 * 0.75 * 2**20 / 8}
SLOWER = 4
NOTED = """new MutationObserver((_, observer) => {
  const e = document.querySelector('.cml-explorable[data-shown]');
  if (e) { window.cmlAnswered = performance.now(); observer.disconnect(); }
}).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ['data-shown'] });
new PerformanceObserver((list) => list.getEntries().forEach((e) => (window.cmlPainted ??= e.startTime))).observe({ type: 'paint', buffered: true });"""


def zipped(file: Path) -> int:
    """The bytes of a file as a server sends it: texts gzipped, fonts and pictures as they are."""
    return len(gzip.compress(file.read_bytes(), 9, mtime=0)) if file.suffix in (".html", ".css", ".js", ".svg") else file.stat().st_size


def weights(site: Path, path: Path) -> dict:
    """Bytes of a page, gzipped: `text`, the page with its style sheet and its font, which shows text and stills; `more`, what it loads for moving figures."""
    page = path.read_text(encoding="utf-8")
    loads = re.findall(r'<(?:link rel="stylesheet"|script)[^>]*(?:href|src)="(?:\.\./)*(_static/[^"?]+)', page)
    styles = [site / name for name in loads if name.endswith(".css")] + [site / "_static" / "math.woff2"] * ("<math" in page)
    return {"text": zipped(path) + sum(map(zipped, styles)), "more": sum(zipped(site / name) for name in loads if name.endswith(".js"))}


class Zipping(SimpleHTTPRequestHandler):
    """Serves a folder as a host would: texts gzipped, connections kept."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        file = Path(self.translate_path(self.path))
        if not file.is_file():
            return self.send_error(404)
        zips = file.suffix in (".html", ".css", ".js", ".svg")
        body = gzip.compress(file.read_bytes(), 6) if zips else file.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(file)))
        self.send_header("Content-Length", str(len(body)))
        if zips:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def served(site: Path):
    """The address of a site while it is served."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Zipping, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def arrival(browser, address: str, turns: int) -> dict:
    """Milliseconds until a page is painted, and until its first figure has computed and follows a hand: medians of several first visits."""
    times = []
    for _ in range(turns):
        context = browser.new_context(viewport={"width": 390, "height": 844})
        page = context.new_page()
        page.add_init_script(NOTED)
        wire = context.new_cdp_session(page)
        wire.send("Network.enable")
        wire.send("Network.emulateNetworkConditions", FAST_3G)
        wire.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
        page.goto(address, wait_until="commit")
        page.wait_for_function("window.cmlAnswered && window.cmlPainted", timeout=60_000)
        times.append(page.evaluate("[cmlPainted, cmlAnswered]"))
        context.close()
    return dict(zip(("painted_ms", "answers_ms"), (round(statistics.median(values)) for values in zip(*times))))


def arrivals(browser, site: Path, pages: list[Path], turns: int = 3) -> list[dict]:
    """A row for each page with figures."""
    with served(site) as address:
        return [{"page": path.stem, **weights(site, path), **arrival(browser, f"{address}/book/{path.name}", turns)} for path in pages]


# ---- one program and its floor -------------------------------------------------------------------------------------------


def program() -> dict:
    """The meta-gradient as a page gets it, its knobs beta and the learning rate."""
    theta, task = init_mlp(jax.random.key(0), WIDTHS), sine_task(jax.random.key(1), POINTS, POINTS)

    def meta_gradient(beta, rate):
        adam = optimizer(optax.adam(rate), STEPS)
        return {"grad": contrastive(adam, adam, beta)(pulled_regression(0.01), theta, task).grad}

    return export(meta_gradient, beta=0.1, rate=0.01)


PROGRAM = """([program, size, width]) => {
  const run = CMLProgram.compile(program), best = (times) => Math.min(...times);
  const clock = (work, turns) => { const start = performance.now(); for (let k = 0; k < turns; k++) work(k); return (performance.now() - start) / turns; };
  const [a, b, c] = [size * width, width * width, size * width].map((n) => Float32Array.from({ length: n }, (_, k) => Math.sin(k)));
  const product = () => {
    for (let i = 0; i < size; i++) for (let j = 0; j < width; j++) {
      let sum = 0;
      for (let k = 0; k < width; k++) sum += a[i * width + k] * b[j * width + k];
      c[i * width + j] = sum;
    }
  };
  const move = (k) => run({ beta: 0.1 + k / 1e4, rate: 0.01 });
  clock(product, 2000); clock(move, 20);                       // the engine compiles what runs often
  const moves = Array.from({ length: 51 }, () => clock(move, 5)).sort((x, y) => x - y);
  const loop = best(Array.from({ length: 51 }, () => clock(product, 200)));
  return { ms: moves[25], fastest: moves[0], slowest: moves[50], rate: (2 * size * width * width) / (loop / 1e3) };
}"""


def against_the_floor(page) -> dict:
    """Milliseconds a move, and the floor: operations at the rate of a plain product of the network's size."""
    for script in RUNTIME:
        page.add_script_tag(path=script)
    found = page.evaluate(PROGRAM, [program(), POINTS, WIDTHS[1]])
    count = operations(STEPS, STEPS)
    floor = 1e3 * count / found["rate"]
    found |= {"operations": count, "floor_ms": floor, "times_floor": found["ms"] / floor}
    return {key: float(f"{value:.3g}") for key, value in found.items()}


# ---- the book's explorables ----------------------------------------------------------------------------------------------

MOVE = """async ([name, moves]) => {
  const element = document.getElementById(name), controls = [...element.querySelectorAll("[data-knob]")], rows = [];
  let seed = 1;
  const random = (n) => (seed = (seed * 48271) % 2147483647) % n;
  for (let move = 0; move < moves; move++) {
    await new Promise(requestAnimationFrame);
    const places = () => controls.map((control) => (control.tagName === "SELECT" ? control.selectedIndex : Number(control.value))).join();
    const start = performance.now(), before = places();
    do
      for (const control of controls)
        if (control.tagName === "SELECT") control.selectedIndex = random(control.options.length);
        else control.value = random(Number(control.max) + 1);
    while (places() === before);
    controls[0].dispatchEvent(new Event("input", { bubbles: true }));
    while (element.querySelector(".cml-link").hash !== "#" + element.dataset.shown) await new Promise((done) => setTimeout(done));
    rows.push([performance.now() - start, element.explorable.milliseconds || 0, element.explorable.drawn]);
  }
  return rows;
}"""


def chapter(page, path) -> list[dict]:
    """A row for each explorable of a page: medians and the slowest of some moves of all knobs at once, after two to warm up."""
    page.goto(path.as_uri())
    rows = []
    for name in page.evaluate("[...document.querySelectorAll('.cml-explorable')].map(e => e.id)"):
        page.locator(f"#{name}").scroll_into_view_if_needed()
        page.wait_for_function("name => document.getElementById(name).dataset.shown", arg=name)
        times = list(zip(*page.evaluate(MOVE, [name, MOVES + 2])[2:]))
        row = {"chapter": path.stem, "explorable": name.removeprefix("explorable-")}
        for key, values in zip(("answer", "program", "drawing"), times):
            row |= {f"{key}_ms": round(statistics.median(values), 1), f"{key}_slowest_ms": round(max(values), 1)}
        rows.append(row)
    return rows


def text(receipt: dict) -> str:
    """A receipt as it is printed."""
    p = receipt["program"]
    lines = [
        f"In the page, Chromium {receipt['versions']['chromium']}, {receipt['machine']}",
        f"Meta-gradient, 20 + 20 steps: {p['ms']} ms a move ({p['fastest']} to {p['slowest']}); floor {p['floor_ms']} ms, {p['operations']:.3g} operations "
        f"at {p['rate'] / 1e9:.2g} GFLOP/s of a plain loop; {p['times_floor']} times the floor.",
    ]
    lines += [
        "",
        f"A first visit, a processor {SLOWER} times slower, Fast 3G: kB for text and stills, kB more for figures; ms until painted, until the first figure answers",
    ]
    for r in sorted(receipt["arrivals"], key=lambda r: -r["answers_ms"]):
        lines.append(f"  {r['page']:26}{r['text'] / 1000:8.0f}{r['more'] / 1000:8.0f}{r['painted_ms']:8.0f}{r['answers_ms']:8.0f}")
    for window, rows in receipt["explorables"].items():
        lines += ["", f"{window}: milliseconds from input to drawing, median (slowest); of it the program, and the drawing"]
        for r in sorted(rows, key=lambda r: -r["answer_ms"]):
            parts = "".join(f"{r[f'{key}_ms']:8.1f} ({r[f'{key}_slowest_ms']:5.1f})" for key in ("answer", "program", "drawing"))
            lines.append(f"  {r['chapter']:26}{r['explorable']:26}{parts}")
    return "\n".join(lines)


def measure() -> dict:
    """Both tables; raises SystemExit where there is no site or no Chromium."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium or not (SITE / "index.html").exists():
        raise SystemExit("This needs the site and Chromium: make book; apt-get install chromium.")
    pages = sorted(path for path in (SITE / "book").glob("*.html") if "cml-explorable" in path.read_text(encoding="utf-8"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        found = {"arrivals": arrivals(browser, SITE, pages), "program": against_the_floor(browser.new_page()), "explorables": {}}
        for window, (width, height) in WINDOWS.items():
            page = browser.new_page(viewport={"width": width, "height": height})
            found["explorables"][window] = [row for path in pages for row in chapter(page, path)]
        versions = {"chromium": browser.version, "jax": jax.__version__}
        browser.close()
    return {"machine": device_in_words(), "date": date.today().isoformat(), "versions": versions} | found


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__.splitlines()[0])
    parser.add_argument("--receipt", action="store_true", help="keep the tables under benchmarks/receipts")
    args = parser.parse_args()
    receipt = measure()
    print(text(receipt))
    if args.receipt:
        table.keep(receipt, "page")


if __name__ == "__main__":
    main()
