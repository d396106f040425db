// What is said about runs: a table, the failed checks, and what differs between two of them.

/**
 * The better, the smaller. INFO says that a server chose another way that is as good (JSON instead
 * of a stream). A check that is not there proves as little as one that was skipped.
 */
const RANKS = { SUCCESS: 0, INFO: 0, absent: 1, SKIPPED: 1, WARNING: 2, FAILURE: 3 };

const CHANGES = ['better', 'other', 'WORSE'];

export function sum(counts) {
  const add = (key) => counts.reduce((total, each) => total + each[key], 0);
  return { passed: add('passed'), failed: add('failed'), warnings: add('warnings') };
}

export function printTable(title, { scenarios }) {
  const width = Math.max(8, ...scenarios.map(({ name }) => name.length));
  const row = (name, { passed, failed, warnings }, note = '') =>
    console.log(`  ${name.padEnd(width)} ${cell(passed)} ${cell(failed)} ${cell(warnings)}${note}`);
  console.log(`\n${title}`);
  row('scenario', { passed: 'passed', failed: 'failed', warnings: 'warnings' });
  for (const scenario of scenarios) row(scenario.name, scenario, scenario.isScored ? '' : `  (${scenario.reason}: not scored)`);
  row('scored', sum(scenarios.filter((scenario) => scenario.isScored)));
  row('all', sum(scenarios));
}

function cell(value) {
  return String(value).padStart(8);
}

export function printFailures({ scenarios, faults }) {
  for (const fault of faults) console.log(`  FAULT ${fault}`);
  for (const { name, checks } of scenarios) {
    for (const { id, status, errorMessage = '' } of checks) {
      if (status === 'FAILURE' || status === 'WARNING') console.log(`  ${status} ${name} / ${id}: ${short(errorMessage)}`);
    }
  }
}

/** Every check whose outcome is not the same in both runs. */
export function compare(baseline, tested) {
  const before = outcomes(baseline);
  const after = outcomes(tested);
  const differences = [];
  for (const key of new Set([...before.keys(), ...after.keys()])) {
    const [old, now] = [before, after].map((all) => all.get(key) ?? { status: 'absent' });
    const isNoted = [old, now].some(({ status }) => status !== 'INFO' && status !== 'absent');
    if (isNoted && old.status !== now.status) {
      const change = Math.sign(RANKS[now.status] - RANKS[old.status]);
      differences.push({ key, change, isWorse: change > 0, old: old.status, now: now.status, message: now.errorMessage ?? '' });
    }
  }
  return differences;
}

/** Checks share ids, so each is known by scenario, id, name and its turn among the equal ones. */
function outcomes({ scenarios }) {
  const all = new Map();
  for (const { name, checks } of scenarios) {
    for (const check of checks) {
      const stem = `${name} / ${check.id} / ${check.name}`;
      let turn = 1;
      while (all.has(`${stem} #${turn}`)) turn += 1;
      all.set(`${stem} #${turn}`, check);
    }
  }
  return all;
}

export function printDifferences(differences) {
  if (differences.length === 0) console.log('  same outcome as the baseline');
  for (const { key, change, old, now, message } of differences) {
    console.log(`  ${CHANGES[change + 1]} ${key}: ${old} -> ${now} ${short(message)}`);
  }
}

function short(message) {
  const line = message.replaceAll(/\s+/g, ' ').trim();
  return line.length > 400 ? `${line.slice(0, 400)} …` : line;
}
