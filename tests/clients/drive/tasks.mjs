// Tasks of 2025-11-25, in both directions: the server's tool as a task, and the client's answers as tasks.
import assert from 'node:assert/strict';
import { call, sampled, text } from './client.mjs';

async function research(session, args) {
  const seen = [];
  const stream = session.client.experimental.tasks.callToolStream({ name: 'simulate-research-query', arguments: args }, undefined, {
    task: { ttl: 60_000 },
    timeout: 15_000,
  });
  for await (const message of stream) {
    if (message.type === 'error') throw message.error;
    seen.push(message);
  }
  return seen;
}

export async function tasks(checks, session) {
  await checks.run('a tool as a task: created, polled, result fetched', async () => {
    const seen = await research(session, { topic: 'holdfasts' });
    assert.equal(seen[0].type, 'taskCreated');
    assert.ok(seen.filter(({ type, task }) => type === 'taskStatus' && task.status === 'working').length >= 2);
    assert.match(text(seen.at(-1).result), /Research Report: holdfasts/);
  });

  await checks.run('tasks/list knows it', async () => {
    const { tasks: listed } = await session.client.experimental.tasks.listTasks(undefined, { timeout: 5_000 });
    assert.ok(listed.some(({ status }) => status === 'completed'));
  });

  await checks.run('a sampling question as a task of the client', async () => {
    const result = text(await call(session, 'trigger-sampling-request-async', { prompt: 'later' }));
    assert.match(result, /\[COMPLETED\]/);
    assert.ok(result.includes(sampled.content.text));
  });

  await checks.run('an elicitation as a task of the client', async () => {
    session.elicit = () => ({ action: 'accept', content: { name: 'later' } });
    assert.match(text(await call(session, 'trigger-elicitation-request-async')), /\[COMPLETED\][^]*- Name: later/);
  });

  await checks.run('a task that asks in between, on the stream of tasks/result', async () => {
    session.elicit = () => ({ action: 'accept', content: { interpretation: 'snake' } });
    const seen = await research(session, { topic: 'python', ambiguous: true });
    assert.ok(seen.some(({ task }) => task?.status === 'input_required'));
    assert.match(text(seen.at(-1).result), /Research Report: python \(snake\)/);
  });
}
