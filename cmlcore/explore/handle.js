/* Hands in a panel: what can be dragged, pressed and drawn there. Mouse, pen and finger alike.
 *
 *   const follow = CMLHandle.attach(panel, plot, hands);   // null for a panel without any
 *   follow();                                              // after every drawing
 *
 * plot: the element that draw.js draws into. hands: what the figure lends,
 *   data(references): the numbers that they place, of the newest drawing, or null before the first
 *   at(knob):         where the knob stands: a number, an option's index, the pairs of `Points`
 *   put({knob: value}): sets knobs; a radius comes as {knob: {part: 0 ... 1}}
 *   turn(knob, move): one more move of `Turns`; plays(knob), levels(knob): whether it is one, and whether its points move up and down only
 *
 * Three kinds of marks (handle.py, touch.py): a Handle, a Touch, a Pen. The nearest one is held. A finger that begins beside the
 * rings and the points, and moves up or down, scrolls the page.
 */
var CMLHandle = (function () {
  "use strict";

  const map = ({ log }) => (log ? Math.log10 : Number);
  const back = ({ log }) => (log ? (value) => 10 ** value : Number);
  const NEAR = 26; // pixels around a point that a finger may miss it by

  /** How far along an axis a value lies, 0 to 1, and what lies there. */
  function part(axis, value) {
    const [first, last] = axis.range.map(map(axis));
    return (map(axis)(value) - first) / (last - first);
  }

  function at(axis, share) {
    const [first, last] = axis.range.map(map(axis));
    return back(axis)(first + share * (last - first));
  }

  const least = (list) => list.reduce((best, far, i) => (far < list[best] ? i : best), 0);

  /** A Handle: two knobs follow where it is put. */
  function handle({ x, y, sets }, panel, hands) {
    const places = () => [[hands.data(x)[0], hands.data(y)[0]]];
    const move = ({ x, y }) => {
      if (!sets.center) return hands.put({ [sets.x]: x, [sets.y]: y });
      const upward = Math.sign(panel.y.range[1] - panel.y.range[0]); // an image's rows go down
      const across = x - sets.center[0], up = upward * (y - sets.center[1]);
      hands.put({ [sets.angle]: (Math.atan2(up, across) * 180) / Math.PI, [sets.radius]: { part: Math.min(Math.hypot(across, up) / sets.rim, 1) } });
    };
    return { places, ring: () => 0, move };
  }

  /** A Touch: its knob takes the value of the nearest place. */
  function touch({ x, y, knob, value, grip }, panel, hands) {
    const places = () => {
      const down = hands.data(y);
      return hands.data(x).map((across, i) => [across, down[i]]);
    };
    const game = hands.plays(knob);
    const move = (pointer) => hands.put({ [knob]: value[pointer.nearest(places())] });
    return {
      places, ring: grip ? () => least(value.map((one) => Math.abs(one - hands.at(knob)))) : null, move: game ? null : move,
      end: game ? (pointer) => hands.turn(knob, value[pointer.nearest(places())]) : null,
    };
  }

  /** A Pen: points of a curve are drawn over in strokes, other points are taken one by one. */
  function pen({ knob, when, level }, panel, hands) {
    const off = () => typeof when === "string" && !hands.data([when])[0];
    const places = () => (off() ? [] : hands.at(knob));
    let held = 0, last = null;
    return {
      places, firm: true, anywhere: () => level && !off(),
      begin(pointer) {
        held = pointer.nearest(places());
        last = null;
        if (level) this.move(pointer);
      },
      move({ x, y }) {
        const points = hands.at(knob).map((point) => [...point]);
        if (!level) points[held] = [x, y];
        else {
          const from = last ?? { x, y }, low = Math.min(from.x, x), high = Math.max(from.x, x);
          const height = (across) => (high > low ? from.y + ((across - from.x) / (x - from.x)) * (y - from.y) : y);
          points.forEach((point) => point[0] >= low && point[0] <= high && (point[1] = height(point[0])));
          points[least(points.map((point) => Math.abs(point[0] - x)))][1] = y;
          last = { x, y };
        }
        hands.put({ [knob]: points });
      },
    };
  }

  function attach(panel, plot, hands) {
    const level = ({ knob }) => hands.levels(knob);
    const all = panel.marks.flatMap((mark) =>
      mark.sets ? [handle(mark, panel, hands)] : mark.kind === "touch" ? [touch(mark, panel, hands)]
        : mark.kind === "pen" ? [pen({ ...mark, level: level(mark) }, panel, hands)] : []);
    if (!all.length) return null;
    const area = () => plot.querySelector(".cml-field")?.getBoundingClientRect();
    const clip = (share) => Math.min(Math.max(share, 0), 1);
    let held = null, from = null, moved = false;
    plot.parentElement.classList.add("cml-held");

    /** Where it is: in the panel's coordinates, and which of some places is nearest, and how far in pixels. */
    function pointer({ clientX, clientY }) {
      const box = area();
      const far = (places) => places.map(([x, y]) =>
        Math.hypot(box.left + box.width * part(panel.x, x) - clientX, box.bottom - box.height * part(panel.y, y) - clientY));
      return {
        x: at(panel.x, clip((clientX - box.left) / box.width)), y: at(panel.y, clip((box.bottom - clientY) / box.height)),
        nearest: (places) => least(far(places)), far: (places) => Math.min(Infinity, ...far(places)),
      };
    }

    /** The nearest hand; a point must be near to be taken, and a curve is drawn where nothing is. */
    function nearest(where) {
      const far = all.map((one) => {
        const away = where.far(one.places());
        return one.anywhere?.() ? Math.max(away, 2 * NEAR) : one.firm && away > NEAR ? Infinity : away;
      });
      const best = least(far);
      return Number.isFinite(far[best]) ? all[best] : null;
    }

    function down(event, hand) {
      if (event.button || held || !area() || !hands.data([])) return;
      const where = pointer(event);
      held = hand ?? nearest(where);
      if (!held) return;
      from = event;
      moved = false;
      event.currentTarget.setPointerCapture(event.pointerId);
      event.preventDefault();
      event.stopPropagation();
      held.begin?.(where);
    }

    function move(event) {
      if (!held || (!moved && Math.hypot(event.clientX - from.clientX, event.clientY - from.clientY) < 3)) return;
      moved = true;
      held.move?.(pointer(event));
    }

    function up(event) {
      if (!held) return;
      const where = pointer(event);
      if (!moved && !held.firm) held.move?.(where);
      held.end?.(where);
      held = null;
    }

    function listen(element, hand) {
      element.addEventListener("pointerdown", (event) => down(event, hand), true);
      element.addEventListener("pointermove", move);
      element.addEventListener("pointerup", up);
      element.addEventListener("pointercancel", () => (held = null));
      // A finger that draws, or holds a point or a ring, does not scroll.
      element.addEventListener("touchstart", (event) => held && (hand || held.firm) && event.cancelable && event.preventDefault(), { passive: false });
    }

    listen(plot, null);
    const rings = all.filter((one) => one.ring).map((one) => {
      const grip = Object.assign(document.createElement("div"), { className: "cml-grip" });
      plot.parentElement.append(grip);
      listen(grip, one);
      return [one, grip];
    });

    function follow() {
      const box = area(), frame = plot.getBoundingClientRect();
      if (!box || !hands.data([])) return;
      for (const [one, grip] of rings) {
        const [x, y] = one.places()[one.ring()].map((value, k) => part([panel.x, panel.y][k], value));
        grip.hidden = !(x >= 0 && x <= 1 && y >= 0 && y <= 1);
        grip.style.left = `${box.left - frame.left + box.width * x}px`;
        grip.style.top = `${box.bottom - frame.top - box.height * y}px`;
      }
    }
    new ResizeObserver(() => requestAnimationFrame(follow)).observe(plot);
    return follow;
  }

  return { attach };
})();
