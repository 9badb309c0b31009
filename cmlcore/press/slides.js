// Light or dark as the reader's system has it, before the first slide is drawn.
const dark = matchMedia("(prefers-color-scheme: dark)");
const paint = () => (document.documentElement.dataset.theme = dark.matches ? "dark" : "light");
paint();
dark.addEventListener("change", paint);

// What scrolls can be reached with the Tab key. A figure that was drawn while its slide was hidden has no width: it is told, as when a window changes.
function reach() {
  document.querySelectorAll(".reveal :is(pre, .cell_output, mjx-container[display], .slides section)").forEach((block) => {
    if (block.scrollWidth > block.clientWidth + 1 || block.scrollHeight > block.clientHeight + 1) block.tabIndex = 0;
    else block.removeAttribute("tabindex");
  });
}

addEventListener("load", async () => {
  addEventListener("resize", reach);
  Reveal.on("slidechanged", () => dispatchEvent(new Event("resize")));
  await window.MathJax?.startup?.promise;
  reach();
});
