// The theme's scroll spy looks for the page's contents under a name that they no longer have, falls back to every link of
// the page, and stumbles over links that carry a figure's settings. Show it the contents, or switch it off where there are none.
document.addEventListener("DOMContentLoaded", () => {
  const contents = "nav.page-toc, .bd-toc-nav";
  if (document.querySelector(contents)) document.body.dataset.bsTarget = contents;
  else delete document.body.dataset.bsSpy;
});
