// Resources, templates, prompts and completion.
import assert from 'node:assert/strict';

const timeout = 10_000;

export async function resources(checks, { client }) {
  await checks.run('resources/list and read: each static document', async () => {
    const { resources: listed } = await client.listResources({}, { timeout });
    const documents = listed.filter(({ uri }) => uri.startsWith('demo://resource/static/document/'));
    assert.ok(documents.length >= 5, `${documents.length} documents`);
    for (const { uri } of documents) {
      const { contents } = await client.readResource({ uri }, { timeout });
      assert.equal(contents[0].uri, uri);
      assert.equal(contents[0].mimeType, 'text/markdown');
      assert.ok(contents[0].text.length > 100, uri);
    }
  });

  await checks.run('resources/templates/list', async () => {
    const { resourceTemplates } = await client.listResourceTemplates({}, { timeout });
    assert.deepEqual(resourceTemplates.map(({ uriTemplate }) => uriTemplate).sort(), [
      'demo://resource/dynamic/blob/{resourceId}',
      'demo://resource/dynamic/text/{resourceId}',
    ]);
  });

  await checks.run('resources/read: text and blob by template', async () => {
    const text = await client.readResource({ uri: 'demo://resource/dynamic/text/3' }, { timeout });
    assert.match(text.contents[0].text, /^Resource 3:/);
    const blob = await client.readResource({ uri: 'demo://resource/dynamic/blob/4' }, { timeout });
    assert.match(Buffer.from(blob.contents[0].blob, 'base64').toString(), /^Resource 4:/);
  });

  await checks.run('resources/read: unknown one refused', async () => {
    await assert.rejects(client.readResource({ uri: 'demo://resource/none' }, { timeout }), ({ code }) => code === -32602 || code === -32002);
  });

  await checks.run('completion: template variable', async () => {
    const ref = { type: 'ref/resource', uri: 'demo://resource/dynamic/text/{resourceId}' };
    const { completion } = await client.complete({ ref, argument: { name: 'resourceId', value: '12' } }, { timeout });
    assert.deepEqual(completion.values, ['12']);
  });
}

export async function prompts(checks, { client }) {
  const said = ({ messages }, at = 0) => messages[at].content.text;

  await checks.run('prompts/list', async () => {
    const { prompts: listed } = await client.listPrompts({}, { timeout });
    assert.deepEqual(listed.map(({ name }) => name).sort(), ['args-prompt', 'completable-prompt', 'resource-prompt', 'simple-prompt']);
    const withArguments = listed.find(({ name }) => name === 'args-prompt');
    assert.deepEqual(withArguments.arguments.map(({ name, required }) => [name, required]), [
      ['city', true],
      ['state', false],
    ]);
  });

  await checks.run('prompts/get: without arguments', async () => {
    assert.equal(said(await client.getPrompt({ name: 'simple-prompt' }, { timeout })), 'This is a simple prompt without arguments.');
  });

  await checks.run('prompts/get: with arguments', async () => {
    const prompt = await client.getPrompt({ name: 'args-prompt', arguments: { city: 'Zürich', state: 'ZH' } }, { timeout });
    assert.equal(said(prompt), "What's weather in Zürich, ZH?");
  });

  await checks.run('prompts/get: a missing argument refused', async () => {
    await assert.rejects(client.getPrompt({ name: 'args-prompt', arguments: {} }, { timeout }), { code: -32602 });
  });

  await checks.run('prompts/get: embedded resource', async () => {
    const prompt = await client.getPrompt({ name: 'resource-prompt', arguments: { resourceType: 'Text', resourceId: '5' } }, { timeout });
    assert.match(prompt.messages[1].content.resource.text, /^Resource 5:/);
  });

  await checks.run('completion: prompt argument, with context', async () => {
    const ref = { type: 'ref/prompt', name: 'completable-prompt' };
    const department = await client.complete({ ref, argument: { name: 'department', value: 'S' } }, { timeout });
    assert.deepEqual(department.completion.values, ['Sales', 'Support']);
    const context = { arguments: { department: 'Sales' } };
    const name = await client.complete({ ref, argument: { name: 'name', value: '' }, context }, { timeout });
    assert.deepEqual(name.completion.values, ['David', 'Eve', 'Frank']);
  });
}
