// What the server says unasked: roots/list, resource updates, log messages.
import assert from 'node:assert/strict';
import { sleep, until } from '../checks.mjs';
import { call, text } from './client.mjs';

export async function roots(checks, session) {
  const asked = () => session.asked.filter(({ method }) => method === 'roots/list').length;

  await checks.run('roots: the server asks by itself, and knows the answer', async () => {
    await until('roots/list', () => asked() >= 1);
    await until('log message of it', () => session.logs.some(({ data }) => /1 root/.test(data)));
    assert.match(text(await call(session, 'get-roots-list')), /first root\s+URI: file:\/\/\/holdfast\/first/);
  });

  await checks.run('roots: list_changed makes it ask again', async () => {
    const before = asked();
    session.roots = [...session.roots, { uri: 'file:///holdfast/second', name: 'second root' }];
    await session.client.sendRootsListChanged();
    await until('roots/list', () => asked() > before);
    await until('log message of it', () => session.logs.some(({ data }) => /2 root/.test(data)));
    assert.match(text(await call(session, 'get-roots-list')), /second root/);
  });
}

export async function subscriptions(checks, session) {
  const { client } = session;
  const uris = [1, 2].map((id) => `demo://resource/dynamic/text/${id}`);

  await checks.run('subscribe: an update arrives for each, once', async () => {
    for (const uri of uris) await client.subscribeResource({ uri }, { timeout: 5_000 });
    await call(session, 'toggle-subscriber-updates');
    await until('notifications/resources/updated', () => session.updates.length >= 2);
    await sleep(300);
    assert.deepEqual(session.updates, uris);
  });

  await checks.run('unsubscribe: only the other one is told of', async () => {
    await client.unsubscribeResource({ uri: uris[0] }, { timeout: 5_000 });
    await call(session, 'toggle-subscriber-updates');
    session.updates.length = 0;
    await call(session, 'toggle-subscriber-updates');
    await until('notifications/resources/updated', () => session.updates.length >= 1);
    await sleep(300);
    assert.deepEqual(session.updates, [uris[1]]);
    await call(session, 'toggle-subscriber-updates');
    await client.unsubscribeResource({ uri: uris[1] }, { timeout: 5_000 });
  });
}

export async function logging(checks, session) {
  const { client } = session;
  const simulated = () => session.logs.filter(({ data }) => /-level/.test(data) || /level-message/.test(data));

  await checks.run('logging: setLevel, then a message', async () => {
    await client.setLoggingLevel('debug', { timeout: 5_000 });
    session.logs.length = 0;
    await call(session, 'toggle-simulated-logging');
    const [message] = await until('notifications/message', () => simulated().length && simulated());
    assert.match(message.level, /^(debug|info|notice|warning|error|critical|alert|emergency)$/);
    await call(session, 'toggle-simulated-logging');
  });

  await checks.run('logging: a higher level silences', async () => {
    await client.setLoggingLevel('emergency', { timeout: 5_000 });
    session.logs.length = 0;
    await client.subscribeResource({ uri: 'demo://resource/dynamic/text/9' }, { timeout: 5_000 }); // logs at info
    await sleep(300);
    assert.deepEqual(session.logs, []);
    await client.setLoggingLevel('debug', { timeout: 5_000 });
    await client.unsubscribeResource({ uri: 'demo://resource/dynamic/text/9' }, { timeout: 5_000 });
    await until('log message at info', () => session.logs.some(({ level }) => level === 'info'));
  });
}
