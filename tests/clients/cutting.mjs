// Cuts a response body at a named point: "event:N" after N whole events, "inside:N" in the middle of event N,
// "byte:N" after N bytes. How it ends then: "broken" like a lost connection, "closed" like an orderly end.

export function parseCut(text) {
  const [, unit, number, ending] = text.match(/^(event|inside|byte):(\d+)(?:\/(broken|closed))?$/) ?? [];
  if (!unit) throw new Error(`not a cut: ${text}`);
  return { unit, number: Number(number), ending: ending ?? 'broken' };
}

/** The same response, its body cut. `onCut` is called once, when it happens. */
export function cutResponse(response, cut, onCut) {
  const point = new CutPoint(cut);
  const reader = response.body.getReader();
  const body = new ReadableStream({
    async pull(controller) {
      const { value, done } = point.reached ? { done: false, value: new Uint8Array() } : await reader.read();
      if (done) return controller.close();
      const passed = point.pass(value);
      if (passed.length > 0) controller.enqueue(passed);
      if (!point.reached) return undefined;
      reader.cancel().catch(() => {});
      onCut();
      // What was enqueued is still read: an error would throw it away with the stream.
      await new Promise((resolve) => setTimeout(resolve, 20));
      return cut.ending === 'broken' ? controller.error(new TypeError('connection cut by the test')) : controller.close();
    },
    cancel: (reason) => reader.cancel(reason),
  });
  return new Response(body, { status: response.status, statusText: response.statusText, headers: response.headers });
}

class CutPoint {
  #unit;
  #left;
  #fields = false; // the event has a line that is no comment
  #line = '';

  constructor({ unit, number }) {
    this.#unit = unit;
    this.#left = number;
    this.reached = number === 0;
  }

  /** What of these bytes is before the cut. */
  pass(bytes) {
    for (let at = 0; at < bytes.length && !this.reached; at += 1) {
      this.#step(bytes[at]);
      if (this.reached) return bytes.subarray(0, at + 1);
    }
    return this.reached ? bytes.subarray(0, 0) : bytes;
  }

  #step(byte) {
    if (this.#unit === 'byte') {
      this.#left -= 1;
      this.reached = this.#left === 0;
      return;
    }
    if (byte !== 0x0a) {
      this.#line += String.fromCharCode(byte);
      // Inside: at the twelfth character of the data, or at its end where it is shorter.
      if (this.#unit === 'inside' && this.#left === 1 && /^data: ?.{12}/.test(this.#line)) this.reached = true;
      return;
    }
    const line = this.#line.replace(/\r$/, '');
    this.#line = '';
    if (line !== '') {
      this.#fields ||= !line.startsWith(':');
      if (this.#unit === 'inside' && this.#left === 1 && line.startsWith('data:')) this.reached = true;
      return;
    }
    if (!this.#fields) return;
    this.#fields = false;
    this.#left -= 1;
    this.reached = this.#unit === 'event' && this.#left === 0;
  }
}
