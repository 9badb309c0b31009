/* Large arrays of a program that lie in a file beside this one (beside.py): loaded when their figure comes near. */
var CMLBeside = (function () {
  "use strict";

  const here = document.currentScript.src, files = {}, loading = {};

  function load(key) {
    loading[key] ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = new URL(`${key}.js`, here).href;
      script.onload = () => resolve(files[key].map(numbers));
      script.onerror = () => reject(new Error(`${script.src} did not load`));
      document.head.append(script);
    });
    return loading[key];
  }

  /** Numbers of 16 bits as Float32Array: sign, five bits of exponent, ten of fraction. */
  function numbers(text) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    return Float32Array.from({ length: bytes.length / 2 }, (_, k) => {
      const bits = bytes[2 * k] | (bytes[2 * k + 1] << 8), exponent = (bits >> 10) & 31, part = (bits & 1023) / 1024;
      const size = exponent === 31 ? (part ? NaN : Infinity) : 2 ** Math.max(exponent - 15, -14) * (part + (exponent > 0));
      return bits >> 15 ? -size : size;
    });
  }

  /** A source whose program has all its constants. */
  async function filled(source) {
    if (!source.beside) return source;
    const arrays = await load(source.beside);
    const constants = source.program.constants.map(([type, value]) => [type, Array.isArray(value) ? arrays[value[0]] : value]);
    return { ...source, program: { ...source.program, constants } };
  }

  return { files, filled };
})();
