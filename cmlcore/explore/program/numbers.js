/* Numbers: what an operation does to one or two of them, in every dtype. */
"use strict";

CMLProgram.part("numbers", ({ arrays: { LIMITS, highest, isFloat, lowest } }) => {
  // --- Special functions --------------------------------------------------------------------------------------------

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

  // --- Tables of functions, for all dtypes and for some --------------------------------------------------------------

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
  const clip = (i, low, high) => Math.min(Math.max(known(i), low), high);
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

  // --- Of two numbers one -------------------------------------------------------------------------------------------

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

  return { BINARY, LOST, UNARY, clip, monoid, scalarFunction };
});
