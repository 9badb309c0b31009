/* Arrays: dtypes, shapes, where elements lie, and what every step needs. The first of the scripts that program.js lists. */
"use strict";

/* A script adds a part, made from the parts before it. The text of all parts is kept for a Worker, which on a page opened from
 * a file can load no script: new Worker(URL.createObjectURL(new Blob([CMLProgram.source + ...]))). */
(function begin() {
  const parts = {}, texts = [`"use strict";`, `(${begin})();`];
  globalThis.CMLProgram = {
    part(name, make) {
      parts[name] = make(parts);
      texts.push(`CMLProgram.part("${name}", ${make});`);
    },
    get source() { return texts.join("\n"); },
  };
})();

CMLProgram.part("arrays", () => {
  const ARRAYS = {
    f32: Float32Array, f64: Float64Array, i32: Int32Array, u32: Uint32Array, bool: Uint8Array,
    i64: Float64Array, // exact below 2^53; what goes beyond becomes NaN, and an error where something depends on it
  };
  const isFloat = (dtype) => dtype === "f32" || dtype === "f64";

  const LIMITS = { i32: [-(2 ** 31), 2 ** 31 - 1], u32: [0, 2 ** 32 - 1], i64: [-(2 ** 63), 2 ** 63], bool: [0, 1] };
  const lowest = (dtype) => (LIMITS[dtype] || [-Infinity])[0];
  const highest = (dtype) => (LIMITS[dtype] || [0, Infinity])[1];

  const product = (numbers) => numbers.reduce((a, b) => a * b, 1);
  const range = (n) => Array.from({ length: n }, (_, i) => i);
  const pick = (list, where) => where.map((i) => list[i]);

  function stridesOf(shape) {
    const strides = new Array(shape.length);
    for (let d = shape.length - 1, s = 1; d >= 0; s *= shape[d--]) strides[d] = s;
    return strides;
  }

  /** Offsets, in row-major order of `shape`, of the elements that lie `strides` apart, starting at `start`. */
  function offsets(shape, strides, start = 0) {
    let result = [start];
    shape.forEach((n, d) => {
      const next = new Array(result.length * n);
      for (let i = 0, k = 0; i < result.length; i++) for (let j = 0; j < n; j++) next[k++] = result[i] + j * strides[d];
      result = next;
    });
    return Int32Array.from(result);
  }

  // --- Steps ---------------------------------------------------------------------------------------------------------

  function takeFloat32(o, a, where) { for (let i = 0; i < o.length; i++) o[i] = a[where[i]]; }
  function takeAny(o, a, where) { for (let i = 0; i < o.length; i++) o[i] = a[where[i]]; }
  const takeFor = (dtype) => (dtype === "f32" ? takeFloat32 : takeAny);

  /** A step that copies a value into an array that has room for all its elements. */
  function copyTo(target, value) {
    const from = value.data;
    return from.length === target.length ? () => target.set(from) : () => target.fill(from[0]);
  }

  function runSteps(steps) { for (let i = 0; i < steps.length; i++) steps[i](); }

  return { ARRAYS, LIMITS, copyTo, highest, isFloat, lowest, offsets, pick, product, range, runSteps, stridesOf, takeFor };
});
