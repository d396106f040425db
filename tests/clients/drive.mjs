// Uses everything that server-everything offers, with the official TypeScript SDK client, and asserts the answers.
//   node drive.mjs --url http://127.0.0.1:4444/mcp --transport streamable|sse [--label NAME] [--direct]
// --direct: no gateway is in between; what server-everything does not pass by itself is printed, but not counted.
import { parseArgs } from 'node:util';
import { Checks } from './checks.mjs';
import { basics, ending } from './drive/lifecycle.mjs';
import { connect } from './drive/client.mjs';
import { cancellation, parallel } from './drive/concurrency.mjs';
import { logging, roots, subscriptions } from './drive/notifications.mjs';
import { prompts, resources } from './drive/offers.mjs';
import { questions } from './drive/questions.mjs';
import { tasks } from './drive/tasks.mjs';
import { tools } from './drive/tools.mjs';

const { values: options } = parseArgs({
  options: {
    url: { type: 'string' },
    transport: { type: 'string', default: 'streamable' },
    label: { type: 'string', default: '' },
    direct: { type: 'boolean', default: false },
  },
});

const checks = new Checks(options.label, { totalSeconds: 120 });
const session = await checks.run('connect', () => connect(options.url, options.transport));
if (session) {
  session.direct = options.direct;
  await basics(checks, session);
  await tools(checks, session);
  // These wait more than they work, and each looks at messages of its own: side by side.
  await Promise.all([resources, prompts, questions, roots, tasks].map((part) => part(checks, session)));
  await subscriptions(checks, session);
  await logging(checks, session);
  await parallel(checks, session);
  await cancellation(checks, session);
  await ending(checks, session);
}
checks.finish();
