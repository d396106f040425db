// Named checks with bounded waits: one line each, a closing line with the sums, an exit code.
import assert from 'node:assert/strict';

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** The promise's outcome, or a failure that names what was awaited. */
export async function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing within ${ms} ms`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Waits until `probe` returns something truthy, and returns it. */
export async function until(what, probe, ms = 10_000) {
  for (const deadline = Date.now() + ms; ; await sleep(20)) {
    const found = probe();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`${what}: not within ${ms} ms`);
  }
}

/** Asserts that the numbers are 1, 2, … `last`, each once and in order. */
export function assertCounted(numbers, last, what) {
  assert.deepEqual(numbers, Array.from({ length: last }, (_, i) => i + 1), what);
}

export class Checks {
  #passed = 0;
  #failed = 0;
  #label;

  constructor(label = '', { totalSeconds = 120 } = {}) {
    this.#label = label && `${label}: `;
    setTimeout(() => {
      this.#fail('total time', `more than ${totalSeconds} s`);
      this.finish();
    }, totalSeconds * 1000).unref();
    process.on('unhandledRejection', (reason) => this.#fail('unhandled rejection', reason));
  }

  /**
   * Runs one check and prints its line. Returns what it returned, or undefined where it failed.
   * `known` names the reason why it may fail here: then it is printed, but not counted.
   */
  async run(name, check, { seconds = 15, known } = {}) {
    try {
      const result = await within(seconds * 1000, 'check', (async () => check())());
      this.#passed += 1;
      process.stdout.write(`ok ${this.#label}${name}\n`);
      return result;
    } catch (why) {
      if (known) process.stdout.write(`known ${this.#label}${name}: ${known}\n`);
      else this.#fail(name, why);
      return undefined;
    }
  }

  #fail(name, why) {
    this.#failed += 1;
    const text = why instanceof Error ? (why.code === 'ERR_ASSERTION' ? why.message : `${why.name}: ${why.message}`) : `${why}`;
    process.stdout.write(`FAIL ${this.#label}${name}: ${text.replace(/\s*\n\s*/g, ' | ').slice(0, 600)}\n`);
  }

  /** Prints the sums and ends the process. */
  finish() {
    process.stdout.write(`${this.#passed} passed, ${this.#failed} failed\n`, () => process.exit(this.#failed === 0 && this.#passed > 0 ? 0 : 1));
  }
}
