/* Runs a program that `cmlcore.explore.program.export` wrote: a traced JAX function, in plain JavaScript.
 *
 *   const run = CMLProgram.compile(program);      // once: plans every array, returns a function
 *   const result = run({beta: 0.1, rate: 0.01});  // {name: {shape, dtype, data: typed array}}
 *
 * Works as <script>s (global `CMLProgram`), in a Web Worker, and in node. No dependency, no eval.
 *
 * How: arrays have known shapes, so `compile` gives each value of the program a typed array (arrays whose value is no
 * longer needed are used again) and turns each operation into one closure over its arrays, a *step*. To run is to call
 * the steps in order; loops call the steps of their body. Float32 values are rounded after every operation, as in JAX.
 *
 * This is the last of its scripts. Before it come, in this order:
 *   arrays       dtypes, shapes, where elements lie
 *   numbers      what an operation does to one or two numbers
 *   elementwise, reducing, moving, matrices, control
 *                the operations: each plans its steps and returns its values
 */
"use strict";

CMLProgram.part("program", ({
  arrays: { ARRAYS, copyTo, pick, product, runSteps }, numbers: { LOST }, elementwise, reducing, moving, matrices, control,
}) => {
  const VERSION = 1;
  const MATCH = "Load the scripts of the package that exported this program, or export it again.";
  const OPS = { ...elementwise, ...reducing, ...moving, ...matrices, ...control };

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
    if (ArrayBuffer.isView(stored)) return { type, data: stored, owner: null }; // from a file beside the page
    const text = atob(stored), bytes = Uint8Array.from(text, (c) => c.charCodeAt(0));
    return { type, data: new ARRAYS[type.dtype](bytes.buffer), owner: null };
  }

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
      throw new Error(`The program has format version ${program.version}; this page runs ${VERSION}. ${MATCH}`);
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

  Object.assign(CMLProgram, { VERSION, compile, run });
});
