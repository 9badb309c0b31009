/* Drawings as a knob: the twin of strokes.py, and the pad on which a reader draws.
 *
 *   CMLStrokes.drawings(knob, text)   the 28 x 28 pixels of every drawing of a setting, ink 255; throws an Error that says what is wrong
 *   const pad = CMLStrokes.attach(box, knob, {text, put, chosen})
 *   pad.show(); pad.choose(place); pad.place()
 *
 * box: the element that strokes.py's knob became. text(): the setting now; put(text): another one. chosen(): another drawing lies on the pad.
 */
var CMLStrokes = (function () {
  "use strict";

  const PAPER = 105, SMALL = 28, PEN = 5;
  const LEAST = 1.5; // of a pointer's way on the paper, that makes a new point
  const LIVE = 150; // milliseconds between answers while a stroke is drawn

  // --- Texts and ink ----------------------------------------------------------------------------------------------------

  const pair = (value) => Math.min(Math.max(Math.round(value), 0), PAPER - 1).toString(36).padStart(2, "0");
  const written = (strokes) => strokes.map((stroke) => stroke.map(([x, y]) => pair(x) + pair(y)).join("")).join("-");

  function read(drawing) {
    return (drawing ? drawing.split("-") : []).map((text) => {
      if (!/^([0-9a-z]{4})+$/.test(text)) throw new Error(`“${text}” is no stroke: four signs a point, of 0 to 9 and a to z.`);
      const stroke = text.match(/..../g).map((point) => [parseInt(point.slice(0, 2), 36), parseInt(point.slice(2), 36)]);
      if (stroke.flat().some((value) => value >= PAPER)) throw new Error(`“${text}” leaves the paper, which ends at ${PAPER - 1}.`);
      return stroke;
    });
  }

  /** Which pixels a round pen leaves ink on, in whole numbers: those within half its width of a stroke. */
  function inked(strokes) {
    const ink = new Uint8Array(PAPER * PAPER), reach = (PEN + 1) >> 1;
    const mark = ([ax, ay], [bx, by]) => {
      const dx = bx - ax, dy = by - ay, length = dx * dx + dy * dy;
      const ends = (a, b) => [Math.max(Math.min(a, b) - reach, 0), Math.min(Math.max(a, b) + reach, PAPER - 1)];
      const [left, right] = ends(ax, bx), [top, bottom] = ends(ay, by);
      for (let y = top; y <= bottom; y++) for (let x = left; x <= right; x++) {
        const px = x - ax, py = y - ay, along = px * dx + py * dy, off = px * dy - py * dx;
        const near = Math.min(px * px + py * py, (x - bx) ** 2 + (y - by) ** 2);
        if (4 * near <= PEN * PEN || (along > 0 && along < length && 4 * off * off <= PEN * PEN * length)) ink[y * PAPER + x] = 1;
      }
    };
    for (const stroke of strokes) stroke.forEach((point, k) => (k || stroke.length === 1) && mark(stroke[Math.max(k - 1, 0)], point));
    return ink;
  }

  /** Pillow's bilinear filter, with 22 bits behind the point. */
  const WEIGHTS = Array.from({ length: SMALL }, (_, k) => {
    const scale = PAPER / SMALL, center = (k + 0.5) * scale;
    const low = Math.max(Math.trunc(center - scale + 0.5), 0), high = Math.min(Math.trunc(center + scale + 0.5), PAPER);
    const heights = Array.from({ length: high - low }, (_, i) => Math.max(1 - Math.abs((low + i - center + 0.5) * (1 / scale)), 0));
    const whole = heights.reduce((a, b) => a + b, 0);
    return [low, heights.map((height) => Math.trunc(0.5 + (height / whole) * 2 ** 22))];
  });

  /** `rows` of 105 pixels become rows of 28, turned: twice makes the picture upright again. */
  function half(pixels, rows) {
    const made = new Float64Array(SMALL * rows);
    for (let row = 0; row < rows; row++) WEIGHTS.forEach(([low, weights], k) => {
      let sum = 2 ** 21;
      for (let i = 0; i < weights.length; i++) sum += pixels[row * PAPER + low + i] * weights[i];
      made[k * rows + row] = Math.min(Math.max(Math.floor(sum / 2 ** 22), 0), 255);
    });
    return made;
  }

  function image(drawing) {
    const paper = Float64Array.from(inked(read(drawing)), (ink) => (ink ? 0 : 255));
    return half(half(paper, PAPER), SMALL).map((value) => 255 - value);
  }

  const kept = new Map(); // of a drawing's text: one changes, and twenty stay

  function drawings(knob, text) {
    const texts = text.split("~");
    if (texts.length !== knob.names.length) throw new Error(`${texts.length} drawings; ${knob.names.length} are needed, with ~ between them.`);
    if (kept.size > 500) kept.clear();
    return texts.map((drawing) => {
      if (!kept.has(drawing)) kept.set(drawing, image(drawing));
      return kept.get(drawing);
    });
  }

  /** A stroke with as few points as stay within 0.7 pixels of it (Ramer 1972, Douglas & Peucker 1973). */
  function simple(stroke) {
    if (stroke.length < 3) return stroke;
    const [[ax, ay], [bx, by]] = [stroke[0], stroke[stroke.length - 1]], length = Math.hypot(bx - ax, by - ay);
    const far = stroke.map(([x, y]) => (length ? Math.abs((x - ax) * (by - ay) - (y - ay) * (bx - ax)) / length : Math.hypot(x - ax, y - ay)));
    const most = far.indexOf(Math.max(...far));
    if (far[most] < 0.7) return [stroke[0], stroke[stroke.length - 1]];
    return [...simple(stroke.slice(0, most + 1)).slice(0, -1), ...simple(stroke.slice(most))];
  }

  if (typeof module === "object" && module.exports) module.exports = { drawings, image, read, simple, written };
  if (typeof document === "undefined") return null;

  // --- The pad ----------------------------------------------------------------------------------------------------------

  function attach(box, knob, { text, put, chosen }) {
    const pad = box.querySelector(".cml-pad"), trace = pad.querySelector("path"), list = box.querySelector("select");
    const last = knob.names.length - 1;
    let place = last, stroke = null;

    const all = () => text().split("~");
    const now = () => (all()[place] ? all()[place].split("-") : []);

    function change(strokes) {
      const texts = all();
      texts[place] = strokes.join("-");
      put(texts.join("~"));
    }

    function choose(k) {
      place = k;
      show();
      chosen();
    }

    /** The pad shows the chosen drawing, and the buttons what they can do. */
    function show() {
      const lines = [...(stroke ? stroke.before : now()).map((one) => read(one)[0]), ...(stroke ? [stroke.points] : [])];
      trace.setAttribute("d", lines.map((points) => `M${points.map(([x, y]) => `${x} ${y}`).join("L")}${points.length === 1 ? "h0" : ""}`).join(""));
      list.selectedIndex = place;
      pad.setAttribute("aria-label", `Paper for ${knob.names[place]}, ${now().length ? "drawn" : "empty"}`);
      box.querySelector('[data-do="back"]').setAttribute("aria-disabled", !now().length);
    }

    const actions = {
      next: () => choose(place === last ? 0 : place === knob.first - 1 || place === last - 1 ? last : place + 1),
      back: () => change(now().slice(0, -1)),
      empty() {
        put(knob.empty);
        choose(0);
      },
    };

    box.addEventListener("click", ({ target }) => {
      const { do: wanted, offer } = target.dataset;
      if (wanted) actions[wanted]();
      if (offer) {
        const records = knob.offers[offer].map((k) => knob.values[k]);
        put(records[(records.indexOf(text()) + 1) % records.length]);
        choose(last);
      }
    });
    list.addEventListener("change", () => choose(list.selectedIndex));

    function at(event) {
      const frame = pad.getBoundingClientRect(), inside = (share) => Math.min(Math.max(share * PAPER, 2), PAPER - 3);
      return [inside((event.clientX - frame.left) / frame.width), inside((event.clientY - frame.top) / frame.height)];
    }

    pad.addEventListener("pointerdown", (event) => {
      if (event.button || stroke) return;
      pad.setPointerCapture(event.pointerId);
      event.preventDefault();
      stroke = { id: event.pointerId, points: [at(event)], before: now(), told: performance.now() };
      show();
    });
    pad.addEventListener("pointermove", (event) => {
      if (!stroke || event.pointerId !== stroke.id) return;
      for (const each of event.getCoalescedEvents?.() ?? [event]) {
        const point = at(each), from = stroke.points[stroke.points.length - 1];
        if (Math.hypot(point[0] - from[0], point[1] - from[1]) >= LEAST) stroke.points.push(point);
      }
      if (performance.now() - stroke.told < LIVE) return show();
      stroke.told = performance.now();
      tell();
    });
    /** Everybody learns of the stroke as it is now. */
    const tell = () => change([...stroke.before, written([simple(stroke.points)])]);
    const end = (event) => {
      if (!stroke || event.pointerId !== stroke.id) return;
      tell();
      stroke = null;
      show();
    };
    pad.addEventListener("pointerup", end);
    pad.addEventListener("pointercancel", end);
    return { show, choose, place: () => place };
  }

  return { attach, drawings };
})();
