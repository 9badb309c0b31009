/* A marker that a hand can take (handle.py): wherever it is put, two knobs follow. Mouse, pen and finger alike.
 *
 *   const follow = CMLHandle.attach(panel, plot, place, put);   // null for a panel without one
 *   follow();                                                   // after every drawing
 *
 * plot: the element that plotly draws into. place(reference): where the drawn figure has it. put({knob: value}): sets knobs; a
 * radius comes as {knob: {part: 0 ... 1}}. The grip is an element of its own, so that a finger beside it still scrolls the page.
 */
var CMLHandle = (function () {
  "use strict";

  const map = ({ log }) => (log ? Math.log10 : Number);
  const back = ({ log }) => (log ? (value) => 10 ** value : Number);

  /** How far along an axis a value lies, 0 to 1, and what lies there. */
  function part(axis, value) {
    const [first, last] = axis.range.map(map(axis));
    return (map(axis)(value) - first) / (last - first);
  }

  function at(axis, share) {
    const [first, last] = axis.range.map(map(axis));
    return back(axis)(first + share * (last - first));
  }

  /** The knobs' values for a point of the panel. */
  function wanted(sets, panel, x, y) {
    if (!sets.center) return { [sets.x]: x, [sets.y]: y };
    const upward = Math.sign(panel.y.range[1] - panel.y.range[0]); // an image's rows go down
    const across = x - sets.center[0], up = upward * (y - sets.center[1]);
    return {
      [sets.angle]: (Math.atan2(up, across) * 180) / Math.PI,
      [sets.radius]: { part: Math.min(Math.hypot(across, up) / sets.rim, 1) },
    };
  }

  function attach(panel, plot, place, put) {
    const mark = panel.marks.find((one) => one.sets);
    if (!mark) return null;
    const grip = Object.assign(document.createElement("div"), { className: "cml-grip" });
    const area = () => plot.querySelector(".nsewdrag").getBoundingClientRect();
    let held = false;
    plot.parentElement.append(grip);
    plot.parentElement.classList.add("cml-held");

    function send(event) {
      const box = area();
      const clip = (share) => Math.min(Math.max(share, 0), 1);
      const x = at(panel.x, clip((event.clientX - box.left) / box.width));
      put(wanted(mark.sets, panel, x, at(panel.y, clip((box.bottom - event.clientY) / box.height))));
    }

    grip.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      held = true;
      grip.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    grip.addEventListener("pointermove", (event) => held && send(event));
    for (const end of ["pointerup", "pointercancel"]) grip.addEventListener(end, () => (held = false));
    plot.addEventListener("click", send);

    function follow() {
      if (!plot.querySelector(".nsewdrag")) return;
      const box = area(), frame = plot.getBoundingClientRect();
      grip.style.left = `${box.left - frame.left + box.width * part(panel.x, place(mark.x[0]))}px`;
      grip.style.top = `${box.bottom - frame.top - box.height * part(panel.y, place(mark.y[0]))}px`;
    }
    new ResizeObserver(() => requestAnimationFrame(follow)).observe(plot);
    return follow;
  }

  return { attach };
})();
