// Tools that ask the client something while they run: sampling and elicitation.
import assert from 'node:assert/strict';
import { call, sampled, text } from './client.mjs';

const raw = (result) => JSON.parse(text(result).match(/Raw result: (\{[^]*\})/)[1]);

export async function questions(checks, session) {
  await checks.run('sampling: asked, answered, used', async () => {
    const result = await call(session, 'trigger-sampling-request', { prompt: 'say something', maxTokens: 17 });
    const request = session.asked.find(({ method, params }) => method === 'sampling/createMessage' && !params.task);
    assert.equal(request.params.maxTokens, 17);
    assert.match(request.params.messages[0].content.text, /say something/);
    assert.deepEqual(JSON.parse(text(result).replace(/^[^{]*/, '')), sampled);
  });

  await checks.run('sampling: three at a time', async () => {
    const results = await Promise.all([1, 2, 3].map((n) => call(session, 'trigger-sampling-request', { prompt: `number ${n}` })));
    assert.ok(results.every((result) => text(result).includes(sampled.content.text)));
  });

  await checks.run('elicitation: accepted', async () => {
    const content = { name: 'Ünal 🦀', check: true, email: 'a@example.org', integer: 7, titledMultipleSelectEnum: ['fish-2'] };
    session.elicit = () => ({ action: 'accept', content });
    const result = await call(session, 'trigger-elicitation-request');
    const request = session.asked.findLast(({ method }) => method === 'elicitation/create');
    assert.ok(request.params.requestedSchema.properties.legacyTitledEnum.enumNames, 'schema came through whole');
    assert.deepEqual(raw(result), { action: 'accept', content });
  });

  for (const action of ['decline', 'cancel']) {
    await checks.run(`elicitation: ${action}`, async () => {
      session.elicit = () => ({ action });
      assert.equal(raw(await call(session, 'trigger-elicitation-request')).action, action);
    });
  }

  await checks.run('elicitation by URL: as a question', async () => {
    session.elicit = () => ({ action: 'accept' });
    const url = 'https://example.org/sign-in?a=1&b=2';
    assert.equal(raw(await call(session, 'trigger-url-elicitation', { url, elicitationId: 'one' })).action, 'accept');
    const request = session.asked.findLast(({ method }) => method === 'elicitation/create');
    assert.deepEqual([request.params.mode, request.params.url], ['url', url]);
  });

  await checks.run('elicitation by URL: as an error with its data, then the retry', async () => {
    session.elicit = () => ({ action: 'accept' });
    const args = { url: 'https://example.org/again', errorPath: true };
    await assert.rejects(call(session, 'trigger-url-elicitation', args), ({ code, data }) => code === -32042 && data.elicitations[0].mode === 'url');
    assert.equal(raw(await call(session, 'trigger-url-elicitation', args)).action, 'accept');
  });
}
