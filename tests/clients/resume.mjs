// Cuts the streams of an SDK Streamable HTTP client, which must come back by itself with Last-Event-ID and get every
// message once, in order. Needs a server that keeps events: Holdfast, or resumable.mjs.
//   node resume.mjs --url URL [--sdk 1|2] [--label NAME] [--cuts LIST] [--bytes FIRST:STEP:LAST]
//     [--slow NAME:JSON --steps N]
// --sdk 2: the SDK's newer line, in its legacy mode. A cut is as in cutting.mjs; "+" joins the cuts of one call's stream and of the streams that resume it.
import assert from 'node:assert/strict';
import { parseArgs } from 'node:util';
import { assertCounted, Checks, sleep, until } from './checks.mjs';
import { cutResponse, parseCut } from './cutting.mjs';

const { values: options } = parseArgs({
  options: {
    url: { type: 'string' },
    sdk: { type: 'string', default: '1' },
    label: { type: 'string', default: '' },
    slow: { type: 'string', default: 'trigger-long-running-operation:{"duration":2.5,"steps":10}' },
    steps: { type: 'string', default: '10' },
    bytes: { type: 'string' },
    cuts: {
      type: 'string',
      default: [
        'event:1', 'event:1/closed', 'event:2', 'event:3/closed', 'event:5', 'event:9/closed', 'event:10', 'event:11',
        'inside:2', 'inside:4/closed', 'inside:6', 'inside:11', 'inside:12', 'byte:200', 'byte:333/closed',
        'event:1+event:1', 'event:2/closed+event:2/closed', 'inside:3+inside:2+inside:2', 'event:1+event:1+event:1+event:1',
      ].join(','),
    },
  },
});
const { Client, StreamableHTTPClientTransport } =
  options.sdk === '2'
    ? await import('@modelcontextprotocol/client')
    : {
        ...(await import('@modelcontextprotocol/sdk/client/index.js')),
        ...(await import('@modelcontextprotocol/sdk/client/streamableHttp.js')),
      };
const call = (client, params, limits) => (options.sdk === '2' ? client.callTool(params, limits) : client.callTool(params, undefined, limits));
const slow = { name: options.slow.replace(/:.*$/s, ''), arguments: JSON.parse(options.slow.replace(/^[^:]*:/, '')) };
const steps = Number(options.steps);
const updates = 'notifications/resources/updated';

/** A connected client; `plan(kind, request)` says where to cut the stream that answers a request. */
async function connect(plan) {
  const session = { received: [], gets: [], cuts: 0, errors: [] };
  const wrapped = async (url, init) => {
    const message = typeof init.body === 'string' ? JSON.parse(init.body) : undefined;
    const lastEventId = new Headers(init.headers).get('last-event-id');
    const get = (init.method ?? 'GET') === 'GET' && { lastEventId, at: Date.now(), status: undefined };
    if (get) session.gets.push(get);
    const response = await fetch(url, init);
    if (get) get.status = response.status;
    if (!response.headers.get('content-type')?.startsWith('text/event-stream')) return response;
    const cut = plan({ get: Boolean(get), lastEventId, message });
    return cut ? cutResponse(response, cut, () => void (session.cuts += 1)) : response;
  };
  session.transport = new StreamableHTTPClientTransport(new URL(options.url), { fetch: wrapped });
  session.transport.onmessage = (message) => void session.received.push(message);
  session.client = new Client({ name: 'holdfast-resume', version: '1.0.0' });
  session.client.onerror = (error) => session.errors.push(error);
  await session.client.connect(session.transport, { timeout: 10_000 });
  return session;
}

async function end({ client, transport }) {
  await transport.terminateSession().catch(() => {});
  await client.close();
}

