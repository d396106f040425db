// Runs mcp-remote (stdio to HTTP) against a server without authorization, and speaks MCP through it.
//   node remote.mjs --url URL [--strategy http-first|http-only|sse-first|sse-only] [--protocol legacy|auto] [--label NAME]
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { assertCounted, Checks, within } from './checks.mjs';

const { values: options } = parseArgs({
  options: {
    url: { type: 'string' },
    strategy: { type: 'string', default: 'http-first' },
    protocol: { type: 'string', default: 'legacy' },
    label: { type: 'string', default: '' },
  },
});
const timeout = 20_000;
const checks = new Checks(options.label, { totalSeconds: 90 });
const home = await mkdtemp(join(tmpdir(), 'mcp-remote-'));

const program = join(createRequire(import.meta.url).resolve('mcp-remote/package.json'), '../dist/proxy.js');
const transport = new StdioClientTransport({
  command: process.execPath,
  args: [program, options.url, '--transport', options.strategy, '--protocol', options.protocol],
  env: { PATH: process.env.PATH, HOME: home, MCP_REMOTE_CONFIG_DIR: home },
  stderr: 'pipe',
});
let log = '';
transport.stderr.on('data', (text) => (log += text));
const received = [];
transport.onmessage = (message) => void received.push(message);
const client = new Client({ name: 'holdfast-remote', version: '1.0.0' });

const connected = await checks.run('initialize', async () => {
  await client.connect(transport, { timeout });
  assert.ok(client.getServerVersion().name);
  return true;
}, { seconds: 30 });
if (connected) {
  const { tools } = (await checks.run('tools/list', () => client.listTools({}, { timeout }), { seconds: 30 })) ?? { tools: [] };
  const echo = tools.find(({ name }) => name === 'echo');
  await checks.run('tools/call: echo', async () => {
    const [argument] = Object.keys(echo.inputSchema.properties);
    const { content } = await client.callTool({ name: 'echo', arguments: { [argument]: 'through mcp-remote 🦀' } }, undefined, { timeout });
    assert.match(content[0].text, /through mcp-remote 🦀$/);
  }, { seconds: 30 });
  const slow = tools.some(({ name }) => name === 'slow')
    ? { name: 'slow', arguments: { steps: 5, interval_ms: 200 } }
    : { name: 'trigger-long-running-operation', arguments: { duration: 1, steps: 5 } };
  await checks.run('tools/call: progress comes through, once and in order', async () => {
    await client.callTool(slow, undefined, { timeout, onprogress: () => {} });
    assertCounted(received.filter(({ method }) => method === 'notifications/progress').map(({ params }) => params.progress), 5);
  }, { seconds: 30 });
  await checks.run('close', () => within(5_000, 'the end of mcp-remote', client.close()));
} else {
  process.stderr.write(log.slice(-3000));
  await transport.close();
}
await rm(home, { recursive: true, force: true });
checks.finish();
