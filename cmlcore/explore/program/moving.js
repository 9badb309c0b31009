/* Operations that move elements: to places that are known, and to places that are computed. */
"use strict";

CMLProgram.part("moving", ({
  arrays: { ARRAYS, copyTo, highest, isFloat, lowest, offsets, pick, product, range, stridesOf, takeFor },
  numbers: { clip, monoid },
}) => {
  const OPS = {};

  // --- To places that are known --------------------------------------------------------------------------------------

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

  // --- To places that are computed ---------------------------------------------------------------------------------

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

  return OPS;
});
