// Starts @modelcontextprotocol/server-everything, unchanged, on 127.0.0.1.
//   node everything.mjs --port 3001 [--mode streamableHttp|sse] [--verbose]
// Prints "listening on URL" once it answers; ends with its standard input, or on SIGTERM.
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { sleep } from './checks.mjs';

const { values: options } = parseArgs({
  options: {
    port: { type: 'string', default: '3001' },
    mode: { type: 'string', default: 'streamableHttp' },
    verbose: { type: 'boolean', default: false },
  },
});

const url = `http://127.0.0.1:${options.port}/${options.mode === 'sse' ? 'sse' : 'mcp'}`;
const program = createRequire(import.meta.url).resolve('@modelcontextprotocol/server-everything/dist/index.js');
const loopback = fileURLToPath(new URL('loopback.mjs', import.meta.url));
const output = options.verbose ? 'inherit' : 'ignore';

// Its tool `get-env` shows the whole environment to every client: give it only what it needs.
const child = spawn(process.execPath, ['--import', loopback, program, options.mode], {
  env: { PATH: process.env.PATH, PORT: options.port },
  stdio: ['pipe', output, options.verbose ? 'inherit' : 'pipe'],
});
let complaint = '';
child.stderr?.on('data', (text) => (complaint = (complaint + text).slice(-2000)));

let ending = false;
function end() {
  ending = true;
  child.kill('SIGKILL'); // it has no handler for SIGTERM, and its SIGINT handler awaits nothing of use
}
child.on('exit', (code) => {
  if (!ending) process.stderr.write(`server-everything ended by itself: ${code}\n${complaint}\n`);
  process.exit(ending ? 0 : 1);
});
process.on('SIGTERM', end);
process.on('SIGINT', end);
process.stdin.on('end', end).on('close', end).resume();

for (const deadline = Date.now() + 20_000; Date.now() < deadline && !ending; await sleep(50)) {
  // A wrong path answers 404 in both modes, and opens nothing.
  const answered = await fetch(new URL('/absent', url), { signal: AbortSignal.timeout(2_000) }).catch(() => null);
  if (answered) {
    await answered.body?.cancel();
    process.stdout.write(`listening on ${url}\n`);
    break;
  }
}
