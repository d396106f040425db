// Every tool that answers by itself.
import assert from 'node:assert/strict';
import { gunzipSync } from 'node:zlib';
import { assertCounted, until } from '../checks.mjs';
import { call, callWithProgress, replaysAll, text } from './client.mjs';

const offered = [
  'echo',
  'get-annotated-message',
  'get-env',
  'get-resource-links',
  'get-resource-reference',
  'get-roots-list',
  'get-structured-content',
  'get-sum',
  'get-tiny-image',
  'gzip-file-as-resource',
  'simulate-research-query',
  'toggle-simulated-logging',
  'toggle-subscriber-updates',
  'trigger-elicitation-request',
  'trigger-elicitation-request-async',
  'trigger-long-running-operation',
  'trigger-sampling-request',
  'trigger-sampling-request-async',
  'trigger-url-elicitation',
];

export async function tools(checks, session) {
  const { client } = session;

  await checks.run('tools/list: all, those that depend on client capabilities too', async () => {
    const { tools: listed } = await client.listTools({}, { timeout: 10_000 });
    assert.deepEqual(listed.map(({ name }) => name).sort(), offered);
    const echo = listed.find(({ name }) => name === 'echo');
    assert.equal(echo.annotations.readOnlyHint, true);
    assert.deepEqual(echo.inputSchema.required, ['message']);
  });

  await checks.run('echo', async () => assert.equal(text(await call(session, 'echo', { message: 'hello' })), 'Echo: hello'));

  await checks.run('echo: line ends, control characters, four-byte characters', async () => {
    const message = 'a\nb\r\nc\rd\u2028e\u2029f\u0000g\u0085h "\\" data: x\n\nid: 1\n\n: 🦀𝄞é';
    assert.equal(text(await call(session, 'echo', { message })), `Echo: ${message}`);
  });

  await checks.run('echo: one MiB', async () => {
    const message = 'größe 🦀 '.repeat(78_000);
    assert.equal(text(await call(session, 'echo', { message })), `Echo: ${message}`);
  });

  await checks.run('get-sum', async () => assert.equal(text(await call(session, 'get-sum', { a: 19, b: 23.5 })), 'The sum of 19 and 23.5 is 42.5.'));

  await checks.run('tool error: arguments refused', async () => {
    const result = await call(session, 'get-sum', { a: 'one' });
    assert.equal(result.isError, true);
    assert.match(text(result), /-32602|[Ii]nvalid/);
  });

  await checks.run('tool error: unknown tool', async () => {
    const result = await call(session, 'no-such-tool').catch((error) => ({ isError: true, content: [{ type: 'text', text: String(error) }] }));
    assert.equal(result.isError, true);
    assert.match(text(result), /no-such-tool/);
  });

  await checks.run('get-annotated-message: annotations and image', async () => {
    const { content } = await call(session, 'get-annotated-message', { messageType: 'error', includeImage: true });
    assert.deepEqual(content[0].annotations, { priority: 1, audience: ['user', 'assistant'] });
    assert.equal(content[1].type, 'image');
    assert.deepEqual(content[1].annotations, { priority: 0.5, audience: ['user'] });
  });

  await checks.run('get-tiny-image: a whole PNG', async () => {
    const { content } = await call(session, 'get-tiny-image');
    const image = content.find(({ type }) => type === 'image');
    const bytes = Buffer.from(image.data, 'base64');
    assert.equal(image.mimeType, 'image/png');
    assert.equal(bytes.subarray(1, 4).toString(), 'PNG');
    assert.equal(bytes.subarray(-8, -4).toString(), 'IEND');
  });

  await checks.run('get-structured-content: valid by its output schema', async () => {
    const result = await call(session, 'get-structured-content', { location: 'Chicago' });
    assert.deepEqual(result.structuredContent, { temperature: 36, conditions: 'Light rain / drizzle', humidity: 82 });
    assert.deepEqual(JSON.parse(text(result)), result.structuredContent);
  });

  await checks.run('get-resource-links', async () => {
    const { content } = await call(session, 'get-resource-links', { count: 4 });
    const links = content.filter(({ type }) => type === 'resource_link');
    assert.deepEqual(links.map(({ uri }) => uri), [1, 2, 3, 4].map((id) => `demo://resource/dynamic/${id % 2 ? 'blob' : 'text'}/${id}`));
  });

  await checks.run('get-resource-reference', async () => {
    const { content } = await call(session, 'get-resource-reference', { resourceType: 'Text', resourceId: 7 });
    assert.match(content.find(({ type }) => type === 'resource').resource.text, /^Resource 7:/);
  });

  await checks.run('gzip-file-as-resource: link, list_changed, read', async () => {
    const before = session.listChanges;
    const data = `data:text/plain,${encodeURIComponent('holdfast '.repeat(1000))}`;
    const { content } = await call(session, 'gzip-file-as-resource', { name: 'drive.gz', data, outputType: 'resourceLink' });
    assert.equal(content[0].type, 'resource_link');
    await until('notifications/resources/list_changed', () => session.listChanges > before);
    const { contents } = await client.readResource({ uri: content[0].uri }, { timeout: 10_000 });
    assert.equal(gunzipSync(Buffer.from(contents[0].blob, 'base64')).toString(), 'holdfast '.repeat(1000));
  });

  await checks.run('get-env', async () => assert.ok(JSON.parse(text(await call(session, 'get-env'))).PORT));

  await checks.run('long-running operation: every progress once, rising, before the result', async () => {
    const args = { duration: 1.5, steps: 10 };
    const { result, progress } = await callWithProgress(session, 'trigger-long-running-operation', args);
    assertCounted(progress, 10);
    assert.match(text(result), /completed. Duration: 1.5 seconds, Steps: 10/);
  }, { known: replaysAll(session) });

  await checks.run('long-running operation without a progress token', async () => {
    assert.match(text(await call(session, 'trigger-long-running-operation', { duration: 0.5, steps: 2 })), /completed/);
  });
}
