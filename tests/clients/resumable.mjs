// server-everything's tools behind the SDK's Streamable HTTP transport with an event store that keeps to the
// specification: its own store replays the events of all streams. An upstream whose streams can be resumed.
//   node resumable.mjs --port 3001 [--retry MS]
// Prints "listening on URL"; ends with its standard input, or on SIGTERM.
import { randomUUID } from 'node:crypto';
import { createServer as createHttpServer } from 'node:http';
import { parseArgs } from 'node:util';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { createServer } from '@modelcontextprotocol/server-everything/dist/server/index.js';

const { values: options } = parseArgs({ options: { port: { type: 'string', default: '3001' }, retry: { type: 'string' } } });

class StreamEventStore {
  #events = []; // { stream, message }; an event's id is its stream and its place here

  async storeEvent(stream, message) {
    this.#events.push({ stream, message });
    return `${stream}_${this.#events.length - 1}`;
  }

  async getStreamIdForEventId(id) {
    return this.#events[this.#place(id)]?.stream;
  }

  async replayEventsAfter(id, { send }) {
    const stream = await this.getStreamIdForEventId(id);
    for (let place = this.#place(id) + 1; place < this.#events.length; place += 1) {
      const event = this.#events[place];
      const priming = Object.keys(event.message).length === 0;
      if (event.stream === stream && !priming) await send(`${stream}_${place}`, event.message);
    }
    return stream;
  }

  #place(id) {
    return Number(id.slice(id.lastIndexOf('_') + 1));
  }
}

const sessions = new Map();

async function open() {
  const { server, cleanup } = createServer();
  const transport = new StreamableHTTPServerTransport({
    sessionIdGenerator: randomUUID,
    eventStore: new StreamEventStore(),
    retryInterval: options.retry && Number(options.retry),
    onsessioninitialized: (id) => void sessions.set(id, transport),
  });
  server.server.onclose = () => {
    sessions.delete(transport.sessionId);
    cleanup(transport.sessionId);
  };
  await server.connect(transport);
  return transport;
}

const http = createHttpServer(async (request, response) => {
  const id = request.headers['mcp-session-id'];
  if (new URL(request.url, 'http://localhost').pathname !== '/mcp' || (id && !sessions.has(id))) {
    response.writeHead(404, { 'content-type': 'application/json' });
    return response.end(JSON.stringify({ jsonrpc: '2.0', id: null, error: { code: -32001, message: 'not found' } }));
  }
  return (sessions.get(id) ?? (await open())).handleRequest(request, response);
});

http.listen(Number(options.port), '127.0.0.1', () => process.stdout.write(`listening on http://127.0.0.1:${options.port}/mcp\n`));
const end = () => process.exit(0);
process.on('SIGTERM', end);
process.stdin.on('end', end).on('close', end).resume();
