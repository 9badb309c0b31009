/* Words beside the marks they name, where there is room for them; what has none stays in the key above the panel.
 *
 *   CMLLabel.place(panel, marks, width, height, wanted)   // -> {label: [x, y]}: the middle of the text, in the panel's own values
 *
 * marks: [{kind, label, x, y}] with numbers; width, height: of the plot's inside, in pixels; wanted: the labels that must get a
 * place, though the curves have moved on since (the least bad one), or null: those that get one lie free.
 */
var CMLLabel = (function () {
  "use strict";

  const SIZE = { letter: 6.6, line: 15, gap: 5 }; // pixels of a text
  const SHARES = [0.97, 0.85, 0.7, 0.55, 0.4, 0.25, 0.1];

  function scale({ range, log }, length) {
    const map = log ? Math.log10 : Number;
    const [first, last] = range.map(map);
    return (value) => (length * (map(value) - first)) / (last - first);
  }

  /** What lies at a share of an axis. */
  function back({ range, log }, share) {
    const [first, last] = range.map(log ? Math.log10 : Number);
    const value = first + share * (last - first);
    return log ? 10 ** value : value;
  }

  /** The points of a mark in pixels, and for a line those between, so that none passes under a text unseen. */
  function trail({ kind, x, y }, across, up) {
    const points = x.map((value, k) => [across(value), up(y[k])]).filter((point) => point.every(Number.isFinite));
    const around = [[0, 0], [-7, 0], [7, 0], [0, -7], [0, 7]]; // a dot has a width, a bar has more
    if (kind !== "path") return points.flatMap(([left, top]) => around.map(([dx, dy]) => [left + dx, top + dy]));
    return points.flatMap((point, k) => {
      const next = points[k + 1] ?? point, steps = Math.min(Math.ceil(Math.hypot(next[0] - point[0], next[1] - point[1]) / 5), 200);
      return steps ? Array.from({ length: steps }, (_, s) => point.map((value, axis) => value + ((next[axis] - value) * s) / steps)) : [point];
    });
  }

  const inside = ([x, y], [left, top, right, bottom]) => x > left && x < right && y > top && y < bottom;
  const meet = (a, b) => a[0] < b[2] + 8 && b[0] < a[2] + 8 && a[1] < b[3] && b[1] < a[3];

  function place(panel, marks, width, height, wanted = null) {
    const across = scale(panel.x, width), rise = scale(panel.y, height), up = (value) => height - rise(value);
    const trails = marks.map((mark) => trail(mark, across, up));
    const placed = {}, boxes = [];
    for (const [k, { label, x, y }] of marks.entries()) {
      if (!label || label in placed || (wanted && !wanted.includes(label))) continue;
      const wide = label.length * SIZE.letter, own = trails[k].filter(([left, top]) => left >= 0 && left <= width && top >= 0 && top <= height);
      let best = null;
      for (const share of own.length ? SHARES : [])
        for (const side of [-1, 1])
          for (const shift of [-1, -0.5, 0]) {
            const at = own[Math.round(share * (own.length - 1))];
            const left = at[0] + shift * wide + (shift === 0 ? SIZE.gap : shift === -1 ? -SIZE.gap : 0);
            const top = side < 0 ? at[1] - SIZE.gap - SIZE.line : at[1] + SIZE.gap;
            const box = [left, top, left + wide, top + SIZE.line];
            if (left < 0 || box[2] > width || top < 0 || box[3] > height) continue;
            const cost = trails.reduce((sum, points) => sum + points.filter((point) => inside(point, box)).length, 0) + 50 * boxes.filter((other) => meet(box, other)).length;
            if (!best || cost < best.cost) best = { cost, box };
          }
      if (!best || (!wanted && best.cost)) continue;
      boxes.push(best.box);
      const [left, top, right, bottom] = best.box;
      placed[label] = [back(panel.x, (left + right) / 2 / width), back(panel.y, 1 - (top + bottom) / 2 / height)];
    }
    return placed;
  }

  return { place };
})();
