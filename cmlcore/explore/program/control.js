/* Control flow: loops, branches and functions that remember call the steps of other functions. */
"use strict";

CMLProgram.part("control", ({ arrays: { copyTo, product, runSteps }, numbers: { clip } }) => {
  const OPS = {};

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

  const REMEMBERED = 64; // results of one function, the newest ones

  /** A function that keeps what it made of its inputs; what they were is compared number by number. */
  OPS.remembered = ({ plan, ins, types, params: { functions: [index] } }) => {
    const outs = types.map((t) => plan.alloc(t)), body = plan.block(index, ins), kept = [];
    const take = outs.map((v, k) => copyTo(v.data, body.outputs[k]));
    body.done();
    const same = (given) => given.every((data, k) => data.every((x, i) => x === ins[k].data[i]));
    plan.step(() => {
      const found = kept.find(({ given }) => same(given));
      if (found) return found.made.forEach((data, k) => outs[k].data.set(data));
      runSteps(body.steps);
      runSteps(take);
      kept.unshift({ given: ins.map(({ data }) => data.slice()), made: outs.map(({ data }) => data.slice()) });
      kept.length = Math.min(kept.length, REMEMBERED);
    });
    return outs;
  };

  return OPS;
});
