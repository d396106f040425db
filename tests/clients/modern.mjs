// The SDK's newer line as a client of 2026-07-28, against a server that offers what Holdfast's fixture offers.
//   node modern.mjs --url URL [--label NAME] [--direct]
// --direct: no gateway is in between; what the fixture does not pass by itself is printed, but not counted.
import assert from 'node:assert/strict';
import { parseArgs } from 'node:util';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { z } from 'zod';
import { assertCounted, Checks, sleep, until, within } from './checks.mjs';
import { Wire } from './wire.mjs';

const { values: options } = parseArgs({
  options: { url: { type: 'string' }, label: { type: 'string', default: '' }, direct: { type: 'boolean', default: false } },
});
const revision = '2026-07-28';
const timeout = 10_000;
const checks = new Checks(options.label, { totalSeconds: 60 });

async function connect(mode) {
  const wire = new Wire();
  const transport = new StreamableHTTPClientTransport(new URL(options.url), { fetch: wire.fetch });
  const client = new Client(
    { name: 'holdfast-modern', version: '1.0.0' },
    { capabilities: { elicitation: { form: {} }, sampling: {}, roots: {} }, versionNegotiation: { mode } },
  );
  const session = { client, transport, wire, errors: [], asked: [] };
  client.onerror = (error) => session.errors.push(error);
  client.setRequestHandler('elicitation/create', (request) => {
    session.asked.push(request);
    return { action: 'accept', content: { name: 'Ünal 🦀' } };
  });
  await client.connect(transport, { timeout });
  return session;
}

const call = ({ client }, name, args = {}, limits = {}) => client.callTool({ name, arguments: args }, { timeout, ...limits });
const text = ({ content }) => content.map((part) => part.text ?? '').join('\n');
const counters = async (session) => (await call(session, 'counters')).structuredContent;

async function oneCall(session) {
  const { client, wire } = session;

  await checks.run('server/discover: versions, capabilities, server info', () => {
    assert.equal(client.getProtocolEra(), 'modern');
    assert.equal(client.getNegotiatedProtocolVersion(), revision);
    const discovered = client.getDiscoverResult();
    assert.ok(discovered.supportedVersions.includes(revision));
    assert.ok(discovered.capabilities.tools);
    assert.ok(client.getServerVersion().name);
  });

  await checks.run('no session: neither GET, nor initialize, nor a session id', () => {
    assert.ok(wire.exchanges.every(({ method, message }) => method === 'POST' && message.method !== 'initialize'));
    assert.ok(wire.exchanges.every(({ responseHeaders }) => !responseHeaders?.['mcp-session-id']));
  });

  await checks.run('tools/list, prompts/list, resources/list and read', async () => {
    const { tools } = await client.listTools({}, { timeout });
    assert.ok(tools.some(({ name }) => name === 'echo'));
    assert.ok((await client.listPrompts({}, { timeout })).prompts.length > 0);
    const { resources } = await client.listResources({}, { timeout });
    const { contents } = await client.readResource({ uri: resources[0].uri }, { timeout });
    assert.equal(contents[0].uri, resources[0].uri);
    const read = wire.findMessage('resources/read');
    assert.equal(read.headers['mcp-name'], resources[0].uri);
  });

  await checks.run('tools/call: with Mcp-Method, Mcp-Name and version', async () => {
    const said = 'a\nb\r\n\u2028 data: x\n\n🦀';
    assert.equal(text(await call(session, 'echo', { text: said })), said);
    const { headers } = wire.exchanges.findLast(({ message }) => message?.method === 'tools/call');
    assert.deepEqual([headers['mcp-method'], headers['mcp-name'], headers['mcp-protocol-version']], ['tools/call', 'echo', revision]);
  });

  await checks.run('tools/call: an argument mirrored in a header', async () => {
    assert.match(text(await call(session, 'call_in_region', { region: 'Zürich' })), /Zürich/);
    const { headers } = wire.exchanges.findLast(({ message }) => message?.params?.name === 'call_in_region');
    assert.match(headers['mcp-param-region'], /^=\?base64\?/);
  });

  await checks.run('unknown method: an error at once', async () => {
    const asked = client.request({ method: 'holdfast/unknown', params: {} }, z.any(), { timeout });
    await assert.rejects(within(3_000, 'the error', asked), /-32601|not found/i);
    assert.equal(wire.findMessage('holdfast/unknown').status, 404);
  });

  await checks.run('progress: every value once, in order, before the result; no event ids', async () => {
    const progress = [];
    const result = await call(session, 'slow', { steps: 8, interval_ms: 150 }, { onprogress: (step) => progress.push(step.progress) });
    assertCounted(progress, 8);
    assert.match(text(result), /8 steps/);
    assert.ok(wire.exchanges.every(({ headers }) => !headers['last-event-id']));
  });

  await checks.run('input_required: asked, answered, retried by itself', async () => {
    const result = await call(session, 'test_input_required_result_elicitation');
    assert.equal(session.asked.length, 1);
    assert.match(text(result), /Ünal 🦀/);
    const rounds = wire.exchanges.filter(({ message }) => message?.params?.name === 'test_input_required_result_elicitation');
    assert.equal(rounds.length, 2);
    assert.notEqual(rounds[0].message.id, rounds[1].message.id);
  });

  await checks.run('twenty calls at once', async () => {
    const said = Array.from({ length: 20 }, (_, i) => `number ${i}`);
    assert.deepEqual((await Promise.all(said.map((words) => call(session, 'echo', { text: words })))).map(text), said);
  });
}

