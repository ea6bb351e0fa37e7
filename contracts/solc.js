#!/usr/bin/env node
// The npm compiler as a command: standard JSON on stdin, standard JSON on stdout. `solcjs` will not do, because it
// prints a line before the JSON. Imports are part of the input, so nothing is looked up here.
"use strict";

const solc = require("solc");

if (process.argv.includes("--version")) {
  process.stdout.write(`solc, the solidity compiler commandline interface\nVersion: ${solc.version()}\n`);
} else {
  const input = require("fs").readFileSync(0, "utf8");
  process.stdout.write(solc.compile(input));
}
