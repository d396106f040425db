// The official SDK's client, which knows an MCP server's address and nothing else, logs in by itself.
//   node login.mjs --url http://127.0.0.1:4444/mcp [--sse] [--opaque]
import assert from 'node:assert/strict';
import { parseArgs } from 'node:util';
import { UnauthorizedError } from '@modelcontextprotocol/sdk/client/auth.js';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { Checks } from './checks.mjs';

const { values: options } = parseArgs({
  options: {
    url: { type: 'string' },
    sse: { type: 'boolean', default: false },
    opaque: { type: 'boolean', default: false },
  },
});
const checks = new Checks(options.sse ? 'HTTP+SSE' : 'Streamable HTTP', { totalSeconds: 60 });
const callback = 'http://127.0.0.1/callback';

/** What a person's client keeps, and a browser in which the person agrees to everything. */
class Person {
  redirectUrl = callback;
  clientMetadata = {
    client_name: 'holdfast-login',
    redirect_uris: [callback],
    grant_types: ['authorization_code'],
    response_types: ['code'],
    token_endpoint_auth_method: 'none',
  };
  clientInformation = () => this.registered;
  saveClientInformation = (information) => void (this.registered = information);
  tokens = () => this.saved;
  saveTokens = (tokens) => void (this.saved = tokens);
  codeVerifier = () => this.verifier;
  saveCodeVerifier = (verifier) => void (this.verifier = verifier);

  async redirectToAuthorization(url) {
    this.asked = url;
    const cookies = new Map();
    for (let hops = 0; hops < 12; hops += 1) {
      const header = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ');
      const response = await fetch(url, { redirect: 'manual', headers: header ? { cookie: header } : {} });
      for (const cookie of response.headers.getSetCookie()) {
        const [, name, value] = /^([^=]+)=([^;]*)/.exec(cookie);
        if (value) cookies.set(name, value);
        else cookies.delete(name);
      }
      assert.ok(response.headers.has('location'), `${url} answered ${response.status}: ${await response.text()}`);
      url = new URL(response.headers.get('location'), url);
      if (url.href.startsWith(callback)) {
        this.code = url.searchParams.get('code');
        assert.ok(this.code, `the login ended with ${url.search}`);
        return;
      }
    }
    assert.fail('the login leads nowhere');
  }
}

const person = new Person();
const open = () => {
  const Transport = options.sse ? SSEClientTransport : StreamableHTTPClientTransport;
  return new Transport(new URL(options.url), { authProvider: person });
};
const fresh = () => new Client({ name: 'holdfast-login', version: '1.0.0' });
const client = fresh();

await checks.run('a 401 alone leads to the login', async () => {
  const transport = open();
  await assert.rejects(fresh().connect(transport), UnauthorizedError);
  assert.equal(person.asked.searchParams.get('resource'), options.url, 'the token is asked for this endpoint');
  assert.match(person.asked.searchParams.get('scope'), /(^| )files( |$)/, 'with the scope that it needs');
  await transport.finishAuth(person.code);
});
await checks.run('the token is for this endpoint, and is taken', async () => {
  const parts = person.saved.access_token.split('.');
  assert.equal(parts.length, options.opaque ? 1 : 3, 'the kind of token that was wanted');
  if (!options.opaque) {
    const claims = JSON.parse(Buffer.from(parts[1], 'base64url'));
    assert.equal(claims.aud, options.url);
    assert.equal(claims.sub, 'alice');
  }
  await client.connect(open());
  const { tools } = await client.listTools();
  assert.ok(tools.length > 0);
  const called = await client.callTool({ name: 'echo', arguments: { message: 'hello' } });
  assert.match(called.content[0].text, /hello/);
});
await checks.run('without it the session is nobody’s', async () => {
  const response = await fetch(options.url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list' }),
  });
  assert.equal(response.status, options.sse ? 405 : 401);
});
await client.close();
checks.finish();