async function cancelling(session) {
  const { wire } = session;

  await checks.run('cancel: closes the stream, sends nothing, and the server stops', async () => {
    const before = await counters(session);
    const abort = new AbortController();
    let steps = 0;
    const running = call(session, 'slow', { steps: 200, interval_ms: 100 }, { signal: abort.signal, onprogress: () => (steps += 1) });
    running.catch(() => {});
    await until('progress', () => steps >= 2);
    abort.abort('no longer wanted');
    await assert.rejects(within(1_000, 'rejection', running));
    assert.equal(wire.findMessage('notifications/cancelled'), undefined);
    for (const deadline = Date.now() + 5_000; (await counters(session)).cancelled <= before.cancelled; await sleep(100)) {
      assert.ok(Date.now() < deadline, 'the server never heard of it');
    }
  });
}

async function listening(session) {
  const { client } = session;
  const watched = 'test://watched-resource';
  const heard = { tools: 0, prompts: 0, updated: [] };
  client.setNotificationHandler('notifications/tools/list_changed', () => void (heard.tools += 1));
  client.setNotificationHandler('notifications/prompts/list_changed', () => void (heard.prompts += 1));
  client.setNotificationHandler('notifications/resources/updated', ({ params }) => void heard.updated.push(params.uri));

  await checks.run('subscriptions/listen: acknowledged, then what was asked for', async () => {
    const subscription = await client.listen({ toolsListChanged: true, resourceSubscriptions: [watched] }, { timeout });
    assert.equal(subscription.honoredFilter.toolsListChanged, true);
    assert.deepEqual(subscription.honoredFilter.resourceSubscriptions, [watched]);
    await call(session, 'test_trigger_prompt_change'); // not asked for
    await call(session, 'test_trigger_tool_change');
    await call(session, 'touch_resource', { uri: watched });
    await until('tools/list_changed', () => heard.tools >= 1);
    await until('resources/updated', () => heard.updated.length >= 1);
    await sleep(300);
    assert.deepEqual(heard, { tools: 1, prompts: 0, updated: [watched] });
    await subscription.close();
    assert.equal(await within(2_000, 'the end', subscription.closed), 'local');
  });

  await checks.run('subscriptions/listen: several at once, each with its own filter', async () => {
    Object.assign(heard, { tools: 0, prompts: 0, updated: [] });
    const one = await client.listen({ toolsListChanged: true }, { timeout });
    const two = await client.listen({ promptsListChanged: true }, { timeout });
    await call(session, 'test_trigger_tool_change');
    await call(session, 'test_trigger_prompt_change');
    await until('both', () => heard.tools >= 1 && heard.prompts >= 1);
    await sleep(300);
    assert.deepEqual(heard, { tools: 1, prompts: 1, updated: [] });
    await one.close();
    await call(session, 'test_trigger_prompt_change');
    await until('the other lives', () => heard.prompts >= 2);
    await two.close();
  });

  await checks.run('subscriptions/listen: after close nothing is left over', async () => {
    for (const deadline = Date.now() + 5_000; (await counters(session)).listening > 0; await sleep(100)) {
      assert.ok(Date.now() < deadline, 'streams still open at the server');
    }
  });
}

const session = await checks.run('connect, pinned to 2026-07-28', () => connect({ pin: revision }));
if (session) {
  await oneCall(session);
  await cancelling(session);
  await listening(session);
  await checks.run('the notification that ends a subscription is taken, though the SDK gives it no Mcp-Method', () => {
    const ended = session.wire.exchanges.filter(({ message }) => message.method === 'notifications/cancelled');
    assert.equal(ended.length, 3);
    assert.ok(ended.every(({ headers }) => headers['mcp-protocol-version'] === revision && !headers['mcp-method']));
    assert.deepEqual(ended.map(({ status }) => status), [202, 202, 202]);
  }, { known: options.direct && 'rmcp wants Mcp-Method on notifications too' });
  await checks.run('no message the client could not place', () => {
    const expected = /holdfast\/unknown|missing required Mcp-Method/; // both checked above
    assert.deepEqual(session.errors.map(String).filter((error) => !expected.test(error)), []);
  });
  await checks.run('close', () => session.client.close());
}
for (const [mode, era] of [['auto', 'modern'], ['legacy', 'legacy']]) {
  await checks.run(`connect, mode ${mode}: ${era}`, async () => {
    const other = await connect(mode);
    assert.equal(other.client.getProtocolEra(), era);
    assert.equal(text(await call(other, 'echo', { text: mode })), mode);
    await other.transport.terminateSession();
    await other.client.close();
  });
}
checks.finish();
