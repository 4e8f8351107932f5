// Answers the two questions forge asks a compiler: --version, and --standard-json on standard input.
// forge sends every source inside the JSON, so no import callback and no path option is needed.
"use strict";

const fs = require("fs");
const solc = require("solc");

const asked = process.argv.slice(2);
if (asked.includes("--version")) {
  console.log("solc, the solidity compiler commandline interface");
  console.log(`Version: ${solc.version()}`);
} else if (asked.includes("--standard-json")) {
  process.stdout.write(solc.compile(fs.readFileSync(0, "utf8")));
} else {
  console.error(`tools/solc: only --version and --standard-json are answered, not: ${asked.join(" ")}`);
  process.exitCode = 1;
}
