/* Brings the explorables of a page to life (`render_html` in page.py writes them): no kernel, no network, no eval.
 *
 * Settings come from native controls or from the link (#beta=0.1, with several explorables on a page #two-bowls.beta=0.1);
 * a source (a grid recorded beforehand, or the traced program in a Worker) answers with outputs; the drawing (draw.js),
 * the sentence and the table follow. A figure begins to compute when it comes near the view.
 */
(function () {
  "use strict";

  // --- The sentence: the twin of say.py -------------------------------------------------------------------------------

  const SUPERSCRIPT = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
  const strip = (text) => (text.includes(".") ? text.replace(/0+$/, "").replace(/\.$/, "") : text);
  const roundTo = (value, digits) => Number(value.toPrecision(digits));

  function fixed(value, digits) {
    const text = value.toFixed(digits);
    return /[1-9]/.test(text) ? text.replace("-", "−") : text.replace("-", "");
  }

  function significant(value, digits) {
    digits = Math.max(digits, 1);
    const rounded = roundTo(value, digits);
    if (rounded === 0) return "0";
    const [mantissa, size] = rounded.toExponential(digits - 1).split("e").map((part, k) => (k ? Number(part) : part));
    if (size >= -4 && size < 6) return strip(fixed(rounded, Math.max(digits - 1 - size, 0)));
    return `${strip(mantissa)} × 10`.replace("-", "−") + String(size).replace(/./g, (c) => SUPERSCRIPT[c]);
  }

  function show(value, kind = "", digits = 0) {
    if (typeof value === "string") return value;
    if (!Number.isFinite(value)) return "not finite";
    if (kind === "%") return fixed(value * 100, digits) + "\u00a0%";
    if (kind === "f") return fixed(value, digits);
    if (kind === "" && Number.isInteger(value) && Math.abs(value) < 1e6) return fixed(value, 0);
    return significant(value, kind ? digits : 3);
  }

  const SIGNS = {
    "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b,
    "==": (a, b) => a === b, "!=": (a, b) => a !== b,
  };

  function holds([left, sign, right], scope) {
    if (!sign) return scope[left] !== 0;
    return SIGNS[sign](scope[left], Array.isArray(right) ? right[0] : typeof right === "string" ? scope[right] : right);
  }

  const tell = (parts, scope) =>
    parts.map((part) => {
      if (typeof part === "string") return part;
      if (part[0] === "=") return show(scope[part[1]], part[2], part[3]);
      const branch = part[1].find(([condition]) => holds(condition, scope));
      return tell(branch ? branch[1] : part[2], scope);
    }).join("");

  /** Begun with a capital where it begins with a word: a choice's own text may come first. */
  const sentenceOf = (parts, scope) => tell(parts, scope).replace(/^[a-z](?=[a-z-])/, (letter) => letter.toUpperCase());

  if (typeof module === "object" && module.exports) {
    module.exports = { show, tell };
    return;
  }

  // --- Knobs: a Choice has texts as values, Turns and Points have records, of which those that a reader makes are added as they come --

  const isChoice = (knob) => typeof knob.values[0] === "string" && !knob.moves && !knob.offers;
  const isStrokes = (knob) => Boolean(knob.names);

  /** The place of a record among the values of Turns or Points, or -1 for what is none. */
  function placeOf(knob, record) {
    if (isStrokes(knob)) {
      try {
        CMLStrokes.drawings(knob, record);
      } catch {
        return -1;
      }
    } else if (knob.offers) {
      try {
        record = recordOf(knob, pairsOf(knob, record));
      } catch {
        return -1;
      }
    } else {
      const known = (sign) => sign >= "0" && parseInt(sign, 36) < knob.moves.length;
      if (record.length > knob.count || ![...record].every(known)) return -1;
    }
    const place = knob.values.indexOf(record);
    return place < 0 ? knob.values.push(record) - 1 : place;
  }

  /** What the program gets for a record: its moves, then -1. */
  const moves = (knob, place) => Array.from({ length: knob.count }, (_, t) => (t < knob.values[place].length ? parseInt(knob.values[place][t], 36) : -1));

  /** The pairs of Points that a text holds: a setting, or pasted lines. Throws an Error that says which line is wrong: the twin of touch.py. */
  function pairsOf(knob, text) {
    const rows = text.split(/[~;\n]/).filter((row) => row.trim()), first = knob.values[knob.start].split("~").map((row) => row.split("_").map(Number));
    const pairs = rows.map((row, k) => {
      const parts = row.trim().split(/[_,\s]+/), pair = parts.map((part) => Math.round(100 * Number(part)) / 100 + 0);
      if (pair.length !== 2 || parts.includes("") || !pair.every(Number.isFinite)) throw new Error(`line ${k + 1}, “${row.trim()}”: write two numbers, x, y.`);
      ["x", "y"].forEach((name, axis) => {
        const [low, high] = knob[name];
        if (pair[axis] < low || pair[axis] > high) throw new Error(`line ${k + 1}: ${name} = ${pair[axis]} is outside ${low} to ${high}.`);
      });
      return pair;
    });
    if (pairs.length !== first.length) throw new Error(`${pairs.length} points; ${first.length} are needed, one on a line.`);
    if (knob.level && pairs.some(([x], k) => x !== first[k][0])) throw new Error("every x stays as it is; the heights alone change.");
    return pairs;
  }

  /** Pairs as the text of a setting, kept inside of what the knob allows. */
  function recordOf(knob, pairs) {
    const tidy = (value, [low, high]) => Math.round(100 * Math.min(Math.max(value, low), high)) / 100 + 0;
    return pairs.map(([x, y]) => `${tidy(x, knob.x)}_${tidy(y, knob.y)}`).join("~");
  }

  // --- Sources: settings in, outputs {name: {shape, data}} out --------------------------------------------------------

  const numbers = (text) => text.split(" ").map(Number);
  const product = (list) => list.reduce((a, b) => a * b, 1);

  /** Every setting was recorded: look it up. */
  function gridSource({ values }, knobs) {
    const stored = Object.entries(values).map(([name, { shape, follows, data }]) => [name, shape, follows, numbers(data)]);
    return (indices, done) => {
      const outputs = {};
      for (const [name, shape, follows, data] of stored) {
        const place = follows.reduce((at, k) => at * knobs[k].options.length + indices[k], 0), size = product(shape);
        outputs[name] = { shape, data: data.slice(place * size, (place + 1) * size) };
      }
      done(outputs);
    };
  }

  /** The traced program runs in a Worker, so that no slider stutters. While it works only the newest question waits. */
  function programSource({ program }, knobs, failed) {
    const given = (knob, place) => (knob.moves ? moves(knob, place) : isStrokes(knob) ? CMLStrokes.drawings(knob, knob.values[place]) : knob.offers ? pairsOf(knob, knob.values[place]) : isChoice(knob) ? place : knob.values[place]);
    const inputs = (indices) => Object.fromEntries(knobs.map((knob, k) => [knob.name, given(knob, indices[k])]));
    const ask = workerFor(program) || hereFor(program);
    let busy = false, waiting = null;
    return function question(indices, done) {
      if (busy) return void (waiting = [indices, done]);
      busy = true;
      ask(inputs(indices), (problem, outputs, milliseconds) => {
        busy = false;
        if (problem) failed(problem);
        else done(outputs, milliseconds);
        const next = waiting;
        waiting = null;
        if (next) question(...next);
      });
    };
  }

  function workerFor(program) {
    let worker, answer, answered = false, here = null, last = null;
    const work = `${CMLProgram.source}
      let program = null, run = null;
      onmessage = ({ data }) => {
        if (data.program) return void (program = data.program);
        try {
          run = run || CMLProgram.compile(program);
          const start = performance.now(), outputs = run(data.inputs);
          postMessage({ outputs, milliseconds: performance.now() - start });
        } catch (problem) { postMessage({ problem: String(problem.message || problem) }); }
      };`;
    try {
      // A page opened as a file cannot load a worker's file; a Blob it can.
      worker = new Worker(URL.createObjectURL(new Blob([work], { type: "text/javascript" })));
    } catch {
      return null;
    }
    worker.onmessage = ({ data }) => {
      answered = true;
      answer(data.problem, data.outputs, data.milliseconds);
    };
    worker.onerror = (event) => {
      // A security policy may forbid the worker after it was made: compute here.
      event.preventDefault();
      if (answered) return answer(event.message || "the worker stopped");
      here = hereFor(program);
      here(last, answer);
    };
    worker.postMessage({ program });
    return (inputs, done) => {
      if (here) return here(inputs, done);
      answer = done;
      worker.postMessage({ inputs: (last = inputs) });
    };
  }

  function hereFor(program) {
    let run = null;
    return (inputs, done) => {
      let outputs, start;
      try {
        run = run || CMLProgram.compile(program);
        start = performance.now();
        outputs = run(inputs);
      } catch (problem) {
        return done(String(problem.message || problem));
      }
      done(null, outputs, performance.now() - start);
    };
  }

  const SOURCES = { grid: gridSource, program: programSource };

  /** How long the program ran, for a text that has a place for it; browsers round to a tenth of a millisecond. */
  const took = (milliseconds) => (milliseconds < 0.15 ? "at most 0.1\u00a0ms" : `${show(milliseconds, "g", 2)}\u00a0ms`);

  /** Axes with an output's name as an end get numbers, and the ticks between them. */
  function measure(panel, scope) {
    for (const axis of [panel.x, panel.y]) {
      if (!axis.named && axis.range.some((end) => typeof end === "string")) axis.named = { range: axis.range, ticks: axis.ticks };
      if (!axis.named) continue;
      axis.range = axis.named.range.map((end) => (typeof end === "string" ? scope[end][0] : end));
      axis.ticks = axis.named.ticks.filter(([tick]) => Math.min(...axis.range) <= tick && tick <= Math.max(...axis.range));
    }
  }

  // --- One explorable -------------------------------------------------------------------------------------------------

  const all = [];
  const LEAST = 92; // of a plot's height in pixels: below that nothing is read off

  function explorable(element) {
    const part = (name) => element.querySelector(`.cml-${name}`);
    const { drawing, knobs, say, table, whole, source } = JSON.parse(part("figure").textContent);
    const { name } = element.dataset;
    const controls = knobs.map((knob) => element.querySelector(`[data-knob="${knob.name}"]`));
    const plots = [...element.querySelectorAll(".cml-moving")];
    const written = { say: part("say").textContent, tables: part("tables").innerHTML, link: part("link").textContent };
    const direct = plots.map(() => ({})); // direct: what is written beside its mark, by panel; decided anew for a new width
    const texts = { tell, show: (value) => show(roundTo(value, 4), "g", 4) };
    const sheets = drawing.panels.map((panel, p) => window.CMLDraw && window.CMLDraw.sheet(plots[p], panel, texts));
    const handles = drawing.panels.map((panel, p) =>
      window.CMLHandle && window.CMLHandle.attach(panel, plots[p], hands()));
    const follows = knobs.map((knob, k) => (isStrokes(knob) ? penned(k) : knob.offers && pointed(k)));
    let ask = null, shown = null, newest = null, touched = false, spoken = null, roomForWords = 0, seen = {};

    const indexOf = (control) => (control.tagName === "SELECT" ? control.selectedIndex : Number(control.value));
    const settings = () => controls.map(indexOf);

    function set(k, index) {
      if (isChoice(knobs[k])) controls[k].selectedIndex = index;
      else controls[k].value = index;
    }

    /** Values that a hand wants; the positions nearest them are set. */
    function put(wanted) {
      const before = settings().join();
      knobs.forEach((knob, k) => {
        const value = wanted[knob.name];
        if (value === undefined) return;
        if (knob.offers) set(k, placeOf(knob, recordOf(knob, value)));
        else if (isChoice(knob)) set(k, value);
        else set(k, value.part === undefined ? nearest(knob.values, value) : Math.round(value.part * (knob.values.length - 1)));
      });
      if (settings().join() !== before) moved();
    }

    /** What handle.js asks of this figure. */
    function hands() {
      const place = (name) => knobs.findIndex((knob) => knob.name === name);
      const at = (name) => {
        const knob = knobs[place(name)], index = indexOf(controls[place(name)]);
        if (isStrokes(knob)) return follows[place(name)].place();
        return knob.offers ? pairsOf(knob, knob.values[index]) : isChoice(knob) ? index : knob.values[index];
      };
      const data = (references) => shown && window.CMLDraw.along(references, shown.scope);
      return { data, at, put, turn: (name, move) => (isStrokes(knobs[place(name)]) ? follows[place(name)].choose(move) : turn(place(name), move)), plays: (name) => Boolean(knobs[place(name)].moves || knobs[place(name)].names), levels: (name) => knobs[place(name)].level };
    }

    function scopeOf(indices, outputs) {
      const scope = { shapes: {}, words: {} };
      for (const [key, { shape, data }] of Object.entries(outputs)) {
        scope[key] = Array.from(data);
        scope.shapes[key] = shape;
        if (!shape.length) scope.words[key] = whole.includes(key) || !Number.isFinite(data[0]) ? data[0] : roundTo(data[0], 4);
      }
      knobs.forEach((knob, k) => (scope[knob.name] = scope.words[knob.name] = knob.values[indices[k]]));
      return scope;
    }

    /** Labels and link follow the control at once. */
    function label() {
      const indices = settings();
      knobs.forEach((knob, k) => {
        if (isChoice(knob)) return;
        if (isStrokes(knob)) return follows[k].show();
        if (knob.offers) return follows[k]();
        if (knob.moves) return counted(k, knob.values[indices[k]].length);
        const text = knob.options[indices[k]];
        controls[k].parentElement.querySelector(".cml-value b").textContent = text;
        controls[k].style.setProperty("--cml-at", `${(100 * indices[k]) / (knob.values.length - 1)}%`);
        controls[k].setAttribute("aria-valuetext", knob.unit ? `${text} ${knob.unit}` : text);
      });
      part("link").href = "#" + address(indices);
    }

    function counted(k, count) {
      const box = controls[k].parentElement;
      box.querySelector(".cml-value b").textContent = count;
      // Not `disabled`: a button that has the focus keeps it.
      box.querySelectorAll("button").forEach((button) => button.setAttribute("aria-disabled", button.dataset.move ? count === knobs[k].count : count === 0));
    }

    /** One more move in a record, or (no move) one less. */
    function turn(k, move) {
      const record = knobs[k].values[indexOf(controls[k])];
      const place = placeOf(knobs[k], move === undefined ? record.slice(0, -1) : record + Number(move).toString(36));
      if (place < 0) return;
      set(k, place);
      moved();
    }

    /** The pad of Strokes. */
    function penned(k) {
      return CMLStrokes.attach(controls[k].parentElement, knobs[k], {
        text: () => knobs[k].values[indexOf(controls[k])],
        put(text) {
          set(k, placeOf(knobs[k], text));
          moved();
        },
        chosen: () => handles.forEach((follow) => follow?.()),
      });
    }

    /** The sliders of Points, one point after the other, its buttons, and its field for points that somebody pastes. */
    function pointed(k) {
      const knob = knobs[k], box = controls[k].parentElement, slider = (name) => box.querySelector(`[data-part="${name}"]`);
      const pairs = () => pairsOf(knob, knob.values[indexOf(controls[k])]), axes = ["x", "y"];
      const text = box.querySelector("textarea"), wrong = box.querySelector(".cml-wrong");
      const chosen = () => Number(slider("which").value) - 1;
      box.querySelectorAll("[data-part]").forEach((control) => control.addEventListener("input", () => {
        const points = pairs();
        axes.forEach((name, axis) => control === slider(name) && (points[chosen()][axis] = Number(control.value)));
        put({ [knob.name]: points });
        sync();
      }));
      box.querySelectorAll("[data-offer]").forEach((button) => button.addEventListener("click", () => {
        const offered = knob.offers[button.dataset.offer];
        set(k, offered[(offered.indexOf(indexOf(controls[k])) + 1) % offered.length]);
        knobs.forEach((other, j) => knob.fresh.includes(other.name) && set(j, other.start));
        moved();
      }));
      box.querySelector(".cml-take")?.addEventListener("click", () => {
        try {
          put({ [knob.name]: pairsOf(knob, text.value) });
          wrong.textContent = "";
        } catch (problem) {
          wrong.textContent = problem.message;
        }
      });

      function sync() {
        const points = pairs();
        box.querySelectorAll("[data-part]").forEach((control) => {
          const axis = axes.indexOf(control.dataset.part);
          if (axis >= 0) control.value = points[chosen()][axis];
          const { min, max, value } = control;
          control.style.setProperty("--cml-at", `${(100 * (value - min)) / (max - min)}%`);
          const words = axis < 0 ? `${value} of ${points.length}` : show(points[chosen()][axis], "g", 4);
          control.parentElement.querySelector("b").textContent = words;
          control.setAttribute("aria-valuetext", words);
        });
        if (text && text !== document.activeElement) text.value = points.map((pair) => pair.join(", ")).join("\n");
      }
      return sync;
    }

    /** A button that runs a slider through its positions, in about four seconds; the next one comes when the last one is shown. */
    function playable(k) {
      const control = controls[k], button = control.parentElement.querySelector(".cml-play"), last = knobs[k].values.length - 1;
      if (!button) return;
      const name = button.getAttribute("aria-label").replace("Play", "");
      let timer = null, due = 0;
      const running = (on) => {
        clearInterval(timer);
        timer = on ? setInterval(tick, Math.max(40, 4000 / last)) : null;
        button.textContent = on ? "❚❚" : "▶";
        button.setAttribute("aria-label", (on ? "Pause" : "Play") + name);
      };
      function tick() {
        if (indexOf(control) !== due) return running(false); // a hand took the slider, or it was reset
        if (element.dataset.shown !== address(settings())) return;
        if (due === last) return running(false);
        set(k, (due += 1));
        moved();
      }
      button.addEventListener("click", () => {
        if (timer) return running(false);
        due = indexOf(control) === last ? 0 : indexOf(control);
        set(k, due);
        moved();
        running(true);
      });
    }

    /** Somebody moved a control, here or by a link. */
    function moved() {
      touched = true;
      follow();
    }

    /** The figure follows when its source answers. */
    function follow() {
      const indices = settings();
      label();
      if (ask) ask(indices, (outputs, milliseconds) => answered(indices, outputs, milliseconds));
      else wake();
    }

    function address(indices) {
      const prefix = all.length > 1 ? `${name}.` : "";
      return knobs.map((knob, k) => `${prefix}${knob.name}=${encodeURIComponent(knob.values[indices[k]])}`).join("&");
    }

    /** The newest answer is shown in the next frame: answers may come faster than frames. */
    function answered(...answer) {
      if (!newest) requestAnimationFrame(() => {
        const latest = newest;
        newest = null;
        display(...latest);
      });
      newest = answer;
    }

    function display(indices, outputs, milliseconds) {
      const scope = scopeOf(indices, outputs);
      shown = { indices, scope };
      drawing.panels.forEach((panel) => measure(panel, scope));
      const sentence = sentenceOf(say, scope.words);
      part("say").textContent = sentence;
      keepRoom();
      part("tables").replaceChildren(...tables(scope));
      clearTimeout(spoken);
      // Speak when the slider rests, not at every step, and not of a figure that nobody touched.
      if (touched) spoken = setTimeout(() => (part("status").textContent = sentence), 400);
      const start = performance.now();
      draw();
      const drawn = performance.now() - start;
      document.querySelectorAll(`[data-cml-clock="${name}"]`).forEach((clock) => (clock.textContent = took(milliseconds)));
      CMLFloor.write(show);
      const stills = () => sheets.map((sheet) => sheet.still(scope, 420, drawing.height));
      element.explorable = { indices, outputs, milliseconds, drawn, stills }; // what the figure now shows, for whoever checks it
      element.dataset.shown = address(indices);
    }

    /** The figure, controls and sentence included, is no taller than the window below the header: its plots share what the rest leaves. */
    function fit() {
      element.style.removeProperty("--cml-tall");
      const boxes = plots.map((plot) => plot.parentElement.getBoundingClientRect());
      const rows = new Map(boxes.map(({ bottom, height }) => [Math.round(bottom), height]));
      const plotted = [...rows.values()].reduce((sum, height) => sum + height, 0);
      const rest = element.offsetHeight - plotted - (part("tables").parentElement.open ? part("tables").offsetHeight : 0);
      const room = window.innerHeight - parseFloat(getComputedStyle(element).scrollMarginTop);
      if (rest + plotted > room) element.style.setProperty("--cml-tall", `${Math.max(Math.floor((room - rest) / rows.size), LEAST)}px`);
    }

    /** A longer sentence moves what is below it once, and a shorter one never. */
    function keepRoom() {
      const box = part("say"), height = box.scrollHeight;
      if (height <= roomForWords) return;
      roomForWords = height;
      box.style.minHeight = `${height}px`;
      fit();
    }

    /** The window has another width, or quite another height: a phone's bar that comes and goes is none. */
    function resized() {
      const { innerWidth: width, innerHeight: height } = window;
      if (width === seen.width && Math.abs(height - seen.height) < 120) return;
      seen = { width, height };
      direct.forEach((one) => Object.assign(one, { labels: null, hidden: false }));
      roomForWords = 0;
      part("say").style.minHeight = "";
      keepRoom();
    }

    /** What is written beside its mark leaves the key above the panel, which then is lower. */
    function keyed(p) {
      const labels = direct[p].labels ?? [];
      if (direct[p].hidden) return;
      direct[p].hidden = true;
      plots[p].closest("figure").querySelectorAll("figcaption > span").forEach((key) => key.classList.toggle("cml-direct", labels.includes(key.textContent.trim())));
      if (labels.length) requestAnimationFrame(fit);
    }

    function draw() {
      if (!shown) return;
      const sizes = plots.map(({ clientWidth, clientHeight }) => [clientWidth, clientHeight]); // all are asked before anything changes
      sizes.forEach(([width, height], p) => {
        if (!width) return; // folded away
        sheets[p].draw(shown.scope, width, height, direct[p]);
        keyed(p);
        handles[p]?.();
      });
    }

    function tables(scope) {
      const sized = (rank) => table.filter(([key]) => scope.shapes[key].length === rank);
      const text = (key, value) => (whole.includes(key) ? String(value) : show(roundTo(value, 4), "g", 4));
      const found = [];
      if (sized(0).length)
        found.push(tableOf(["Quantity", "Value"], sized(0).map(([key, label, unit]) => [label, `${text(key, scope[key][0])} ${unit}`.trim()])));
      for (const length of new Set(sized(1).map(([key]) => scope[key].length))) {
        const columns = sized(1).filter(([key]) => scope[key].length === length), few = Math.min(length, 11);
        const at = Array.from({ length: few }, (_, k) => Math.floor((k * (length - 1)) / Math.max(few - 1, 1) + 0.5));
        found.push(tableOf(columns.map(([, label, unit]) => (unit ? `${label} (${unit})` : label)), at.map((i) => columns.map(([key]) => text(key, scope[key][i])))));
      }
      return found;
    }

    function failed(problem) {
      part("say").textContent = `This figure cannot compute here: ${problem}`;
      console.error(`explorable ${name}: ${problem}`);
    }

    let waking = false;
    async function wake() {
      if (waking) return;
      waking = true;
      if (!window.CMLDraw) return failed("draw.js did not load");
      try {
        ask = SOURCES[source.kind](source.beside ? await CMLBeside.filled(source) : source, knobs, failed);
      } catch (problem) {
        return failed(problem.message);
      }
      element.classList.add("cml-awake");
      follow();
    }

    /** Take the settings that the address names; what it does not name stays. */
    function obey(wanted) {
      let mine = false;
      knobs.forEach((knob, k) => {
        const text = wanted.get(`${name}.${knob.name}`) ?? wanted.get(knob.name);
        if (text === null || text === undefined) return;
        const index = knob.moves || knob.offers ? placeOf(knob, text) : isChoice(knob) ? knob.values.indexOf(text) : nearest(knob.values, Number(text));
        if (index < 0) return;
        set(k, index);
        mine = true;
      });
      if (mine) moved();
      return mine;
    }

    function reset() {
      knobs.forEach((knob, k) => set(k, knob.start));
      moved();
    }

    async function copyLink() {
      const link = part("link");
      try {
        await navigator.clipboard.writeText(new URL(link.href, location.href).href);
      } catch {
        return; // the address shows the settings; it can be copied there
      }
      link.textContent = part("status").textContent = "Link copied";
      setTimeout(() => (link.textContent = written.link), 2000);
    }

    function print(printing) {
      const sentence = shown && sentenceOf(say, shown.scope.words);
      part("say").textContent = printing ? written.say : sentence || written.say;
      if (printing) part("tables").innerHTML = written.tables;
      else if (shown) part("tables").replaceChildren(...tables(shown.scope));
    }

    controls.forEach((control, k) => {
      control.addEventListener("input", moved);
      playable(k);
      if (knobs[k].moves)
        control.parentElement.querySelectorAll("button").forEach((button) => button.addEventListener("click", () => turn(k, button.dataset.move)));
    });
    part("reset").addEventListener("click", reset);
    part("link").addEventListener("click", copyLink);
    part("knobs").hidden = part("tools").hidden = false;
    resized();
    addEventListener("resize", resized);
    document.fonts?.ready.then(fit);
    const sized = new ResizeObserver(() => requestAnimationFrame(draw));
    plots.forEach((plot) => sized.observe(plot));
    return { element, wake, obey, print, name, label };
  }

  function nearest(values, wanted) {
    if (!Number.isFinite(wanted)) return -1;
    return values.reduce((best, value, k) => (Math.abs(value - wanted) < Math.abs(values[best] - wanted) ? k : best), 0);
  }

  function tableOf(head, body) {
    const row = (tag, texts) => {
      const line = document.createElement("tr");
      line.append(...texts.map((text) => Object.assign(document.createElement(tag), { textContent: text })));
      return line;
    };
    const made = document.createElement("table");
    made.createTHead().append(row("th", head));
    made.createTBody().append(...body.map((texts) => row("td", texts)));
    return made;
  }

  // --- The page -------------------------------------------------------------------------------------------------------

  function obeyAddress(block) {
    if (!location.hash.includes("=")) return;
    const wanted = new URLSearchParams(location.hash.slice(1));
    const first = all.filter((one) => one.obey(wanted))[0];
    if (!first) return;
    const show = () => first.element.scrollIntoView({ block });
    show();
    document.fonts?.ready.then(show); // formulas above it have their font, and their size, by then
  }

  function start() {
    for (const element of document.querySelectorAll(".cml-explorable")) all.push(explorable(element));
    if (!all.length) return;
    all.forEach((one) => one.label());
    const near = new IntersectionObserver(
      (entries) => entries.filter((entry) => entry.isIntersecting).forEach(({ target }) => {
        near.unobserve(target);
        all.find(({ element }) => element === target).wake();
      }),
      { rootMargin: "400px" },
    );
    all.forEach(({ element }) => near.observe(element));
    obeyAddress("start");
    addEventListener("hashchange", () => obeyAddress("nearest"));
    addEventListener("beforeprint", () => all.forEach((one) => one.print(true)));
    addEventListener("afterprint", () => all.forEach((one) => one.print(false)));
  }

  if (document.readyState === "loading") addEventListener("DOMContentLoaded", start);
  else start();
})();
