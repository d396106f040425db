// A real authorization server (oidc-provider) on 127.0.0.1, in which everybody is alice and agrees to everything.
//   node authorization.mjs --port 4000 [--opaque]
// With --opaque its tokens say nothing by themselves; the client "gate" with the secret "s3cret" may ask about them.
// Prints "listening on URL" once it answers; ends with its standard input, or on SIGTERM.
import { generateKeyPairSync } from 'node:crypto';
import { parseArgs } from 'node:util';
import { Provider } from 'oidc-provider';

const { values: options } = parseArgs({
  options: { port: { type: 'string', default: '4000' }, opaque: { type: 'boolean', default: false } },
});
const issuer = `http://127.0.0.1:${options.port}`;
const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const key = { ...privateKey.export({ format: 'jwk' }), alg: 'RS256', use: 'sig', kid: 'first' };

const provider = new Provider(issuer, {
  jwks: { keys: [key] },
  cookies: { keys: ['a test needs no secret'] },
  scopes: ['files', 'files:write'],
  pkce: { required: () => true },
  clientDefaults: { token_endpoint_auth_method: 'none', id_token_signed_response_alg: 'RS256' },
  clients: [
    {
      client_id: 'gate',
      client_secret: 's3cret',
      token_endpoint_auth_method: 'client_secret_basic',
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
    },
  ],
  findAccount: (_context, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  ttl: { AccessToken: 600, Grant: 600, Session: 600, Interaction: 600 },
  interactions: { url: (_context, interaction) => `/agree/${interaction.uid}` },
  features: {
    devInteractions: { enabled: false },
    registration: { enabled: true },
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: (_context, client) => client.clientId === 'gate' },
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo: (_context, resource) => ({
        scope: 'files files:write',
        audience: resource,
        ...(options.opaque
          ? { accessTokenFormat: 'opaque' }
          : { accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } } }),
      }),
    },
  },
});

provider.use(async (context, next) => {
  if (!context.path.startsWith('/agree/')) return next();
  const { prompt, params, session, grantId } = await provider.interactionDetails(context.req, context.res);
  if (prompt.name === 'login') {
    return provider.interactionFinished(context.req, context.res, { login: { accountId: 'alice' } });
  }
  const grant = grantId
    ? await provider.Grant.find(grantId)
    : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  for (const [resource, scopes] of Object.entries(prompt.details.missingResourceScopes ?? {})) {
    grant.addResourceScope(resource, scopes.join(' '));
  }
  grant.addOIDCScope((prompt.details.missingOIDCScope ?? []).join(' '));
  const consent = { grantId: await grant.save() };
  return provider.interactionFinished(context.req, context.res, { consent }, { mergeWithLastSubmission: true });
});

const server = provider.listen(Number(options.port), '127.0.0.1', () => {
  process.stdout.write(`listening on ${issuer}\n`);
});
const end = () => server.close(() => process.exit(0)) && server.closeAllConnections();
process.on('SIGTERM', end);
process.stdin.on('close', end).resume();
