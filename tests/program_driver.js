/* Runs many exported programs in one process: node program_driver.js cases.json script.js ... > results.json.
 * Numbers travel as base64 of their bytes, so that comparisons are exact. In a page, call `answer` directly. */
function answer(CMLProgram, cases) {
  const bytes = (data) => { let s = ""; new Uint8Array(data.buffer).forEach((b) => (s += String.fromCharCode(b))); return btoa(s); };
  return cases.map(({ program, inputs }) => {
    try {
      const run = CMLProgram.compile(program), results = inputs.map(run); // later settings must not see earlier ones
      return results.map((result) => Object.fromEntries(Object.entries(result).map(([name, { shape, dtype, data }]) =>
        [name, { shape, dtype, data: bytes(data) }])));
    } catch (error) {
      return { error: String(error) };
    }
  });
}

if (typeof process !== "undefined" && process.argv[2]) {
  const [file, ...scripts] = process.argv.slice(2), cases = JSON.parse(require("fs").readFileSync(file, "utf8"));
  scripts.forEach((script) => require(script));
  process.stdout.write(JSON.stringify(answer(CMLProgram, cases)));
}
