/* How fast a page can multiply and add at best, for a text that sets a time beside its floor: data-cml-floor="operations". */
var CMLFloor = (function () {
  "use strict";

  const LENGTH = 1024, TIMES = 2000;
  let best = 0; // operations a second

  /** Products of arrays that stay in the fastest cache, into eight sums that do not wait for one another. */
  function products(a, b) {
    let s = 0, t = 0, u = 0, v = 0, w = 0, x = 0, y = 0, z = 0;
    for (let k = 0; k < LENGTH; k += 8) {
      s += a[k] * b[k]; t += a[k + 1] * b[k + 1]; u += a[k + 2] * b[k + 2]; v += a[k + 3] * b[k + 3];
      w += a[k + 4] * b[k + 4]; x += a[k + 5] * b[k + 5]; y += a[k + 6] * b[k + 6]; z += a[k + 7] * b[k + 7];
    }
    return s + t + u + v + w + x + y + z;
  }

  function rate() {
    const [a, b] = [1, 2].map((seed) => Float32Array.from({ length: LENGTH }, (_, k) => Math.sin(seed * k)));
    let sum = 0;
    for (let round = 0; round < 12; round++) {
      const start = performance.now();
      for (let k = 0; k < TIMES; k++) sum += products(a, b);
      best = Math.max(best, (2 * LENGTH * TIMES) / (performance.now() - start + 0.05) * 1000);
    }
    return Number.isFinite(sum) && best;
  }

  /** Writes the least time of each text's operations, once this page has answered. */
  function write(show) {
    document.querySelectorAll("[data-cml-floor]").forEach((place) => {
      place.textContent = `${show((1000 * place.dataset.cmlFloor) / (best || rate()), "g", 2)}\u00a0ms`;
    });
  }

  return { write };
})();
