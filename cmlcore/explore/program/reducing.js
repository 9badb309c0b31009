/* Operations along axes: reductions, cumulations, sorting. */
"use strict";

CMLProgram.part("reducing", ({
  arrays: { isFloat, offsets, pick, range, stridesOf }, numbers: { monoid },
}) => {
  const OPS = {};

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

  return OPS;
});
