/* Products of arrays, and linear algebra on small matrices. */
"use strict";

CMLProgram.part("matrices", ({
  arrays: { isFloat, offsets, pick, product, range, stridesOf, takeFor }, numbers: { monoid },
}) => {
  const OPS = {};

  // --- Products -----------------------------------------------------------------------------------------------------

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

  // --- Linear algebra, in double precision --------------------------------------------------------------------------

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

  return OPS;
});
