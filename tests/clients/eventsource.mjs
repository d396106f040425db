// Legacy HTTP+SSE with the package `eventsource` and fetch, over a TCP proxy that cuts the stream: EventSource comes
// back by itself with Last-Event-ID, and must get the same session and every message once, in order.
//   node eventsource.mjs --base http://127.0.0.1:4444 [--path /sse] [--label NAME] [--slow NAME:JSON --steps N]
// Then the same with the SDK's SSEClientTransport, which comes back without Last-Event-ID and so loses its session:
// it must at least not be left hanging.
import assert from 'node:assert/strict';
import { parseArgs } from 'node:util';
import { EventSource } from 'eventsource';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js';
import { assertCounted, Checks, sleep, until, within } from './checks.mjs';
import { cuttable } from './cuttable.mjs';

const { values: options } = parseArgs({
  options: {
    base: { type: 'string' },
    path: { type: 'string', default: '/sse' },
    label: { type: 'string', default: '' },
    slow: { type: 'string', default: 'trigger-long-running-operation:{"duration":6,"steps":12}' },
    steps: { type: 'string', default: '12' },
  },
});
const slow = { name: options.slow.replace(/:.*$/s, ''), arguments: JSON.parse(options.slow.replace(/^[^:]*:/, '')) };
const steps = Number(options.steps);
const checks = new Checks(options.label);

/** An EventSource client of its own: what it heard, what it sent. */
class Listener {
  endpoints = [];
  received = [];
  requests = []; // of the stream: the Last-Event-ID sent, the status answered
  lastEventId = '';
  #nextId = 0;

  static async open(proxy) {
    const listener = new Listener();
    listener.proxy = proxy;
    listener.source = new EventSource(new URL(options.path, proxy.url), { fetch: (url, init) => listener.#open(url, init) });
    listener.source.addEventListener('endpoint', ({ data, lastEventId }) => {
      listener.endpoints.push(new URL(data, proxy.url));
      listener.lastEventId = lastEventId || listener.lastEventId;
    });
    listener.source.addEventListener('message', ({ data, lastEventId }) => {
      listener.received.push(JSON.parse(data));
      listener.lastEventId = lastEventId || listener.lastEventId;
    });
    await until('event `endpoint`', () => listener.endpoints.length > 0);
    return listener;
  }

  async #open(url, init) {
    const request = { lastEventId: new Headers(init.headers).get('last-event-id'), known: this.lastEventId, status: undefined };
    this.requests.push(request);
    const response = await fetch(url, init);
    request.status = response.status;
    return response;
  }

  async post(message, endpoint = this.endpoints.at(-1)) {
    const response = await fetch(endpoint, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ jsonrpc: '2.0', ...message }),
      signal: AbortSignal.timeout(10_000),
    });
    await response.text();
    return response.status;
  }

  /** Sends a request; its id, once the server took it. */
  async ask(method, params, endpoint) {
    const id = `${method}-${(this.#nextId += 1)}`;
    assert.equal(await this.post({ id, method, params }, endpoint), 202, `answer to the POST of ${method}`);
    return id;
  }

  answer(id, ms = 25_000) {
    return until(`answer to ${id}`, () => this.received.find((message) => message.id === id && !message.method), ms);
  }

  async initialize() {
    const clientInfo = { name: 'holdfast-eventsource', version: '1.0.0' };
    const id = await this.ask('initialize', { protocolVersion: '2024-11-05', capabilities: {}, clientInfo });
    const { result } = await this.answer(id);
    assert.equal(result.protocolVersion, '2024-11-05');
    assert.equal(await this.post({ method: 'notifications/initialized' }), 202);
  }

  async startSlow() {
    this.token = `token-${(this.#nextId += 1)}`;
    return this.ask('tools/call', { ...slow, _meta: { progressToken: this.token } });
  }

  progress() {
    return this.received.filter(({ method, params }) => method === 'notifications/progress' && params.progressToken === this.token).map(({ params }) => params.progress);
  }

  /** Everything that was promised: the same session, the whole sequence, once. */
  async finish(id, reconnects) {
    const { result } = await this.answer(id);
    assert.ok(result && !result.isError, 'a result');
    await sleep(1_000); // nothing may come a second time
    assertCounted(this.progress(), steps, 'progress');
    assert.equal(this.received.filter((message) => message.id === id).length, 1, 'results');
    assert.ok(this.requests.length > reconnects, `${this.requests.length - 1} reconnects`);
    const back = this.requests.slice(1).filter(({ status }) => status !== undefined);
    assert.ok(back.every(({ lastEventId, known, status }) => lastEventId && lastEventId === known && status === 200), JSON.stringify(back));
    assert.equal(this.endpoints.length, back.length + 1, 'an `endpoint` on every connection');
    // The session is the same if the first address still reaches it, and it answers on the newest stream.
    const ping = await this.ask('ping', {}, this.endpoints[0]);
    assert.deepEqual((await this.answer(ping, 5_000)).result, {});
  }

  close() {
    this.source.close();
    this.proxy.close();
  }
}

