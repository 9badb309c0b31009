// The theme's scroll spy looks for the page's contents under a name that they no longer have, falls back to every link of
// the page, and stumbles over links that carry a figure's settings. Show it the contents, or switch it off where there are none.
document.addEventListener("DOMContentLoaded", () => {
  const contents = "nav.page-toc, .bd-toc-nav";
  if (document.querySelector(contents)) document.body.dataset.bsTarget = contents;
  else delete document.body.dataset.bsSpy;
});

// What a screen reader and a keyboard meet. A link around a formula is named by what the formula says; only formulas that may
// have to be scrolled are stops of the Tab key; an entry of the bibliography is an item of its list.
addEventListener("load", async () => {
  document.querySelectorAll(".citation-list > .citation").forEach((entry) => entry.setAttribute("role", "listitem"));
  await window.MathJax?.startup?.promise;
  document.querySelectorAll("mjx-container[tabindex]:not([display])").forEach((formula) => formula.removeAttribute("tabindex"));
  document.querySelectorAll(".bd-article a:has(mjx-container)").forEach((link) => {
    if (link.textContent.trim() === link.querySelector("math").textContent.trim()) link.setAttribute("aria-label", link.textContent.trim());
  });
});
