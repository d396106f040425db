// The first words of a session, and the last.
import assert from 'node:assert/strict';
import { ResultSchema } from '@modelcontextprotocol/sdk/types.js';
import { replaysAll } from './client.mjs';

export async function basics(checks, session) {
  const { client, wire } = session;

  await checks.run('initialize: server, capabilities, instructions', () => {
    assert.equal(client.getServerVersion().name, 'mcp-servers/everything');
    assert.equal(client.getServerVersion().title, 'Everything Reference Server');
    const capabilities = client.getServerCapabilities();
    for (const capability of ['tools', 'prompts', 'resources', 'logging', 'tasks', 'completions']) assert.ok(capabilities[capability], capability);
    assert.equal(capabilities.resources.subscribe, true);
    assert.match(client.getInstructions(), /Everything/);
  });

  await checks.run('initialize: 2025-11-25 negotiated', () => {
    assert.equal(wire.findMessage('initialize').message.params.protocolVersion, '2025-11-25');
    assert.equal(wire.findMessage('notifications/initialized').headers['mcp-protocol-version'], '2025-11-25');
    assert.equal(wire.findMessage('notifications/initialized').status, 202);
  });

  if (session.kind !== 'sse') {
    await checks.run('initialize: session id given, and sent from then on', () => {
      const { sessionId } = session.transport;
      assert.match(sessionId, /^[\x21-\x7e]{16,}$/);
      assert.equal(wire.findMessage('notifications/initialized').headers['mcp-session-id'], sessionId);
    });
  }

  await checks.run('ping', async () => assert.deepEqual(await client.ping({ timeout: 5_000 }), {}));

  await checks.run('unknown method: -32601', async () => {
    await assert.rejects(client.request({ method: 'holdfast/unknown', params: { a: 1 } }, ResultSchema, { timeout: 5_000 }), { code: -32601 });
  });
}

export async function ending(checks, session) {
  const { client, transport, wire } = session;

  await checks.run('no message the client could not place', () => {
    // A cancelled tool of server-everything goes on reporting progress, which its client has forgotten by then.
    const surprising = session.errors.filter(({ message }) => !/progress notification for an unknown token/.test(message));
    assert.deepEqual(surprising.map(String), []);
  }, { known: replaysAll(session) });

  await checks.run('no stream is resumed again and again', () => {
    const times = new Map();
    for (const { headers } of wire.exchanges) {
      const id = headers['last-event-id'];
      if (id) times.set(id, (times.get(id) ?? 0) + 1);
    }
    assert.deepEqual([...times].filter(([, count]) => count > 3), []);
  });

  if (session.kind !== 'sse') {
    await checks.run('terminateSession: DELETE answered with 2xx', async () => {
      await transport.terminateSession();
      const ended = wire.find(({ method }) => method === 'DELETE');
      assert.ok(ended.status >= 200 && ended.status < 300, `status ${ended.status}`);
      assert.equal(transport.sessionId, undefined);
    });

    await checks.run('terminateSession: the session is gone (404)', async () => {
      const { headers } = wire.find(({ method }) => method === 'DELETE');
      const answer = await fetch(session.url, {
        method: 'POST',
        headers: { ...headers, 'content-type': 'application/json', accept: 'application/json, text/event-stream' },
        body: JSON.stringify({ jsonrpc: '2.0', id: 'late', method: 'ping' }),
      });
      await answer.text();
      assert.equal(answer.status, 404);
    }, { known: session.direct && 'this server answers 400' });
  }

  await checks.run('close', async () => {
    let closed = false;
    client.onclose = () => (closed = true);
    await client.close();
    assert.ok(closed);
  });
}
