/* Operations element by element. */
"use strict";

CMLProgram.part("elementwise", ({
  arrays: { isFloat, offsets, stridesOf, takeFor }, numbers: { BINARY, UNARY, scalarFunction },
}) => {
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

  return Object.fromEntries(names.map((name) => [name, elementwise]));
});
