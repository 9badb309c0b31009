/* Draws a panel as SVG: the twin of picture.py, from the same plain data (drawing.py), at the size that the page gives it.
 *
 *   const sheet = CMLDraw.sheet(plot, panel, words);   // words: {tell(parts, scope), show(number)}, texts as page.js makes them
 *   sheet.draw(scope, width, height, direct);          // direct: {labels}: which stand beside their marks (label.js); filled here, once
 *   sheet.still(scope, width, height);                 // the same drawing as a text, with the margins of a picture: for whoever compares
 *
 * scope: outputs and knobs by name, flat arrays and numbers; scope.shapes, of the outputs. Whatever did not change is not drawn again, so
 * a move costs what it moves. A heat map is a canvas below the SVG: a picture of it would have to be loaded first. Pointing at a mark
 * reads its numbers off.
 */
var CMLDraw = (function () {
  "use strict";

  const numbers = (text) => text.split(" ").map(Number);

  /** What a mark places: outputs, knobs and constants, one after the other. */
  const along = (references, scope) => references.flatMap((ref) => (typeof ref === "string" ? scope[ref] : numbers(ref[0])));

  function rows(reference, scope) {
    if (Array.isArray(reference)) return reference[0].split(";").map(numbers);
    const flat = scope[reference], [n, m] = scope.shapes[reference];
    return Array.from({ length: n }, (_, i) => flat.slice(i * m, (i + 1) * m));
  }

  /** A coordinate at a tenth of a pixel. */
  const n = (value) => Math.round(value * 10) / 10 + 0;
  const escaped = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const inkOf = ({ color }) => (color === "ink" ? "currentColor" : color);
  const clip = (value, low, high) => Math.min(Math.max(value, low), high);

  // --- Where the plot stands, and the maps from data to pixels ---------------------------------------------------------

  /** A plot that is drawn with less around it: its titles are smaller, and the upright one, which may be too long for it, lies above. */
  const isSmall = (panel, width, height) => width < 260 || height < 190 || panel.y.title.length * 7 > height - 56;

  /** Data to pixels, along one axis. What does not fit a log axis goes far outside. */
  function scale({ range, log }, start, end) {
    const move = log ? (value) => Math.log10(Math.max(value, 1e-300)) : Number;
    const [first, last] = range.map(move);
    return (value) => clip(start + ((move(value) - first) / (last - first)) * (end - start), -9999, 9999);
  }

  function frame(panel, width, height, small) {
    const bare = ({ title, ticks }) => !title && !ticks.length;
    const margin = small
      ? { l: bare(panel.y) ? 6 : 40, r: 8, t: panel.y.title ? 19 : 8, b: bare(panel.x) ? 6 : panel.x.title ? 34 : 22 }
      : { l: bare(panel.y) ? 14 : 56, r: 14, t: 10, b: bare(panel.x) ? 10 : 46 };
    const f = { width, height, small, left: margin.l, right: width - margin.r, top: margin.t, bottom: height - margin.b };
    if (panel.square) {
      const [wide, high] = [panel.x, panel.y].map(({ range }) => Math.abs(range[1] - range[0]));
      const unit = Math.min((f.right - f.left) / wide, (f.bottom - f.top) / high);
      const spareX = (f.right - f.left - unit * wide) / 2, spareY = (f.bottom - f.top - unit * high) / 2;
      Object.assign(f, { left: f.left + spareX, right: f.right - spareX, top: f.top + spareY, bottom: f.bottom - spareY });
    }
    return Object.assign(f, { upright: panel.y, x: scale(panel.x, f.left, f.right), y: scale(panel.y, f.bottom, f.top) });
  }

  // --- Axes -------------------------------------------------------------------------------------------------------------

  /** Every mark of an axis that has room for its text, or every second one, or every third ... */
  function spaced(ticks, length) {
    const widest = Math.max(...ticks.map(([, text]) => text.length)) * 7 + 8;
    const every = Math.max(1, Math.ceil((ticks.length * widest) / length));
    return ticks.filter((_, k) => k % every === 0);
  }

  function axes(panel, f) {
    const line = (d) => `<path d="${d}" stroke="currentColor" opacity=".13"/>`;
    const text = (x, y, anchor, words) => `<text x="${n(x)}" y="${n(y)}" text-anchor="${anchor}" fill="currentColor" opacity=".8">${words}</text>`;
    const across = spaced(panel.x.ticks, f.right - f.left).map(([tick, words]) =>
      line(`M${n(f.x(tick))} ${n(f.top)}V${n(f.bottom)}`) + text(f.x(tick), f.bottom + (f.small ? 13 : 16), "middle", words));
    const up = panel.y.ticks.map(([tick, words]) =>
      line(`M${n(f.left)} ${n(f.y(tick))}H${n(f.right)}`) + text(f.left - (f.small ? 5 : 7), f.y(tick) + 4, "end", words));
    return [...across, ...up].join("");
  }

  // --- Marks ------------------------------------------------------------------------------------------------------------

  /** On a log axis a line that lies along the end of the range has been clamped there: it leaves the picture instead. */
  function leaving(values, { range, log }) {
    if (!log) return values;
    const [first, last] = range.map(Math.log10).sort((a, b) => a - b), room = ((last - first) * 0.03) / 1.06;
    const ends = [[10 ** (first + room), 1e-9], [10 ** (last - room), 1e9]];
    const same = (value, end) => Math.abs(value / end - 1) < 1e-4;
    return values.map((value, k) => {
      const found = ends.find(([end]) => same(value, end) && (same(values[k - 1], end) || same(values[k + 1], end)));
      return found ? value * found[1] : value;
    });
  }

  const trail = (xs, ys) => xs.map((x, k) => `${n(x)} ${n(ys[k])}`).join(" ");

  function head(mark, [x0, x], [y0, y]) {
    if (Math.hypot(x - x0, y - y0) < 1) return "";
    const turn = (Math.atan2(y - y0, x - x0) * 180) / Math.PI;
    return `<path transform="translate(${n(x)} ${n(y)}) rotate(${n(turn)})" d="M0 0L-9 4.5V-4.5Z" fill="${inkOf(mark)}"/>`;
  }

  /** Left, top, right and bottom of a bar. */
  function bar(mark, x, y, f) {
    const ground = clip(f.y(0), f.top, f.bottom), end = f.y(y);
    return [f.x(x - mark.width / 2), Math.min(end, ground), f.x(x + mark.width / 2), Math.max(end, ground)];
  }

  const RENDER = {
    path(mark, scope, f) {
      const xs = along(mark.x, scope).map(f.x), ys = leaving(along(mark.y, scope), f.upright).map(f.y);
      const dash = mark.dash ? ' stroke-dasharray="6 4"' : "";
      const line = `<path d="M${trail(xs, ys)}" fill="none" stroke="${inkOf(mark)}" stroke-width="${mark.width}" stroke-linejoin="round"${dash}/>`;
      return mark.arrow ? line + head(mark, xs, ys) : line;
    },
    points(mark, scope, f) {
      const ys = along(mark.y, scope);
      return along(mark.x, scope).map((x, k) => `<circle cx="${n(f.x(x))}" cy="${n(f.y(ys[k]))}" r="${n(mark.size / 2)}" fill="${inkOf(mark)}"/>`).join("");
    },
    area(mark, scope, f) {
      const [x, low, high] = [mark.x, mark.y, mark.upper].map((refs) => along(refs, scope));
      const line = trail([...x, ...x.slice().reverse()].map(f.x), [...low, ...high.slice().reverse()].map(f.y));
      return `<path d="M${line}Z" fill="${inkOf(mark)}" opacity=".22"/>`;
    },
    bars(mark, scope, f) {
      const ys = along(mark.y, scope);
      return along(mark.x, scope).map((x, k) => {
        const [left, top, right, bottom] = bar(mark, x, ys[k], f);
        return `<rect x="${n(left)}" y="${n(top)}" width="${n(right - left)}" height="${n(bottom - top)}" fill="${inkOf(mark)}"/>`;
      }).join("");
    },
    text(mark, scope, f, words) {
      const [[x], [y]] = [mark.x, mark.y].map((refs) => along(refs, scope));
      const told = escaped(words.tell(mark.say, scope.words));
      return `<text x="${n(f.x(x))}" y="${n(f.y(y) + 4)}" text-anchor="${mark.anchor}" fill="${inkOf(mark)}">${told}</text>`;
    },
  };

  const drawnMarks = (panel) => panel.marks.filter(({ kind }) => RENDER[kind]);

  // --- Heat maps --------------------------------------------------------------------------------------------------------

  /** Where a heat map of so many rows and columns lies: left, top, width, height. */
  function spread(count, columns, f) {
    const [left, right] = [f.x(-0.5), f.x(columns - 0.5)].sort((a, b) => a - b), [top, bottom] = [f.y(-0.5), f.y(count - 0.5)].sort((a, b) => a - b);
    return [left, top, right - left, bottom - top];
  }

  /** Values to bytes along the three colors of the scale, four a pixel. */
  function shades({ scale: colors, low, high }, z) {
    const stops = colors.map((color) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16)));
    return Uint8ClampedArray.from(z.flat().flatMap((value) => {
      const place = 2 * clip((value - low) / (high - low), 0, 1), from = stops[place < 1 ? 0 : 1], to = stops[place < 1 ? 1 : 2];
      return [...from.map((byte, c) => byte + (place - (place < 1 ? 0 : 1)) * (to[c] - byte)), 255];
    }));
  }

  function paint(canvas, mark, z, f) {
    const [left, top, width, height] = spread(z.length, z[0].length, f);
    Object.assign(canvas, { width: z[0].length, height: z.length });
    const beyond = [f.top - top, left + width - f.right, top + height - f.bottom, f.left - left]; // of the plot, where an axis ends before the map does
    const clipPath = `inset(${beyond.map((far) => `${Math.max(far, 0)}px`).join(" ")})`;
    Object.assign(canvas.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px`, clipPath });
    canvas.getContext("2d").putImageData(new ImageData(shades(mark, z), z[0].length, z.length), 0, 0);
  }

  // --- Labels beside their marks ------------------------------------------------------------------------------------------

  function labels(panel, scope, f, direct) {
    const marks = panel.marks.filter(({ kind }) => RENDER[kind] && kind !== "text")
      .map((mark) => ({ kind: mark.kind, label: mark.label, ink: inkOf(mark), x: along(mark.x, scope), y: along(mark.y, scope) }));
    if (!globalThis.CMLLabel || f.width < 190 || !marks.some(({ label }) => label)) return "";
    const inside = [f.right - f.left, f.bottom - f.top];
    if (!direct.labels) direct.labels = Object.keys(CMLLabel.place(panel, marks, ...inside));
    const places = CMLLabel.place(panel, marks, ...inside, direct.labels);
    return Object.entries(places).map(([label, [x, y]]) => {
      const { ink } = marks.find((mark) => mark.label === label);
      return `<text x="${n(f.x(x))}" y="${n(f.y(y) + 4)}" text-anchor="middle" fill="${ink}">${escaped(label)}</text>`;
    }).join("");
  }

  // --- Reading off --------------------------------------------------------------------------------------------------------

  const NEAR = 24; // pixels from a mark to the pointer that reads it

  /** What lies nearest to a place in pixels: where it is, and its numbers as a text; null where nothing is near. */
  function read(panel, scope, f, words, left, top) {
    let best = { far: NEAR };
    const take = (far, x, y, text) => far < best.far && (best = { far, x, y, text });
    for (const mark of panel.marks) {
      if (mark.kind === "image") {
        const z = rows(mark.z[0], scope), [x, y, width, height] = spread(z.length, z[0].length, f);
        const column = Math.floor(((left - x) / width) * z[0].length), row = Math.floor(((top - y) / height) * z.length);
        if (z[row]?.[column] !== undefined) take(NEAR / 2, left, top, words.show(z[row][column]));
      }
      if (!["path", "points", "bars"].includes(mark.kind)) continue;
      const ys = along(mark.y, scope);
      along(mark.x, scope).forEach((x, k) => {
        const [across, up] = [f.x(x), f.y(ys[k])];
        if (across < f.left - 1 || across > f.right + 1 || up < f.top - 1 || up > f.bottom + 1) return;
        const box = mark.kind === "bars" ? bar(mark, x, ys[k], f) : null;
        const within = box && left >= box[0] && left <= box[2] && top >= box[1] && top <= box[3];
        take(within ? 0 : Math.hypot(across - left, up - top), across, up, `${words.show(x)}, ${words.show(ys[k])}`);
      });
    }
    return best.text ? best : null;
  }

  // --- A sheet: what is drawn for one panel ---------------------------------------------------------------------------------

  const SVG = "http://www.w3.org/2000/svg";

  function make(tag, attributes, ...children) {
    const made = document.createElementNS(SVG, tag);
    Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
    made.append(...children);
    return made;
  }

  function sheet(plot, panel, words) {
    const marks = drawnMarks(panel), image = panel.marks.find(({ kind }) => kind === "image");
    const layers = marks.map(() => make("g", {}));
    const ground = make("g", { class: "cml-axes" }), inside = make("svg", { class: "cml-marks" }, ...layers), named = make("g", { class: "cml-labels", "font-size": 12 });
    const field = make("rect", { class: "cml-field", fill: "none", "pointer-events": "all" });
    const svg = make("svg", { "aria-hidden": "true", "font-family": "system-ui, sans-serif" }, ground, inside, named, field);
    const canvas = image && Object.assign(document.createElement("canvas"), { className: "cml-heat" });
    const reading = Object.assign(document.createElement("div"), { className: "cml-reading", hidden: true });
    const shown = new Map(), placed = new Map(); // what each element shows, and where it stands, as texts
    let now = null;
    plot.append(...(canvas ? [canvas] : []), svg, reading);

    function put(element, text) {
      if (shown.get(element) === text) return;
      shown.set(element, text);
      element.innerHTML = text;
    }

    function place(element, attributes) {
      const text = JSON.stringify(attributes);
      if (placed.get(element) === text) return;
      placed.set(element, text);
      Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
    }

    function draw(scope, width, height, direct) {
      const small = isSmall(panel, width, height), f = frame(panel, width, height, small);
      const box = { x: n(f.left), y: n(f.top), width: n(f.right - f.left), height: n(f.bottom - f.top) };
      place(svg, { width, height, viewBox: `0 0 ${width} ${height}`, "font-size": small ? 10 : 12 });
      place(inside, { ...box, viewBox: Object.values(box).join(" ") });
      place(field, box);
      put(ground, axes(panel, f));
      marks.forEach((mark, k) => put(layers[k], RENDER[mark.kind](mark, scope, f, words)));
      put(named, labels(panel, scope, f, direct));
      if (image) paint(canvas, image, rows(image.z[0], scope), f);
      plot.parentElement.classList.toggle("cml-small", small);
      reading.hidden = true;
      now = { scope, f };
    }

    function point({ clientX, clientY, buttons, pointerType }) {
      const corner = plot.getBoundingClientRect();
      const free = pointerType === "touch" ? !plot.parentElement.classList.contains("cml-held") : !buttons; // else it moves something
      const found = now && free && read(panel, now.scope, now.f, words, clientX - corner.left, clientY - corner.top);
      reading.hidden = !found;
      if (!found) return;
      reading.textContent = found.text;
      const left = clip(found.x - reading.offsetWidth / 2, 0, Math.max(now.f.width - reading.offsetWidth, 0));
      const above = found.y - reading.offsetHeight - 10;
      Object.assign(reading.style, { left: `${left}px`, top: `${above < 0 ? found.y + 10 : above}px` });
    }

    plot.addEventListener("pointermove", point);
    plot.addEventListener("pointerdown", point);
    ["pointerleave", "pointercancel"].forEach((name) => plot.addEventListener(name, () => (reading.hidden = true)));

    function still(scope, width, height) {
      const f = frame(panel, width, height, false);
      return axes(panel, f) + marks.map((mark) => RENDER[mark.kind](mark, scope, f, words)).join("");
    }

    return { draw, still };
  }

  return { sheet, along };
})();
