// The theme's scroll spy looks for the page's contents under a name that they no longer have, falls back to every link of
// the page, and stumbles over links that carry a figure's settings. Show it the contents, or switch it off where there are none.
document.addEventListener("DOMContentLoaded", () => {
  const contents = "nav.page-toc, .bd-toc-nav";
  if (document.querySelector(contents)) document.body.dataset.bsTarget = contents;
  else delete document.body.dataset.bsSpy;
});

// A formula within a line that is longer than the line scrolls by itself, and is a stop of the Tab key then.
function fitFormulas() {
  document.querySelectorAll(".bd-article mjx-container:not([display])").forEach((formula) => {
    const line = formula.closest("p, li, dd");
    const wide = line && formula.querySelector("svg").getBoundingClientRect().width > line.clientWidth;
    formula.classList.toggle("wide", Boolean(wide));
    if (wide) formula.tabIndex = 0;
    else formula.removeAttribute("tabindex");
  });
}

/** TeX, cut where `cut` says so at its top level: outside of braces, of \\left ... \\right and of environments. */
function piecesOf(tex, cut) {
  const parts = [""];
  let depth = 0;
  for (const [token] of tex.matchAll(/\\begin\{\w+\*?\}|\\end\{\w+\*?\}|\\[a-zA-Z]+|\\.|[^]/g)) {
    if (depth === 0 && cut.before.test(token)) parts.push("");
    if (cut.open.test(token)) depth += 1;
    if (cut.close.test(token)) depth -= 1;
    parts[parts.length - 1] += token;
  }
  return parts;
}

const CLOSED = { open: /^([{([]|\\left|\\begin.*)$/, close: /^([})\]]|\\right|\\end.*)$/ };
const SPACES = { ...CLOSED, before: /^\\qquad$/ }, RELATIONS = { ...CLOSED, before: /^(=|\\leq?|\\approx|\\propto|\\Longrightarrow)$/ };
const SUMS = { ...CLOSED, before: /^[+-]$/ }, SUMS_IN_BRACKETS = { ...SUMS, open: /^(\{|\\left|\\begin.*)$/, close: /^(\}|\\right|\\end.*)$/ };

/** A displayed formula in more lines: at its wide spaces, then before its relations but the first, then before its sums, in brackets at last. */
function inLines(tex) {
  let inner = tex.trim();
  for (let last = null; last !== inner; ) inner = (last = inner).replace(/^\\begin\{(split|aligned|gathered)\}([^]*)\\end\{\1\}$/, "$2").trim();
  const columns = (row) => row.split("&").reduce((pairs, cell, k) => (k % 2 ? [...pairs.slice(0, -1), pairs.at(-1) + cell] : [...pairs, cell]), []);
  const rows = inner.split(/\\\\(?:\[[^\]]*\])?/).flatMap(columns).filter((row) => row.trim());
  const lines = rows.flatMap((row) => piecesOf(row, SPACES)).map((line) => line.replace(/^\s*\\qquad/, ""));
  const broken = [lines];
  broken.push(lines.flatMap((line) => {
    const [first = "", second = "", ...more] = piecesOf(line, RELATIONS);
    return [first + second, ...more.map((part) => `\\quad ${part}`)];
  }));
  for (const sums of [SUMS, SUMS_IN_BRACKETS])
    broken.push(broken[1].flatMap((line) => {
      const [first = "", ...more] = piecesOf(line, sums);
      const begins = first.trim() && !/[=<]\s*$/.test(first) ? first : first + (more.shift() ?? ""); // a sign alone is no term
      return [begins, ...more.map((part) => `\\qquad {}${part}`)];
    }));
  return broken.map((all) => `\\begin{aligned}${all.map((line) => `&${line}`).join("\\\\[0.4em]")}\\end{aligned}`);
}

/** On a phone a formula that is wider than its place is broken into lines; what is then still too wide is made smaller, to three fifths at most. */
function breakFormulas() {
  if (innerWidth > 576) return;
  for (const item of window.MathJax?.startup?.document?.math ?? []) {
    const formula = () => item.typesetRoot;
    const wide = () => formula().querySelector("svg").getBoundingClientRect().width / formula().clientWidth;
    if (!item.display || !formula()?.clientWidth || wide() <= 1 || formula().dataset.broken) continue;
    let tried = 0;
    for (const tex of /\\(tag|label|begin\{cases)/.test(item.math) ? [] : inLines(item.math)) {
      if (wide() <= [1, 1.12, 1.12, 1.6][tried]) break; // into a bracket only where nothing else helps
      item.math = tex;
      item.rerender(window.MathJax.startup.document, 20); // from its TeX on
      tried += 1;
    }
    formula().dataset.broken = "";
    if (wide() > 1) formula().style.fontSize = `${Math.max(Math.floor(97 / wide()), 60)}%`;
  }
}

// So is a piece of code or a table that is wider than its place; the theme looks at these only once, when the page is wide or folded.
function fitBlocks() {
  document.querySelectorAll(".bd-article pre, .bd-article .output, .pst-scrollable-table-container").forEach((block) => {
    if (block.scrollWidth > block.clientWidth) block.tabIndex = 0;
    else block.removeAttribute("tabindex");
  });
}

function fit() {
  breakFormulas();
  fitFormulas();
  fitBlocks();
}

// What a screen reader and a keyboard meet. A link around a formula is named by what the formula says; only formulas that may
// have to be scrolled are stops of the Tab key; an entry of the bibliography is an item of its list.
addEventListener("load", async () => {
  document.querySelectorAll(".citation-list > .citation").forEach((entry) => entry.setAttribute("role", "listitem"));
  await window.MathJax?.startup?.promise;
  fit();
  addEventListener("resize", fit);
  document.addEventListener("toggle", fit, true); // what was folded had no width
  document.querySelectorAll(".bd-article a:has(mjx-container)").forEach((link) => {
    if (link.textContent.trim() === link.querySelector("math").textContent.trim()) link.setAttribute("aria-label", link.textContent.trim());
  });
});
