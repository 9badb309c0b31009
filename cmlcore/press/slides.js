// Light or dark as the reader's system has it, before the first slide is drawn.
const dark = matchMedia("(prefers-color-scheme: dark)");
const paint = () => (document.documentElement.dataset.theme = dark.matches ? "dark" : "light");
paint();
dark.addEventListener("change", paint);

// What is too wide or too high for its slide becomes smaller, down to a size that a back row reads; only what is still too large scrolls, or is broken into lines.
const SMALLEST = 12; // pixels
function fit(slide) {
  const blocks = [...slide.querySelectorAll("table, .cell_input pre, .cell_output pre, .cml-lines")].filter((block) => !block.closest(".cml-explorable") && block.clientWidth);
  blocks.forEach((block) => (block.style.fontSize = block.style.whiteSpace = ""));
  slide.querySelectorAll(".cml-panel").forEach((panel) => (panel.style.maxWidth = ""));
  const sizes = new Map(blocks.map((block) => [block, parseFloat(getComputedStyle(block).fontSize)]));
  const wide = (block) => block.scrollWidth > block.clientWidth + 1;
  const high = (block) => slide.scrollHeight > slide.clientHeight + 1 && !block.matches(".cml-lines");
  for (let share = 0.95; share > 0.45; share -= 0.05)
    for (const block of blocks) if ((wide(block) || high(block)) && share * sizes.get(block) >= SMALLEST) block.style.fontSize = `${share * sizes.get(block)}px`;
  for (const block of blocks) if (block.matches(".cell_output pre") && wide(block)) block.style.whiteSpace = "pre-wrap";
  for (const panel of slide.querySelectorAll(".cml-panel")) {
    const room = 0.54 * innerHeight, plot = panel.querySelector(".cml-plot");
    if (plot?.clientHeight > room) panel.style.maxWidth = `${(plot.clientWidth * room) / plot.clientHeight}px`;
  }
}

// What scrolls can be reached with the Tab key. A figure that was drawn while its slide was hidden has no width: it is told, as when a window changes.
function reach() {
  fit(Reveal.getCurrentSlide());
  document.querySelectorAll(".reveal :is(pre, .cell_output, .cml-lines, .slides section)").forEach((block) => {
    if (block.scrollWidth > block.clientWidth + 1 || block.scrollHeight > block.clientHeight + 1) block.tabIndex = 0;
    else block.removeAttribute("tabindex");
  });
}

addEventListener("load", async () => {
  addEventListener("resize", reach);
  Reveal.on("slidechanged", () => dispatchEvent(new Event("resize")));
  await document.fonts.ready;
  reach();
});
