// One connected SDK client that declares every capability, answers every question, and notes what it was told.
import assert from 'node:assert/strict';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { InMemoryTaskStore } from '@modelcontextprotocol/sdk/experimental/tasks';
import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  ListRootsRequestSchema,
  LoggingMessageNotificationSchema,
  ResourceListChangedNotificationSchema,
  ResourceUpdatedNotificationSchema,
} from '@modelcontextprotocol/sdk/types.js';
import { until } from '../checks.mjs';
import { Wire } from '../wire.mjs';

const capabilities = {
  sampling: {},
  elicitation: { form: {}, url: {} },
  roots: { listChanged: true },
  tasks: { list: {}, cancel: {}, requests: { sampling: { createMessage: {} }, elicitation: { create: {} } } },
};

export const sampled = {
  model: 'holdfast-test-model',
  role: 'assistant',
  content: { type: 'text', text: 'sampled: Grüße aus dem Test ✓' },
  stopReason: 'endTurn',
};

export async function connect(url, kind) {
  const wire = new Wire();
  const transport = kind === 'sse' ? new SSEClientTransport(new URL(url), { fetch: wire.fetch }) : new StreamableHTTPClientTransport(new URL(url), { fetch: wire.fetch });
  const client = new Client({ name: 'holdfast-drive', version: '1.0.0' }, { capabilities, taskStore: new InMemoryTaskStore() });

  const session = { client, transport, wire, kind, url, sent: [], received: [], asked: [], logs: [], updates: [], listChanges: 0, errors: [] };
  record(session);
  session.roots = [{ uri: 'file:///holdfast/first', name: 'first root' }];
  session.elicit = () => ({ action: 'cancel' });

  client.onerror = (error) => session.errors.push(error);
  client.setRequestHandler(CreateMessageRequestSchema, (request, extra) => answer(session, request, extra, sampled));
  client.setRequestHandler(ElicitRequestSchema, (request, extra) => answer(session, request, extra, session.elicit(request.params)));
  client.setRequestHandler(ListRootsRequestSchema, (request) => {
    session.asked.push(request);
    return { roots: session.roots };
  });
  client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) => void session.logs.push(params));
  client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params }) => void session.updates.push(params.uri));
  client.setNotificationHandler(ResourceListChangedNotificationSchema, () => void (session.listChanges += 1));

  await client.connect(transport, { timeout: 10_000 });
  if (kind !== 'sse') {
    // What the server says unasked goes to the GET stream: without it there is nothing to wait for later.
    await until('GET stream', () => wire.find(({ method, contentType }) => method === 'GET' && contentType?.startsWith('text/event-stream')));
  }
  return session;
}

/** Notes every message of both directions, whatever the client then makes of it. */
function record({ transport, sent, received }) {
  const send = transport.send.bind(transport);
  transport.send = (message, options) => {
    sent.push(message);
    return send(message, options);
  };
  transport.onmessage = (message) => void received.push(message);
}

/** At once, or as a task of the client's where the server asked for one. */
async function answer(session, request, extra, result) {
  session.asked.push(request);
  if (!request.params.task) return result;
  const task = await extra.taskStore.createTask({ ttl: request.params.task.ttl, pollInterval: 200 });
  setTimeout(() => extra.taskStore.storeTaskResult(task.taskId, 'completed', result), 200);
  return { task };
}

export const call = ({ client }, name, args = {}, options = {}) =>
  client.callTool({ name, arguments: args }, undefined, { timeout: 10_000, ...options });

/**
 * Calls a tool that reports progress. Resolves with its result and with the values that came before it, as the
 * transport got them: over HTTP+SSE the client forgets its progress callback when both come in one packet.
 */
export async function callWithProgress(session, name, args, options = {}) {
  const running = call(session, name, args, { onprogress: () => {}, ...options });
  const { id } = session.sent.at(-1); // also the progress token; sent before the call returns
  const result = await running;
  const end = session.received.findIndex((message) => message.id === id && message.result);
  const about = (message) => message.method === 'notifications/progress' && message.params.progressToken === id;
  assert.ok(!session.received.slice(end).some(about), 'progress after the result');
  return { result, progress: session.received.filter(about).map(({ params }) => params.progress) };
}

export const text = (result) =>
  result.content
    .filter(({ type }) => type === 'text')
    .map((part) => part.text)
    .join('\n');

/**
 * Why server-everything, asked directly, sends messages twice: the SDK's client takes an error response on a stream
 * for a broken stream and resumes it, and then this server replays the events of all streams.
 */
export const replaysAll = ({ direct, kind }) => direct && kind !== 'sse' && 'this server replays every stream when the client resumes one';