const withListener = (use) => async () => {
  const listener = await Listener.open(await cuttable(options.base));
  try {
    await listener.initialize();
    await use(listener);
  } finally {
    listener.close();
  }
};
const patient = { seconds: 40 };

const plain = checks.run(
  'uncut: endpoint on the same origin with an id, 202 for each message',
  withListener(async (listener) => {
    assert.equal(listener.endpoints[0].origin, new URL(listener.proxy.url).origin);
    assert.ok(listener.lastEventId, 'events have ids');
    const id = await listener.startSlow();
    await listener.answer(id);
    assertCounted(listener.progress(), steps);
  }),
  patient,
);

const once = checks.run(
  'cut in the middle of a call',
  withListener(async (listener) => {
    const id = await listener.startSlow();
    await until('progress', () => listener.progress().length >= 3);
    assert.ok(listener.proxy.cut() >= 1, 'a stream to cut');
    await listener.finish(id, 1);
  }),
  patient,
);

const inside = checks.run(
  'cut in the middle of an event',
  withListener(async (listener) => {
    const id = await listener.startSlow();
    await until('progress', () => listener.progress().length >= 2);
    listener.proxy.cutInside();
    await listener.finish(id, 1);
  }),
  patient,
);

const twice = checks.run(
  'cut twice',
  withListener(async (listener) => {
    const id = await listener.startSlow();
    await until('progress', () => listener.progress().length >= 1);
    listener.proxy.cut();
    await until('the second connection', () => listener.endpoints.length >= 2);
    listener.proxy.cut();
    await listener.finish(id, 2);
  }),
  patient,
);

const early = checks.run(
  'cut before the first message: the id of `endpoint` is enough',
  async () => {
    const listener = await Listener.open(await cuttable(options.base));
    try {
      listener.proxy.cut();
      await listener.initialize(); // posted while the stream is away
      const id = await listener.startSlow();
      await listener.finish(id, 1);
    } finally {
      listener.close();
    }
  },
  patient,
);

const away = checks.run(
  'cut, and no way back before the call has ended',
  withListener(async (listener) => {
    const id = await listener.startSlow();
    await until('progress', () => listener.progress().length >= 2);
    listener.proxy.refuse(true);
    listener.proxy.cut();
    await sleep(7_000);
    listener.proxy.refuse(false);
    await listener.finish(id, 1);
  }),
  patient,
);

const sdk = checks.run(
  'the SDK client, cut: comes back without Last-Event-ID; later calls are answered or refused, none hangs',
  async () => {
    const proxy = await cuttable(options.base);
    const streams = [];
    const watched = async (url, init) => {
      if ((init?.method ?? 'GET') === 'GET') streams.push(new Headers(init.headers));
      return fetch(url, init);
    };
    const client = new Client({ name: 'holdfast-sse', version: '1.0.0' });
    const transport = new SSEClientTransport(new URL(options.path, proxy.url), { fetch: watched });
    try {
      await client.connect(transport, { timeout: 10_000 });
      const progress = [];
      const running = client.callTool(slow, undefined, { timeout: 20_000, onprogress: (step) => progress.push(step.progress) });
      running.catch(() => {});
      await until('progress', () => progress.length >= 2);
      assert.ok(proxy.cut() >= 1);
      await until('a second connection', () => streams.length >= 2);
      // Should this ever fail, the SDK has learnt it: then ask of it what is asked of EventSource above.
      assert.equal(streams[1].get('last-event-id'), null, 'Last-Event-ID of an SDK client');
      assert.equal(streams[1].get('mcp-protocol-version'), '2025-11-25', 'by which it can be told from a new client');
      await sleep(1_000); // its `endpoint` comes
      const later = client.ping({ timeout: 10_000 }).then(() => 'answered', (error) => error);
      const outcome = await within(5_000, 'the outcome of a later ping', later);
      assert.ok(outcome === 'answered' || !/timed out/i.test(outcome.message), String(outcome));
    } finally {
      await client.close();
      proxy.close();
    }
  },
  patient,
);

await Promise.all([plain, once, inside, twice, early, away, sdk]);
checks.finish();
