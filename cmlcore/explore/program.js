/* Runs a program that `cmlcore.explore.program.export` wrote: a traced JAX function, in plain JavaScript.
 *
 *   const run = CMLProgram.compile(program);      // once: plans every array, returns a function
 *   const result = run({beta: 0.1, rate: 0.01});  // {name: {shape, dtype, data: typed array}}
 *
 * Works as a <script> (global `CMLProgram`), in a Web Worker, and in node. No dependency, no eval.
 *
 * How: arrays have known shapes, so `compile` gives each value of the program a typed array (arrays whose value is no
 * longer needed are used again) and turns each operation into one closure over its arrays, a *step*. To run is to call
 * the steps in order; loops call the steps of their body. Float32 values are rounded after every operation, as in JAX.
 */
(function (root, factory) {
  const api = factory();
  // For a Worker on a page opened from a file: new Worker(URL.createObjectURL(new Blob([CMLProgram.source + ...])))
  api.source = `self.CMLProgram = (${factory})();`;
  if (typeof module === "object" && module.exports) module.exports = api;
  else root.CMLProgram = api;
})(typeof self !== "undefined" ? self : this, function () {
  "use strict";

  const VERSION = 1;
  const MATCH = "Load the program.js of the package that exported this program, or export it again.";
  const ARRAYS = {
    f32: Float32Array, f64: Float64Array, i32: Int32Array, u32: Uint32Array, bool: Uint8Array,
    i64: Float64Array, // exact below 2^53; what goes beyond becomes NaN, and an error where something depends on it
  };
  const isFloat = (dtype) => dtype === "f32" || dtype === "f64";
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

  // --- Scalar functions: what an elementwise operation does to one number -------------------------------------------

  function erf(x) {
    if (Math.abs(x) > 1) return Math.sign(x) * (1 - erfc(Math.abs(x)));
    let term = x, sum = x; // all terms have the sign of x: no cancellation
    for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) sum += term *= (2 * x * x) / (2 * n + 1);
    return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
  }

  function erfc(x) {
    if (!(x > 1)) return 1 - erf(x);
    if (x > 28) return 0;
    let tail = 0; // a continued fraction, from its far end
    for (let n = 20 + Math.ceil(160 / (x * x)); n > 0; n--) tail = n / 2 / (x + tail);
    const h = Math.fround(x); // exp(-x^2), with no error of rounding in x^2: h^2 is exact
    return Math.exp(-h * h) * Math.exp((h - x) * (h + x)) / Math.sqrt(Math.PI) / (x + tail);
  }

  function erfInv(y) {
    if (!(Math.abs(y) < 1)) return Math.abs(y) === 1 ? y * Infinity : NaN;
    const w = Math.log1p(-y * y), u = 4.3307 + w / 2;
    let x = Math.sign(y) * Math.sqrt(Math.sqrt(u * u - w / 0.147) - u);
    for (let i = 0; i < 4; i++) { // Halley's method; on the tail, where erf itself has no digits left
      const left = y > 0 ? 1 - y - erfc(x) : erfc(-x) - (1 + y);
      const ratio = (Math.abs(y) > 0.5 ? left : erf(x) - y) * (Math.sqrt(Math.PI) / 2) * Math.exp(x * x);
      x -= ratio / (1 + x * ratio);
    }
    return x;
  }

  /** sin(pi x) and tan(pi x) from what is left of the nearest integer: no error of rounding in pi x. */
  const ofPi = (f) => (x) => f(Math.PI * (x - Math.round(x)));
  const sinPi = ofPi(Math.sin), tanPi = ofPi(Math.tan);
  const isPole = (x) => x <= 0 && x === Math.floor(x);

  function lgamma(x) {
    if (Math.abs(x) === Infinity || isPole(x)) return Infinity;
    if (x < 0.5) return Math.log(Math.PI / Math.abs(sinPi(x))) - lgamma(1 - x);
    let shift = 1;
    for (; x < 10; x++) shift *= x;
    const z = 1 / (x * x);
    return (x - 0.5) * Math.log(x) - x + 0.5 * Math.log(2 * Math.PI) - Math.log(shift)
      + (1 / 12 - z * (1 / 360 - z * (1 / 1260 - z * (1 / 1680 - z * (1 / 1188 - (z * 691) / 360360))))) / x;
  }

  function digamma(x) {
    if (isPole(x)) return NaN;
    if (x < 0.5) return digamma(1 - x) - Math.PI / tanPi(x);
    let shift = 0;
    for (; x < 10; x++) shift += 1 / x;
    const z = 1 / (x * x);
    return Math.log(x) - 0.5 / x - shift
      - z * (1 / 12 - z * (1 / 120 - z * (1 / 252 - z * (1 / 240 - z * (1 / 132 - (z * 691) / 32760)))));
  }

  const roundEven = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));
  const roundAway = (x) => (Math.abs(x % 1) === 0.5 ? x + Math.sign(x) / 2 : Math.round(x));
  /** 1 to any power is 1, and so is -1 to an infinite one: C and JAX say so, JavaScript says NaN. */
  const power = (a, b) => (a === 1 || (a === -1 && Math.abs(b) === Infinity) ? 1 : Math.pow(a, b));

  /** x^y by squaring, each product rounded, which is how JAX computes it. */
  function integerPower(y, times) {
    const positive = (x) => {
      let result = 1;
      for (let n = Math.abs(y); n > 0; n = Math.floor(n / 2)) {
        if (n % 2) result = times(result, x);
        x = times(x, x);
      }
      return result;
    };
    return y < 0 ? (x) => 1 / positive(x) : positive;
  }
  const times = (dtype) =>
    dtype === "f32" ? (a, b) => Math.fround(a * b) : dtype === "i32" || dtype === "u32" ? Math.imul : (a, b) => a * b;

  const UNARY = {
    neg: (x) => -x, abs: Math.abs, sign: Math.sign, floor: Math.floor, ceil: Math.ceil,
    is_finite: (x) => +isFinite(x), one_minus_square: (x) => (1 + x) * (1 - x), logistic: (x) => 1 / (1 + Math.exp(-x)),
    sqrt: Math.sqrt, rsqrt: (x) => 1 / Math.sqrt(x), cbrt: Math.cbrt,
    exp: Math.exp, exp2: (x) => Math.pow(2, x), expm1: Math.expm1, log: Math.log, log2: Math.log2, log1p: Math.log1p,
    sin: Math.sin, cos: Math.cos, tan: Math.tan, asin: Math.asin, acos: Math.acos, atan: Math.atan,
    sinh: Math.sinh, cosh: Math.cosh, tanh: Math.tanh, asinh: Math.asinh, acosh: Math.acosh, atanh: Math.atanh,
    erf, erfc, erf_inv: erfInv, lgamma, digamma,
  };

  const BINARY = {
    add: (a, b) => a + b, sub: (a, b) => a - b, div: (a, b) => a / b, rem: (a, b) => a % b,
    max: Math.max, min: Math.min, pow: power, atan2: Math.atan2,
    and: (a, b) => a & b, or: (a, b) => a | b, xor: (a, b) => a ^ b,
    eq: (a, b) => +(a === b), ne: (a, b) => +(a !== b),
    lt: (a, b) => +(a < b), le: (a, b) => +(a <= b), gt: (a, b) => +(a > b), ge: (a, b) => +(a >= b),
    shift_left: (a, b) => (b >>> 0 > 31 ? 0 : a << b), shift_right_logical: (a, b) => (b >>> 0 > 31 ? 0 : a >>> b),
    shift_right_arithmetic: (a, b) => a >> (b >>> 0 > 31 ? 31 : b),
  };

  const INTEGER = {
    div: (a, b) => (b === 0 ? -1 : Math.trunc(a / b)), rem: (a, b) => (b === 0 ? a : a % b), not: (x) => ~x,
  };

  /** A bitwise operation on 64 bits: JavaScript has it for the lower 32 bits, and so for the upper ones. */
  const halves = (f) => (a, b) =>
    a + b === a + b ? f(Math.floor(a / 2 ** 32), Math.floor(b / 2 ** 32)) * 2 ** 32 + (f(a, b) >>> 0) : NaN;
  const inside = (b) => b >= 0 && b < 64;
  const INT64 = {
    and: halves(BINARY.and), or: halves(BINARY.or), xor: halves(BINARY.xor), not: (x) => -1 - x,
    shift_left: (a, b) => (inside(b) ? a * 2 ** b : 0 * a * b),
    shift_right_logical: (a, b) => (inside(b) ? Math.floor(a / 2 ** b) + (a < 0 ? 2 ** (64 - b) : 0) : 0 * a * b),
    shift_right_arithmetic: (a, b) => Math.floor(a / 2 ** (inside(b) ? b : 64 + 0 * b)),
  };
  const KEEPS = ["max", "min", "and", "or", "xor", "convert_element_type"]; // cannot lead further than the operands go

  const LOST = "is an int64 beyond 2^53, which a page cannot hold. Compute it in float64, or in Python before exporting.";
  const known = (x) => { if (x !== x) throw new Error(`What an index or a comparison depends on ${LOST}`); return x; };
  const exact = (x) => (Number.isSafeInteger(x) ? x + 0 : NaN); // and no -0

  /** The function of one number (or two) that operation `name` applies, for operands of dtype `from`. */
  function scalarFunction(name, from, to, params) {
    const f = plainFunction(name, from, to, params);
    if (from === "i64" && !isFloat(to) && to !== "i64") return (a, b = 0) => f(known(a), known(b));
    return to === "i64" && !KEEPS.includes(name) ? (a, b) => exact(f(a, b)) : f;
  }

  function plainFunction(name, dtype, to, params) {
    switch (name) {
      case "mul": return times(dtype === "f32" ? "f64" : dtype); // the float32 store rounds
      case "square": { const by = times(dtype); return (x) => by(x, x); }
      case "integer_pow": return integerPower(params.y, times(dtype));
      case "round": return params.even ? roundEven : roundAway;
      case "convert_element_type": return conversion(dtype, to);
      case "not": if (dtype === "bool") return (x) => 1 - x;
    }
    return (dtype === "i64" && INT64[name]) || (!isFloat(dtype) && INTEGER[name]) || UNARY[name] || BINARY[name];
  }

  function conversion(from, to) {
    if (to === "bool") return (x) => +(x !== 0);
    if (!isFloat(from) || isFloat(to)) return (x) => x;
    const [low, high] = LIMITS[to];
    return (x) => (x !== x ? 0 : Math.trunc(Math.min(Math.max(x, low), high)) + 0);
  }

  // --- Loops over arrays --------------------------------------------------------------------------------------------
  // A mask p is -1 for an array (i & -1 = i) and 0 for a single number that stands for a whole array (i & 0 = 0).
  // The frequent loops over floats are written out: browsers compile best a loop that only ever sees one kind of array, which
  // it does in a figure's Worker as long as the figure does not mix float32 and float64.

  const FAST = {
    add(o, a, p, b, q) { for (let i = 0; i < o.length; i++) o[i] = a[i & p] + b[i & q]; },
    sub(o, a, p, b, q) { for (let i = 0; i < o.length; i++) o[i] = a[i & p] - b[i & q]; },
    mul(o, a, p, b, q) { for (let i = 0; i < o.length; i++) o[i] = a[i & p] * b[i & q]; },
    div(o, a, p, b, q) { for (let i = 0; i < o.length; i++) o[i] = a[i & p] / b[i & q]; },
    max(o, a, p, b, q) { for (let i = 0; i < o.length; i++) o[i] = Math.max(a[i & p], b[i & q]); },
    gt(o, a, p, b, q) { for (let i = 0; i < o.length; i++) o[i] = a[i & p] > b[i & q] ? 1 : 0; },
    neg(o, a) { for (let i = 0; i < o.length; i++) o[i] = -a[i]; },
    sqrt(o, a) { for (let i = 0; i < o.length; i++) o[i] = Math.sqrt(a[i]); },
    square(o, a) { for (let i = 0; i < o.length; i++) o[i] = a[i] * a[i]; },
    tanh(o, a) { for (let i = 0; i < o.length; i++) o[i] = Math.tanh(a[i]); },
    exp(o, a) { for (let i = 0; i < o.length; i++) o[i] = Math.exp(a[i]); },
    select_n(o, m, p, a, q, b, r) { for (let i = 0; i < o.length; i++) o[i] = m[i & p] ? b[i & r] : a[i & q]; },
  };

  const each1 = (f) => (o, a) => { for (let i = 0; i < o.length; i++) o[i] = f(a[i]); };
  const each2 = (f) => (o, a, p, b, q) => { for (let i = 0; i < o.length; i++) o[i] = f(a[i & p], b[i & q]); };
  const select = (o, m, p, ...cases) => { // a case is an array and its mask
    for (let i = 0; i < o.length; i++) { const k = 2 * m[i & p]; o[i] = cases[k][i & cases[k + 1]]; }
  };
  const clamp = (o, low, p, x, q, high, r) => {
    for (let i = 0; i < o.length; i++) o[i] = Math.min(Math.max(x[i & q], low[i & p]), high[i & r]);
  };

  function takeFloat32(o, a, where) { for (let i = 0; i < o.length; i++) o[i] = a[where[i]]; }
  function takeAny(o, a, where) { for (let i = 0; i < o.length; i++) o[i] = a[where[i]]; }
  const takeFor = (dtype) => (dtype === "f32" ? takeFloat32 : takeAny);

  function sumFloats(o, a, base, along) {
    for (let i = 0; i < o.length; i++) {
      let sum = 0;
      for (let j = 0, b = base[i]; j < along.length; j++) sum += a[b + along[j]];
      o[i] = sum;
    }
  }

  function reduceWith(f, first) {
    return (o, a, base, along) => {
      for (let i = 0; i < o.length; i++) {
        let result = first;
        for (let j = 0; j < along.length; j++) result = f(result, a[base[i] + along[j]]);
        o[i] = result;
      }
    };
  }

  function bestIndex(better) { // the first of the best, or the first that is not a number
    return (o, a, base, along) => {
      for (let i = 0; i < o.length; i++) {
        let at = 0, best = a[base[i]];
        for (let j = 1; j < along.length && best === best; j++) {
          const x = a[base[i] + along[j]];
          if (better(x, best) || x !== x) { best = x; at = j; }
        }
        o[i] = at;
      }
    };
  }

  const LIMITS = { i32: [-(2 ** 31), 2 ** 31 - 1], u32: [0, 2 ** 32 - 1], i64: [-(2 ** 63), 2 ** 63], bool: [0, 1] };
  const lowest = (dtype) => (LIMITS[dtype] || [-Infinity])[0];
  const highest = (dtype) => (LIMITS[dtype] || [0, Infinity])[1];

  const addExp = (a, b) => {
    const m = Math.max(a, b);
    return m === -Infinity ? m : m + Math.log1p(Math.exp(-Math.abs(a - b)));
  };

  /** How two numbers are combined by reductions, cumulations and scatters, and the neutral element. */
  function monoid(name, dtype) {
    const by = (operation) => scalarFunction(operation, dtype, dtype);
    switch (name) {
      case "sum": case "add": return [by("add"), 0];
      case "prod": case "mul": return [by("mul"), 1];
      case "max": return [Math.max, lowest(dtype)];
      case "min": return [Math.min, highest(dtype)];
      case "and": return [by("and"), dtype === "bool" ? 1 : -1];
      case "or": return [by("or"), 0];
      case "xor": return [by("xor"), 0];
      case "logsumexp": return [addExp, -Infinity];
      case "sub": return [by("sub"), 0];
      case "set": return [(a, b) => b, 0];
    }
  }

  /** o[m, n] = sum_k a[m, k] b[k, n], each array from an offset with its own strides, in tiles of 2 x 4. */
  function dotFloats(o, at, a, a0, am, ak, b, b0, bk, bn, M, N, K, om, on) {
    let m = 0;
    for (; m + 1 < M; m += 2) {
      let n = 0;
      for (; n + 3 < N; n += 4) {
        let s00 = 0, s01 = 0, s02 = 0, s03 = 0, s10 = 0, s11 = 0, s12 = 0, s13 = 0;
        let p = a0 + m * am, q = b0 + n * bn;
        for (let k = 0; k < K; k++) {
          const x = a[p], y = a[p + am];
          const u = b[q], v = b[q + bn], w = b[q + 2 * bn], z = b[q + 3 * bn];
          s00 += x * u; s01 += x * v; s02 += x * w; s03 += x * z;
          s10 += y * u; s11 += y * v; s12 += y * w; s13 += y * z;
          p += ak; q += bk;
        }
        const i = at + m * om + n * on, j = i + om;
        o[i] = s00; o[i + on] = s01; o[i + 2 * on] = s02; o[i + 3 * on] = s03;
        o[j] = s10; o[j + on] = s11; o[j + 2 * on] = s12; o[j + 3 * on] = s13;
      }
      for (; n < N; n++) {
        let s = 0, t = 0;
        for (let k = 0, p = a0 + m * am, q = b0 + n * bn; k < K; k++, p += ak, q += bk) {
          s += a[p] * b[q];
          t += a[p + am] * b[q];
        }
        o[at + m * om + n * on] = s; o[at + (m + 1) * om + n * on] = t;
      }
    }
    if (m < M) {
      for (let n = 0; n < N; n++) {
        let s = 0;
        for (let k = 0, p = a0 + m * am, q = b0 + n * bn; k < K; k++, p += ak, q += bk) s += a[p] * b[q];
        o[at + m * om + n * on] = s;
      }
    }
  }

  const dotWith = ([add], [mul]) => (o, at, a, a0, am, ak, b, b0, bk, bn, M, N, K, om, on) => {
    for (let m = 0; m < M; m++) for (let n = 0; n < N; n++) {
      let s = 0;
      for (let k = 0; k < K; k++) s = add(s, mul(a[a0 + m * am + k * ak], b[b0 + k * bk + n * bn]));
      o[at + m * om + n * on] = s;
    }
  };

  // --- Planning: values, arrays, steps ------------------------------------------------------------------------------
  // A value is {type, data, owner}. `data` has one element per element of the value, or a single one that stands for
  // all. `owner` counts the values that share an array; an array without owner (constants, inputs) is never reused.

  class Plan {
    constructor(program) {
      this.functions = program.functions;
      this.types = program.types.map(([dtype, shape]) => ({ dtype, shape, size: product(shape) }));
      this.constants = program.constants.map(([type, stored]) => constant(this.types[type], stored));
      this.free = new Map();
      this.steps = [];
    }

    step(action) { this.steps.push(action); }

    /** A value with an array of its own, or with a single element that stands for all. */
    alloc(type, length = type.size) {
      const spare = this.free.get(type.dtype + length);
      const data = spare && spare.length ? spare.pop() : new ARRAYS[type.dtype](length);
      return { type, data, owner: { users: 1 } };
    }

    /** The same array seen as another type. */
    alias(value, type) {
      if (value.owner) value.owner.users++;
      return { type, data: value.data, owner: value.owner };
    }

    release(value) {
      if (!value.owner || --value.owner.users > 0) return;
      const key = value.type.dtype + value.data.length;
      if (!this.free.has(key)) this.free.set(key, []);
      this.free.get(key).push(value.data);
    }

    /** A value's array, one element per element; `scratch` collects what is needed until the operation ends. */
    full(value, scratch) {
      if (value.data.length === value.type.size) return value.data;
      const whole = this.alloc(value.type), from = value.data;
      scratch.push(whole);
      this.step(() => whole.data.fill(from[0]));
      return whole.data;
    }

    /** Plan function `index` on `inputs`: steps in a list of their own, outputs that stay until `done` is called. */
    block(index, inputs) {
      const { ops, outputs } = this.functions[index];
      const values = inputs.slice(), outer = this.steps, steps = (this.steps = []);
      const last = new Map();
      ops.forEach(([, operands], at) => operands.forEach((k) => last.set(k, at)));
      outputs.forEach((k) => last.set(k, Infinity));
      const value = (k) => (k < 0 ? this.constants[-1 - k] : values[k]);

      ops.forEach(([name, operands, types, params = {}], at) => {
        const plan = OPS[name];
        if (!plan) throw new Error(`CMLProgram does not know the operation "${name}". ${MATCH}`);
        const dying = [...new Set(operands)].filter((k) => k >= inputs.length && last.get(k) === at).map(value);
        const scratch = [];
        const overwrite = () => dying.splice(0).forEach((v) => this.release(v)); // from then on, results may lie there
        const made = plan({
          plan: this, name, params, scratch, overwrite, ins: operands.map(value), types: pick(this.types, types),
        });
        overwrite();
        scratch.forEach((v) => this.release(v));
        made.forEach((v) => {
          values.push(v);
          if (!last.has(values.length - 1)) this.release(v);
        });
      });

      this.steps = outer;
      const owned = [...new Set(outputs)].filter((k) => k >= inputs.length).map(value);
      return { steps, outputs: outputs.map(value), done: () => owned.forEach((v) => this.release(v)) };
    }
  }

  function constant(type, stored) {
    if (typeof stored === "number") return { type, data: ARRAYS[type.dtype].of(stored), owner: null };
    const text = atob(stored), bytes = Uint8Array.from(text, (c) => c.charCodeAt(0));
    return { type, data: new ARRAYS[type.dtype](bytes.buffer), owner: null };
  }

  function runSteps(steps) { for (let i = 0; i < steps.length; i++) steps[i](); }

  /** Copy a value into an array that has room for all its elements. */
  function copyTo(target, value) {
    const from = value.data;
    return from.length === target.length ? () => target.set(from) : () => target.fill(from[0]);
  }

  // --- Operations: each plans its steps and returns its values ------------------------------------------------------

  const OPS = {};

  function elementwise({ plan, name, params, scratch, overwrite, ins, types: [type] }) {
    const dtype = ins[ins.length - 1].type.dtype;
    const single = ins.every((v) => v.data.length === 1);
    const args = [];
    for (const v of ins) {
      const data = v.data.length === 1 || v.type.size === type.size ? v.data : stretched(plan, v, type, scratch);
      args.push(data, data.length === 1 && !single ? 0 : -1);
    }
    overwrite();
    const out = plan.alloc(type, single ? 1 : type.size), o = out.data;
    const oneFloat = isFloat(dtype) && ins.every((v) => v.type.dtype === dtype || v.type.dtype === "bool");
    const loop = loopFor(name, oneFloat, ins, type, params);
    const [a, p, b, q, c, r] = args;
    if (ins.length === 1) plan.step(() => loop(o, a));
    else if (ins.length === 2) plan.step(() => loop(o, a, p, b, q));
    else if (ins.length === 3) plan.step(() => loop(o, a, p, b, q, c, r));
    else plan.step(() => loop(o, ...args));
    return [out];
  }

  function loopFor(name, oneFloat, ins, type, params) {
    if (oneFloat && FAST[name] && ins.length <= 3) return FAST[name];
    if (name === "select_n") return select;
    if (name === "clamp") return clamp;
    const f = scalarFunction(name, ins[0].type.dtype, type.dtype, params);
    return ins.length === 1 ? each1(f) : each2(f);
  }

  /** An operand with axes of length 1, repeated to the shape of `type`. */
  function stretched(plan, value, type, scratch) {
    const strides = stridesOf(value.type.shape).map((s, d) => (value.type.shape[d] === 1 ? 0 : s));
    const whole = plan.alloc({ ...value.type, size: type.size }), { data } = value;
    const where = offsets(type.shape, strides), take = takeFor(value.type.dtype);
    scratch.push(whole);
    plan.step(() => take(whole.data, data, where));
    return whole.data;
  }

  const names = [...Object.keys(UNARY), ...Object.keys(BINARY), "mul", "square", "integer_pow", "round", "not",
    "convert_element_type", "select_n", "clamp"];
  for (const name of names) OPS[name] = elementwise;

  /** An operation that moves elements: `where` says which element of the operand each element of the result is. */
  function moving(where) {
    return (c) => {
      const { plan, ins: [x], types: [type] } = c;
      if (x.data.length === 1) return [plan.alias(x, type)];
      const map = where(x.type, type, c.params), out = plan.alloc(type), take = takeFor(type.dtype);
      const o = out.data, a = x.data;
      plan.step(() => take(o, a, map));
      return [out];
    };
  }

  OPS.reshape = ({ plan, ins: [x], types: [type] }) => [plan.alias(x, type)];
  OPS.broadcast_in_dim = moving((from, to, { dims }) => {
    const strides = to.shape.map(() => 0);
    stridesOf(from.shape).forEach((s, d) => { if (from.shape[d] !== 1) strides[dims[d]] = s; });
    return offsets(to.shape, strides);
  });
  OPS.transpose = moving((from, to, { permutation }) => offsets(to.shape, pick(stridesOf(from.shape), permutation)));
  OPS.slice = moving((from, to, { start, strides }) => {
    const own = stridesOf(from.shape);
    return offsets(to.shape, own.map((s, d) => s * strides[d]), own.reduce((sum, s, d) => sum + s * start[d], 0));
  });
  OPS.rev = moving((from, to, { dimensions }) => {
    const own = stridesOf(from.shape), turned = own.map((s, d) => (dimensions.includes(d) ? -s : s));
    return offsets(to.shape, turned, dimensions.reduce((sum, d) => sum + own[d] * (from.shape[d] - 1), 0));
  });

  OPS.split = (c) => {
    let at = 0;
    return c.types.map((type, i) => {
      const start = type.shape.map((_, d) => (d === c.params.axis ? at : 0));
      at += c.params.sizes[i];
      return OPS.slice({ ...c, types: [type], params: { start, strides: start.map(() => 1) } })[0];
    });
  };

  OPS.concatenate = ({ plan, ins, types: [type], params: { dimension } }) => {
    const out = plan.alloc(type), o = out.data, strides = stridesOf(type.shape);
    let start = 0;
    for (const { type: { shape, size }, data } of ins) {
      const at = offsets(shape, strides, start), single = data.length === 1 && size !== 1, from = start;
      if (dimension === 0 && !single) plan.step(() => o.set(data, from));
      else plan.step(() => { for (let i = 0; i < at.length; i++) o[at[i]] = data[single ? 0 : i]; });
      start += strides[dimension] * shape[dimension];
    }
    return [out];
  };

  OPS.pad = ({ plan, ins: [x, value], types: [type], params: { padding }, scratch }) => {
    const a = plan.full(x, scratch), fill = value.data, out = plan.alloc(type), o = out.data;
    const { shape, size } = x.type, strides = stridesOf(type.shape), from = [], to = [];
    for (let i = 0; i < size; i++) { // the elements of x that fall inside: a negative edge cuts
      let rest = i, at = 0, inside = true;
      for (let d = shape.length - 1; d >= 0; d--) {
        const [low, , between] = padding[d], place = low + (rest % shape[d]) * (between + 1);
        rest = Math.floor(rest / shape[d]);
        inside = inside && place >= 0 && place < type.shape[d];
        at += place * strides[d];
      }
      if (inside) { from.push(i); to.push(at); }
    }
    plan.step(() => {
      o.fill(fill[0]);
      for (let i = 0; i < from.length; i++) o[to[i]] = a[from[i]];
    });
    return [out];
  };

  OPS.iota = ({ types: [type], params: { dimension } }) => {
    const inner = product(type.shape.slice(dimension + 1)), n = type.shape[dimension];
    const data = ARRAYS[type.dtype].from({ length: type.size }, (_, i) => Math.floor(i / inner) % n);
    return [{ type, data, owner: null }];
  };

  // Reductions and everything along one axis.

  /** A reduction over `axes`: where each result's elements start, and how far from there they lie. */
  function along(type, axes) {
    const strides = stridesOf(type.shape), rest = range(type.shape.length).filter((d) => !axes.includes(d));
    return [offsets(pick(type.shape, rest), pick(strides, rest)), offsets(pick(type.shape, axes), pick(strides, axes))];
  }

  const reduction = (loop) => ({ plan, ins: [x], types: [type], params: { axes }, scratch }) => {
    const a = plan.full(x, scratch), out = plan.alloc(type), o = out.data;
    const [base, steps] = along(x.type, axes), run = loop(x.type.dtype);
    plan.step(() => run(o, a, base, steps));
    return [out];
  };
  for (const name of ["sum", "prod", "max", "min", "and", "or", "xor"])
    OPS["reduce_" + name] = reduction((dtype) =>
      name === "sum" && isFloat(dtype) ? sumFloats : reduceWith(...monoid(name, dtype)));
  OPS.argmax = reduction(() => bestIndex((x, best) => x > best));
  OPS.argmin = reduction(() => bestIndex((x, best) => x < best));

  for (const name of ["sum", "prod", "max", "min", "logsumexp"])
    OPS["cum" + name] = ({ plan, ins: [x], types: [type], params: { axis, reverse }, scratch }) => {
      const a = plan.full(x, scratch), out = plan.alloc(type), o = out.data;
      const [base, steps] = along(type, [axis]), [f] = monoid(name, type.dtype);
      if (reverse) steps.reverse();
      plan.step(() => {
        for (const b of base) {
          let total = a[b + steps[0]];
          o[b + steps[0]] = total;
          for (let j = 1; j < steps.length; j++) o[b + steps[j]] = total = f(total, a[b + steps[j]]);
        }
      });
      return [out];
    };

  OPS.sort = ({ plan, ins, types, params: { axis, keys }, scratch }) => {
    const data = ins.map((v) => plan.full(v, scratch)), outs = types.map((t) => plan.alloc(t));
    const [base, steps] = along(types[0], [axis]);
    const compare = (a, b) => (a < b ? -1 : a > b ? 1 : a === b ? 0 : (a !== a) - (b !== b)); // NaN last
    plan.step(() => {
      for (const b of base) {
        const order = Array.from(steps, (s) => b + s).sort((i, j) => {
          for (let k = 0; k < keys; k++) { const c = compare(data[k][i], data[k][j]); if (c) return c; }
          return 0;
        });
        outs.forEach((out, k) => order.forEach((from, j) => { out.data[b + steps[j]] = data[k][from]; }));
      }
    });
    return outs;
  };

  // Products.

  /** One stride that walks through all these axes in order, or undefined if there is none. */
  function oneStride(shape, strides, axes) {
    const real = axes.filter((d) => shape[d] !== 1);
    const joined = real.every((d, i) => i === 0 || strides[real[i - 1]] === strides[d] * shape[d]);
    return joined ? (real.length ? strides[real[real.length - 1]] : 0) : undefined;
  }

  /** A factor of a product as (batch, free, contracted) strides; copied into that order if it does not lie so. */
  function factor(plan, value, batch, contract, scratch) {
    const { shape, dtype, size } = value.type, own = stridesOf(shape);
    const free = range(shape.length).filter((d) => !batch.includes(d) && !contract.includes(d));
    const groups = [batch, free, contract], sizes = groups.map((g) => product(pick(shape, g)));
    const strides = groups.map((g) => oneStride(shape, own, g));
    let data = plan.full(value, scratch);
    if (!strides.includes(undefined)) return { data, sizes, strides };
    const order = groups.flat(), where = offsets(pick(shape, order), pick(own, order));
    const copy = plan.alloc(value.type), from = data, take = takeFor(dtype);
    scratch.push(copy);
    plan.step(() => take(copy.data, from, where));
    return { data: copy.data, sizes, strides: [sizes[1] * sizes[2], sizes[2], 1] };
  }

  OPS.dot_general = ({ plan, ins: [x, y], types: [type], params: { contract, batch }, scratch }) => {
    const a = factor(plan, x, batch[0], contract[0], scratch), b = factor(plan, y, batch[1], contract[1], scratch);
    const [B, M, K] = a.sizes, N = b.sizes[1];
    const [ab, am, ak] = a.strides, [bb, bn, bk] = b.strides;
    const out = plan.alloc(type), o = out.data;
    const same = isFloat(type.dtype) && [x, y].every((v) => v.type.dtype === type.dtype);
    const dot = same ? dotFloats : dotWith(monoid("sum", type.dtype), monoid("prod", type.dtype));
    const tall = N < 4 && M > N; // tiles are wider than high: a tall result is computed as its transpose
    plan.step(() => {
      for (let i = 0; i < B; i++) {
        if (tall) dot(o, i * M * N, b.data, i * bb, bn, bk, a.data, i * ab, ak, am, N, M, K, 1, N);
        else dot(o, i * M * N, a.data, i * ab, am, ak, b.data, i * bb, bk, bn, M, N, K, N, 1);
      }
    });
    return [out];
  };

  // Indexing by computed positions.

  const clip = (i, low, high) => Math.min(Math.max(known(i), low), high);

  /** A function that says where a window starts, the start of each axis being held inside. */
  function windowStart(shape, window, indices) {
    const strides = stridesOf(shape);
    return () => {
      let start = 0;
      for (let d = 0; d < shape.length; d++) start += strides[d] * clip(indices[d].data[0], 0, shape[d] - window[d]);
      return start;
    };
  }

  OPS.dynamic_slice = ({ plan, ins: [x, ...indices], types: [type], scratch }) => {
    const a = plan.full(x, scratch), out = plan.alloc(type), o = out.data;
    const start = windowStart(x.type.shape, type.shape, indices), where = offsets(type.shape, stridesOf(x.type.shape));
    plan.step(() => { const s = start(); for (let i = 0; i < where.length; i++) o[i] = a[s + where[i]]; });
    return [out];
  };

  OPS.dynamic_update_slice = ({ plan, ins: [x, update, ...indices], types: [type], scratch }) => {
    const u = plan.full(update, scratch), out = plan.alloc(type), o = out.data, fill = copyTo(o, x);
    const start = windowStart(type.shape, update.type.shape, indices);
    const where = offsets(update.type.shape, stridesOf(type.shape));
    plan.step(() => { const s = start(); fill(); for (let i = 0; i < where.length; i++) o[s + where[i]] = u[i]; });
    return [out];
  };

  /** What gather and scatter share: windows of a big array (`shape`), laid out in a small one (`parts`).
   *  `visit(k, start, place)` is called for the k-th index; start is -1 for a window out of bounds. */
  function windows(shape, parts, sizes, indices, i, { offset, collapsed, map, batch, mode }) {
    const big = stridesOf(shape), small = stridesOf(parts), places = indices.shape.slice(0, -1), depth = map.length;
    const rest = range(parts.length).filter((d) => !offset.includes(d));
    const kept = range(shape.length).filter((d) => !collapsed.includes(d));
    const place = offsets(places, pick(small, rest));
    const along = places.map((_, d) => (batch[1].includes(d) ? big[batch[0][batch[1].indexOf(d)]] : 0));
    const base = offsets(places, along);
    return {
      inBig: offsets(pick(sizes, kept), pick(big, kept)),
      inSmall: offsets(pick(sizes, kept), pick(small, offset)),
      visit(action) {
        for (let k = 0; k < place.length; k++) {
          let start = base[k];
          for (let j = 0; j < depth && start >= 0; j++) {
            const d = map[j], room = shape[d] - sizes[d], at = i[k * depth + j], held = clip(at, 0, room);
            start = at === held || mode === "clip" ? start + held * big[d] : -1;
          }
          action(start, place[k]);
        }
      },
    };
  }

  OPS.gather = ({ plan, ins: [x, indices], types: [type], params, scratch }) => {
    const a = plan.full(x, scratch), i = plan.full(indices, scratch), out = plan.alloc(type), o = out.data;
    const { inBig, inSmall, visit } = windows(x.type.shape, type.shape, params.sizes, indices.type, i, params);
    const { dtype } = type, most = dtype === "u32" || dtype === "bool" ? highest(dtype) : lowest(dtype);
    const missing = params.fill ?? (isFloat(dtype) ? NaN : most);
    plan.step(() => visit((start, place) => {
      for (let w = 0; w < inBig.length; w++) o[place + inSmall[w]] = start < 0 ? missing : a[start + inBig[w]];
    }));
    return [out];
  };

  OPS.scatter = ({ plan, ins: [x, indices, updates], types: [type], params, scratch }) => {
    const i = plan.full(indices, scratch), u = plan.full(updates, scratch), out = plan.alloc(type), o = out.data;
    const fill = copyTo(o, x), [f] = monoid(params.update, type.dtype);
    const kept = range(type.shape.length).filter((d) => !params.collapsed.includes(d));
    const sizes = type.shape.map((_, d) => (kept.includes(d) ? updates.type.shape[params.offset[kept.indexOf(d)]] : 1));
    const { inBig, inSmall, visit } = windows(type.shape, updates.type.shape, sizes, indices.type, i, params);
    plan.step(() => {
      fill();
      visit((start, place) => {
        if (start < 0) return;
        for (let w = 0; w < inBig.length; w++) o[start + inBig[w]] = f(o[start + inBig[w]], u[place + inSmall[w]]);
      });
    });
    return [out];
  };

  // Linear algebra on small matrices, in double precision.

  OPS.lu = ({ plan, ins: [x], types, scratch }) => {
    const a = plan.full(x, scratch), [lu, pivots, order] = types.map((t) => plan.alloc(t));
    const [m, n] = x.type.shape.slice(-2), k = Math.min(m, n), w = new Float64Array(m * n);
    plan.step(() => {
      for (let s = 0; s < a.length / (m * n); s++) {
        const p = range(m);
        for (let i = 0; i < m * n; i++) w[i] = a[s * m * n + i];
        for (let c = 0; c < k; c++) {
          let best = c;
          for (let r = c + 1; r < m; r++) if (Math.abs(w[r * n + c]) > Math.abs(w[best * n + c])) best = r;
          pivots.data[s * k + c] = best;
          [p[c], p[best]] = [p[best], p[c]];
          for (let j = 0; j < n; j++) [w[c * n + j], w[best * n + j]] = [w[best * n + j], w[c * n + j]];
          for (let r = c + 1; r < m; r++) {
            const f = w[c * n + c] === 0 ? 0 : (w[r * n + c] /= w[c * n + c]);
            for (let j = c + 1; j < n; j++) w[r * n + j] -= f * w[c * n + j];
          }
        }
        lu.data.set(w, s * m * n);
        order.data.set(p, s * m);
      }
    });
    return [lu, pivots, order];
  };

  OPS.cholesky = ({ plan, ins: [x], types: [type], scratch }) => {
    const a = plan.full(x, scratch), out = plan.alloc(type), n = type.shape[type.shape.length - 1];
    const w = new Float64Array(n * n);
    plan.step(() => {
      for (let s = 0; s < type.size; s += n * n) {
        w.fill(0);
        for (let i = 0; i < n; i++) for (let j = 0; j <= i; j++) {
          let sum = a[s + i * n + j];
          for (let k = 0; k < j; k++) sum -= w[i * n + k] * w[j * n + k];
          w[i * n + j] = i === j ? Math.sqrt(sum) : sum / w[j * n + j];
        }
        out.data.set(w, s);
      }
    });
    return [out];
  };

  OPS.triangular_solve = ({ plan, ins: [x, y], types: [type], params: { left, lower, transpose, unit }, scratch }) => {
    const a = plan.full(x, scratch), b = plan.full(y, scratch), out = plan.alloc(type);
    const n = x.type.shape[x.type.shape.length - 1], [rows, columns] = type.shape.slice(-2), count = rows * columns;
    // Solving from the right, X A = B, is solving A^T X^T = B^T.
    const turned = transpose === left; // the elements of a line lie `step` apart, the lines `gap`
    const [step, lines, gap] = left ? [columns, columns, 1] : [1, rows, columns];
    const at = (s, i, j) => a[s * n * n + (turned ? j * n + i : i * n + j)];
    const order = lower !== turned ? range(n) : range(n).reverse(), w = new Float64Array(n);
    plan.step(() => {
      for (let s = 0; s < type.size / count; s++) for (let line = 0; line < lines; line++) {
        const start = s * count + line * gap;
        order.forEach((i, done) => {
          let sum = b[start + i * step];
          for (let k = 0; k < done; k++) sum -= at(s, i, order[k]) * w[order[k]];
          w[i] = unit ? sum : sum / at(s, i, i);
        });
        for (let i = 0; i < n; i++) out.data[start + i * step] = w[i];
      }
    });
    return [out];
  };

  // Control flow.

  /** Steps that copy `values` into `targets`, none written before it was read; of a batch, the members that `goOn`. */
  function exchange(plan, targets, values, scratch, goOn = [1]) {
    const steps = [], late = [];
    const copy = goOn.length === 1 ? copyTo : (target, { data }) => {
      const n = target.length / goOn.length, single = data.length === 1;
      return () => {
        for (let i = 0; i < target.length; i++) if (goOn[Math.floor(i / n)]) target[i] = data[single ? 0 : i];
      };
    };
    values.forEach((v, i) => {
      const target = targets[i].data;
      if (v.data === target) return;
      if (targets.some((t) => t.data === v.data)) { // another target that is overwritten too: keep a copy first
        const kept = plan.alloc(targets[i].type);
        scratch.push(kept);
        steps.push(copyTo(kept.data, v));
        late.push(copy(target, kept));
      } else late.push(copy(target, v));
    });
    return [...steps, ...late];
  }

  OPS.scan = ({ plan, ins, types, params: { consts, carry, length, reverse, functions: [index] }, scratch }) => {
    const made = types.map((t) => plan.alloc(t)), state = made.slice(0, carry), stacked = made.slice(carry);
    const slices = ins.slice(consts + carry), scanned = slices.map(({ type }) => {
      const shape = type.shape.slice(1);
      return plan.alloc({ dtype: type.dtype, shape, size: product(shape) });
    });
    scratch.push(...scanned);
    const load = slices.map((v, k) => rowReader(scanned[k].data, v));
    const start = state.map((v, k) => copyTo(v.data, ins[consts + k]));
    const body = plan.block(index, [...ins.slice(0, consts), ...state, ...scanned]);
    const store = stacked.map((v, k) => rowWriter(v.data, length, body.outputs[carry + k]));
    const next = exchange(plan, state, body.outputs.slice(0, carry), scratch);
    body.done();
    plan.step(() => {
      runSteps(start);
      for (let t = 0; t < length; t++) {
        const row = reverse ? length - 1 - t : t;
        for (let k = 0; k < load.length; k++) load[k](row);
        runSteps(body.steps);
        for (let k = 0; k < store.length; k++) store[k](row);
        runSteps(next);
      }
    });
    return made;
  };

  function rowReader(target, { data, type }) {
    const n = target.length;
    if (data.length !== type.size) return () => target.fill(data[0]);
    return (row) => { for (let i = 0, at = row * n; i < n; i++) target[i] = data[at + i]; };
  }

  function rowWriter(target, length, { data }) {
    const n = length && target.length / length;
    return data.length === n ? (row) => target.set(data, row * n) : (row) => target.fill(data[0], row * n, row * n + n);
  }

  OPS.while = ({ plan, ins, types, params: { consts: [first, second], functions: [condition, index] }, scratch }) => {
    const state = types.map((t) => plan.alloc(t));
    const start = state.map((v, k) => copyTo(v.data, ins[first + second + k]));
    const test = plan.block(condition, [...ins.slice(0, first), ...state]), goOn = test.outputs[0].data;
    const body = plan.block(index, [...ins.slice(first, first + second), ...state]);
    const next = exchange(plan, state, body.outputs, scratch, goOn);
    test.done();
    body.done();
    plan.step(() => {
      runSteps(start);
      for (runSteps(test.steps); goOn.includes(1); runSteps(test.steps)) {
        runSteps(body.steps);
        runSteps(next);
      }
    });
    return state;
  };

  OPS.cond = ({ plan, ins: [which, ...args], types, params: { functions } }) => {
    const outs = types.map((t) => plan.alloc(t));
    const branches = functions.map((index) => {
      const branch = plan.block(index, args);
      const steps = [...branch.steps, ...outs.map((v, k) => copyTo(v.data, branch.outputs[k]))];
      branch.done();
      return steps;
    });
    plan.step(() => runSteps(branches[clip(which.data[0], 0, branches.length - 1)]));
    return outs;
  };

  // --- The two calls ------------------------------------------------------------------------------------------------

  /** Write the numbers that the caller gave into the inputs' arrays. */
  function readInputs(specs, inputs, given) {
    for (const name of Object.keys(given))
      if (!specs.some((spec) => spec.name === name))
        throw new Error(`The program has no input "${name}"; it has ${specs.map((spec) => spec.name).join(", ")}.`);
    specs.forEach(({ name, shape, dtype }, k) => {
      if (given[name] === undefined) throw new Error(`The program's input "${name}" is missing.`);
      const { data } = inputs[k], flat = [given[name]].flat(Infinity);
      const numbers = flat.flatMap((x) => (ArrayBuffer.isView(x) ? Array.from(x) : x));
      if (numbers.length !== data.length) {
        const takes = `its shape [${shape}] takes ${data.length}`;
        throw new Error(`The program's input "${name}" has ${numbers.length} numbers; ${takes}.`);
      }
      data.set(dtype === "i64" ? numbers.map(Math.trunc) : numbers);
    });
  }

  /** Plan a program once; the function that comes back runs it on {name: number, array or nested arrays}. */
  function compile(program) {
    if (!program || program.format !== "cml-program")
      throw new Error("CMLProgram.compile takes a program that cmlcore.explore.program.export wrote.");
    if (program.version !== VERSION)
      throw new Error(`The program has format version ${program.version}; this program.js runs ${VERSION}. ${MATCH}`);
    const plan = new Plan(program);
    const inputs = program.inputs.map(({ dtype, shape }) => {
      const type = { dtype, shape, size: product(shape) };
      return { type, data: new ARRAYS[dtype](type.size), owner: null };
    });
    const { steps, outputs } = plan.block(program.main, inputs);
    return (given) => {
      readInputs(program.inputs, inputs, given);
      runSteps(steps);
      const result = {};
      outputs.forEach((v, k) => {
        const data = new v.data.constructor(v.type.size), { name } = program.outputs[k];
        copyTo(data, v)();
        if (v.type.dtype === "i64" && data.includes(NaN)) throw new Error(`The output "${name}" ${LOST}`);
        result[name] = { shape: v.type.shape, dtype: v.type.dtype, data };
      });
      return result;
    };
  }

  /** Compile and run at once, for a program that runs a single time. */
  const run = (program, inputs) => compile(program)(inputs);

  return { VERSION, compile, run };
});
