// Many calls at once, and calls that are given up.
import assert from 'node:assert/strict';
import { assertCounted, until, within } from '../checks.mjs';
import { call, callWithProgress, replaysAll, text } from './client.mjs';

export async function parallel(checks, session) {
  await checks.run('forty calls at once, each with its own answer', async () => {
    const numbers = Array.from({ length: 40 }, (_, i) => i);
    const results = await Promise.all(numbers.map((n) => call(session, 'get-sum', { a: n, b: 1000 })));
    assert.deepEqual(results.map(text), numbers.map((n) => `The sum of ${n} and 1000 is ${n + 1000}.`));
  });

  await checks.run('eight slow calls at once, each with its own progress', async () => {
    await Promise.all(
      [3, 4, 5, 6, 7, 8, 9, 10].map(async (steps) => {
        const args = { duration: 1, steps };
        const { result, progress } = await callWithProgress(session, 'trigger-long-running-operation', args);
        assertCounted(progress, steps);
        assert.match(text(result), new RegExp(`Steps: ${steps}\\.`));
      }),
    );
  }, { known: replaysAll(session) });
}

export async function cancellation(checks, session) {
  const { wire } = session;

  await checks.run('cancel: the client is free at once, the server is told', async () => {
    const abort = new AbortController();
    const progress = [];
    const running = call(session, 'trigger-long-running-operation', { duration: 20, steps: 40 }, {
      signal: abort.signal,
      onprogress: (step) => progress.push(step.progress),
    });
    running.catch(() => {});
    await until('first progress', () => progress.length >= 1);
    abort.abort('no longer wanted');
    await assert.rejects(within(1_000, 'rejection', running), /no longer wanted/);
    const told = await until('answer to notifications/cancelled', () => wire.findMessage('notifications/cancelled'));
    assert.equal(told.status, 202);
    const { message } = wire.exchanges.findLast(({ message }) => message?.params?.name === 'trigger-long-running-operation');
    assert.equal(told.message.params.requestId, message.id);
  });

  await checks.run('cancel: the session works on', async () => {
    assert.equal(text(await call(session, 'echo', { message: 'still here' })), 'Echo: still here');
  });

  await checks.run('a time limit of the client, with progress that extends it', async () => {
    const args = { duration: 2, steps: 8 };
    await call(session, 'trigger-long-running-operation', args, { timeout: 900, resetTimeoutOnProgress: true, onprogress: () => {} });
    const late = call(session, 'trigger-long-running-operation', args, { timeout: 500 });
    await assert.rejects(late, { code: -32001 });
  });
}
