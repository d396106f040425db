// A TCP proxy on 127.0.0.1 whose connections can be cut. It knows which of them carry an event stream.
import { connect, createServer } from 'node:net';

export async function cuttable(base) {
  const { hostname, port, origin } = new URL(base);
  const streams = new Set();
  const state = { open: true, halve: false };

  const server = createServer((near) => {
    if (!state.open) return near.destroy();
    const far = connect({ host: hostname, port: Number(port) || 80 });
    const cut = () => {
      streams.delete(cut);
      near.destroy();
      far.destroy();
    };
    near.on('data', (bytes) => void far.write(bytes));
    far.on('data', (bytes) => {
      const isStream = streams.has(cut);
      if (!isStream && /^content-type: *text\/event-stream/im.test(bytes.toString('latin1'))) streams.add(cut);
      if (!isStream || !state.halve) return void near.write(bytes);
      state.halve = false;
      near.write(bytes.subarray(0, bytes.length >> 1), () => setTimeout(cut, 20));
    });
    for (const end of [near, far]) end.on('error', cut).on('close', cut);
    return undefined;
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));

  return {
    url: base.replace(origin, `http://127.0.0.1:${server.address().port}`),
    /** Cuts every connection that carries an event stream; says how many. */
    cut: () => [...streams].map((cut) => cut()).length,
    /** Cuts an event stream in the middle of the next bytes that it carries. */
    cutInside: () => void (state.halve = true),
    /** While refused, new connections end at once. */
    refuse: (refused) => void (state.open = !refused),
    close: () => void server.close(),
  };
}
