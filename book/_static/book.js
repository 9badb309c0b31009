// The theme's scroll spy looks for the page's contents under a name that they no longer have, falls back to every link of
// the page, and stumbles over links that carry a figure's settings. Show it the contents, or switch it off where there are none.
document.addEventListener("DOMContentLoaded", () => {
  const contents = "nav.page-toc, .bd-toc-nav";
  if (document.querySelector(contents)) document.body.dataset.bsTarget = contents;
  else delete document.body.dataset.bsSpy;
});

// A formula within a line that is longer than the line scrolls by itself, and is a stop of the Tab key then.
function fitFormulas() {
  document.querySelectorAll(".bd-article span.math").forEach((formula) => {
    const line = formula.closest("p, li, dd");
    const wide = line && formula.querySelector("math")?.getBoundingClientRect().width > line.clientWidth;
    formula.classList.toggle("wide", Boolean(wide));
    if (wide) formula.tabIndex = 0;
    else formula.removeAttribute("tabindex");
  });
}

/** A displayed formula breaks into lines; on a phone a part that is wider than its place is made smaller, to three fifths at most, and then scrolls. */
function fitDisplays() {
  document.querySelectorAll(".bd-article .cml-lines").forEach((lines) => {
    lines.style.fontSize = "";
    const wide = () => lines.scrollWidth / Math.max(lines.clientWidth, 1);
    if (lines.clientWidth && wide() > 1 && innerWidth <= 576) lines.style.fontSize = `${Math.max(Math.floor(97 / wide()), 60)}%`;
    if (lines.scrollWidth > lines.clientWidth + 1) lines.tabIndex = 0;
    else lines.removeAttribute("tabindex");
  });
}

// So is a piece of code or a table that is wider than its place; the theme looks at these only once, when the page is wide or folded.
function fitBlocks() {
  document.querySelectorAll(".bd-article pre, .bd-article .output, .pst-scrollable-table-container").forEach((block) => {
    if (block.scrollWidth > block.clientWidth) block.tabIndex = 0;
    else block.removeAttribute("tabindex");
  });
}

function fit() {
  fitDisplays();
  fitFormulas();
  fitBlocks();
}

// What a screen reader and a keyboard meet. A link around a formula is named by what the formula says; only formulas that have to be scrolled are stops
// of the Tab key; an entry of the bibliography is an item of its list.
addEventListener("load", async () => {
  document.querySelectorAll(".citation-list > .citation").forEach((entry) => entry.setAttribute("role", "listitem"));
  document.querySelectorAll(".bd-article a:has(math)").forEach((link) => {
    if (link.textContent.trim() === link.querySelector("math").textContent.trim()) link.setAttribute("aria-label", link.textContent.trim());
  });
  await document.fonts.ready;
  fit();
  addEventListener("resize", fit);
  document.addEventListener("toggle", fit, true); // what was folded had no width
});
