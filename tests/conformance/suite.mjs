// The suites, and one run of one of them: starts the suite's command with a Node.js that it can
// use, bounds its time, and reads the checks that it leaves behind as JSON.

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const home = join(here, 'node_modules/@modelcontextprotocol/conformance');

const NODE_MAJOR_MIN = 22;
const SCENARIO_TIMEOUT_MS = 30_000;
/** The longest suite takes 12 s; a server that hangs must not cost much more than this. */
const SUITE_TIMEOUT_MS = 240_000;

export const suites = [
  requirements('2025-11-25'),
  requirements('2026-07-28'),
  specVersion('2025-06-18'),
  specVersion('2025-03-26'),
  scenario('server-session-lifecycle'),
  scenario('server-sse-polling'),
  scenario('http-header-validation'),
  scenario('dns-rebinding-protection'),
];

function requirements(revision) {
  return { title: `requirements ${revision}`, flags: ['--requirements', revision], revision };
}

function specVersion(version) {
  return { title: `spec-version ${version}`, flags: ['--spec-version', version] };
}

function scenario(name) {
  return { title: `scenario ${name}`, flags: ['--scenario', name], name };
}

/**
 * Returns `{ scenarios: [{ name, isScored, checks, passed, failed, warnings }], faults: [text] }`;
 * a fault is anything that kept the suite itself from doing its work.
 */
export async function runSuite(suite, url, keep) {
  const directory = keep ? join(keep, suite.title.replaceAll(' ', '-')) : await mkdtemp(join(tmpdir(), 'conformance-'));
  try {
    const flags = ['server', '--url', url, ...suite.flags, '--timeout', `${SCENARIO_TIMEOUT_MS}`, '-o', directory];
    const { code, output, isLate } = await execute([join(home, 'dist/index.js'), ...flags]);
    return await collect(suite, directory, { code, output, isLate });
  } finally {
    if (!keep) await rm(directory, { recursive: true, force: true });
  }
}

async function collect(suite, directory, { code, output, isLate }) {
  const announced = [...output.matchAll(/^=== Running scenario: (\S+) ===$/gm)].map((match) => match[1]);
  const names = suite.name ? [suite.name] : announced;
  const unscored = suite.revision ? await unscoredScenarios(suite.revision) : new Map();
  const found = await readChecks(directory);

  const faults = [];
  const scenarios = names.map((name) => {
    const checks = found.get(name) ?? [];
    const reason = unscored.get(name);
    if (!found.has(name)) faults.push(`${name}: the suite left no result`);
    return { name, reason, isScored: reason === undefined, checks, ...count(checks) };
  });
  if (isLate) faults.push(`ended after ${SUITE_TIMEOUT_MS} ms`);
  if (names.length === 0) faults.push('no scenario was run');
  const hasFailed = scenarios.some((each) => each.isScored && each.failed > 0);
  if (code !== 0 && !hasFailed) faults.push(`exit code ${code} without a failed check`);
  if (faults.length > 0) faults.push(output.slice(-2000));
  return { scenarios, faults };
}

function count(checks) {
  const having = (status) => checks.filter((check) => check.status === status).length;
  return { passed: having('SUCCESS'), failed: having('FAILURE'), warnings: having('WARNING') };
}

/** Directories are called `server-NAME-TIME`. */
async function readChecks(directory) {
  const found = new Map();
  if (!existsSync(directory)) return found;
  for (const entry of await readdir(directory)) {
    const name = entry.match(/^server-(.+)-\d{4}-\d\d-\d\dT[\d-]+Z$/)?.[1];
    const file = join(directory, entry, 'checks.json');
    if (name && existsSync(file)) found.set(name, JSON.parse(await readFile(file, 'utf8')));
  }
  return found;
}

/** Scenarios that a revision runs without counting them, each with the reason. */
async function unscoredScenarios(revision) {
  const { parse } = createRequire(join(home, 'package.json'))('yaml');
  const set = parse(await readFile(join(home, `requirements/${revision}.yaml`), 'utf8'));
  const ofServers = (set.not_scored ?? []).filter((entry) => entry.leg === 'server');
  return new Map(ofServers.map((entry) => [entry.scenario, entry.reason]));
}

function execute(args) {
  return new Promise((resolve, reject) => {
    const child = spawn(nodeCommand(), args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    let isLate = false;
    const deadline = setTimeout(() => {
      isLate = true;
      child.kill('SIGKILL');
    }, SUITE_TIMEOUT_MS);
    child.stdout.setEncoding('utf8').on('data', (text) => (output += text));
    child.stderr.setEncoding('utf8').on('data', (text) => (output += text));
    child.on('error', reject);
    child.on('close', (code) => {
      clearTimeout(deadline);
      resolve({ code, output, isLate });
    });
  });
}

function nodeCommand() {
  const major = Number(process.versions.node.split('.')[0]);
  const own = join(here, 'node_modules/.bin/node');
  return major < NODE_MAJOR_MIN && existsSync(own) ? own : process.execPath;
}
