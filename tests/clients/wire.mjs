// A fetch that notes what went over the wire, so that checks can look at requests as they were sent.

export class Wire {
  /** Every exchange: method, path, headers (lower case), message (parsed body), status, contentType. */
  exchanges = [];

  fetch = async (url, init = {}) => {
    const exchange = {
      method: init.method ?? 'GET',
      path: new URL(url).pathname,
      headers: Object.fromEntries(new Headers(init.headers)),
      message: typeof init.body === 'string' ? JSON.parse(init.body) : undefined,
      status: undefined,
    };
    this.exchanges.push(exchange);
    const response = await fetch(url, init);
    exchange.status = response.status;
    exchange.contentType = response.headers.get('content-type');
    exchange.responseHeaders = Object.fromEntries(response.headers);
    return response;
  };

  /** The first exchange like this, its answer's head already in. */
  find(like) {
    return this.exchanges.find((exchange) => exchange.status !== undefined && like(exchange));
  }

  findMessage(method) {
    return this.find((exchange) => exchange.message?.method === method);
  }
}