/** One slow call whose stream is cut, and the streams that resume it. */
async function cutCall(text) {
  const cuts = text.split('+').map(parseCut);
  const own = new Set(); // ids of the call's streams, which name what resumes it
  const session = await connect(({ get, lastEventId, message }) => {
    if (message?.method === 'tools/call' || (get && own.has(lastEventId))) return cuts.shift();
    return undefined;
  });
  try {
    const result = await call(session.client, slow, { timeout: 25_000, onprogress: () => {}, onresumptiontoken: (id) => own.add(id) });
    const request = session.received.find((message) => message.result?.content);
    const about = session.received.filter(({ method, params }) => method === 'notifications/progress' && params.progressToken === request.id);
    assertCounted(about.map(({ params }) => params.progress), steps);
    assert.equal(session.received.filter(({ id, result }) => id === request.id && result).length, 1, 'results');
    assert.ok(session.received.indexOf(about.at(-1)) < session.received.indexOf(request), 'the result comes last');
    assert.ok(!result.isError);
    assert.ok(session.cuts >= 1, 'the stream never came to the cut');
    const resumed = session.gets.filter(({ lastEventId }) => lastEventId !== null && own.has(lastEventId));
    assert.ok(resumed.length >= session.cuts, `${resumed.length} resumes after ${session.cuts} cuts`);
    await sleep(1_500); // nothing may come a second time
    assert.equal(session.received.filter(({ id, result }) => id === request.id && result).length, 1, 'results');
    return session;
  } finally {
    await end(session);
  }
}

/** The GET stream, cut: what was said meanwhile comes after it is back, once and in order. */
async function cutGet(text) {
  const cut = parseCut(text);
  let armed = false;
  const session = await connect(({ get, lastEventId }) => (get && lastEventId === null && !armed ? ((armed = true), cut) : undefined));
  const { client, received, gets } = session;
  const uris = () => received.filter(({ method }) => method === updates).map(({ params }) => params.uri);
  const toggle = () => call(client, { name: 'toggle-subscriber-updates', arguments: {} }, { timeout: 10_000 });
  try {
    const wanted = ['text/1', 'text/2', 'blob/3'].map((name) => `demo://resource/dynamic/${name}`);
    await until('GET stream', () => gets.some(({ status }) => status === 200));
    for (const uri of wanted) await client.subscribeResource({ uri }, { timeout: 10_000 });
    await toggle(); // tells of all three at once
    await toggle();
    await until('every update', () => uris().length >= wanted.length, 20_000);
    assert.equal(session.cuts, 1, 'cuts of the GET stream');
    await until('the stream again', () => gets.length >= 2);
    assert.ok(gets.filter(({ status }) => status === 200).length >= 2, 'the GET stream is open again');
    await sleep(1_500);
    assert.deepEqual(uris(), wanted);
    await toggle(); // and it lives
    await toggle();
    await until('updates on the resumed stream', () => uris().length >= 2 * wanted.length);
    assert.deepEqual(uris(), [...wanted, ...wanted]);
  } finally {
    await end(session);
  }
}

const cuts = options.cuts.split(',').filter(Boolean);
if (options.bytes) {
  const [first, step, last] = options.bytes.split(':').map(Number);
  for (let byte = first; byte <= last; byte += step) cuts.push(`byte:${byte}`);
}
const checks = new Checks(options.label);
const probe = await checks.run('connect and list', async () => {
  const session = await connect(() => undefined);
  const { tools } = await session.client.listTools({}, { timeout: 10_000 });
  await end(session);
  return { canUpdate: tools.some(({ name }) => name === 'toggle-subscriber-updates') };
});
if (probe) {
  const all = cuts.map((cut) => () => checks.run(`a call's stream, cut at ${cut}`, () => cutCall(cut), { seconds: 30 }));
  if (probe.canUpdate) {
    for (const cut of ['event:1', 'event:1/closed', 'event:2', 'inside:2', 'event:3/closed']) {
      all.push(() => checks.run(`the GET stream, cut at ${cut}`, () => cutGet(cut), { seconds: 30 }));
    }
  }
  const worker = async () => {
    for (let next = all.shift(); next; next = all.shift()) await next();
  };
  await Promise.all(Array.from({ length: 16 }, worker));
}
checks.finish();
