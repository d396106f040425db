// Runs the official conformance suite against a server, and tells what failed. With a baseline it
// runs the same against a second server (the one behind a gateway, say), and tells what differs.
//
//   npm ci --ignore-scripts
//   node run.mjs --url URL --label TEXT [--baseline-url URL] [--only TEXT] [--keep DIRECTORY]
//
// Exit code: 0 good; 1 a scored check failed, or differs for the worse; 2 wrong usage.

import { parseArgs } from 'node:util';
import { compare, printDifferences, printFailures, printTable, sum } from './report.mjs';
import { runSuite, suites } from './suite.mjs';

const { url, label, baselineUrl, only, keep } = readArguments();
const chosen = suites.filter((suite) => suite.title.includes(only));
if (chosen.length === 0) usage(`no suite has "${only}" in its name`);

let isGood = true;
let total = { passed: 0, failed: 0, warnings: 0 };
for (const suite of chosen) {
  const baseline = baselineUrl && (await runSuite(suite, baselineUrl, keep && `${keep}/baseline`));
  const run = await runSuite(suite, url, keep && `${keep}/tested`);

  printTable(`${suite.title}: ${label}`, run);
  printFailures(run);
  if (baseline) {
    const differences = compare(baseline, run);
    printDifferences(differences);
    isGood &&= differences.every((difference) => !difference.isWorse);
  }
  const scored = sum(run.scenarios.filter((scenario) => scenario.isScored));
  isGood &&= run.faults.length === 0 && scored.failed === 0 && scored.passed > 0;
  total = sum([total, scored]);
}
console.log(`\n${label}: scored checks of ${chosen.length} suite(s), ${total.warnings} warning(s)`);
console.log(`conformance: ${total.passed} passed, ${total.failed} failed`);
process.exitCode = isGood ? 0 : 1;

function readArguments() {
  const text = { type: 'string' };
  try {
    const { values } = parseArgs({
      options: { url: text, label: text, 'baseline-url': text, only: text, keep: text },
    });
    if (!values.url) usage('--url is missing');
    const { url, label = url, only = '', keep } = values;
    return { url, label, baselineUrl: values['baseline-url'], only, keep };
  } catch (error) {
    return usage(error.message);
  }
}

function usage(problem) {
  console.error(`${problem}\nusage: run.mjs --url URL [--label TEXT] [--baseline-url URL] [--only TEXT] [--keep DIRECTORY]`);
  process.exit(2);
}
