// Preloaded into servers that listen on every interface: makes a bare port mean 127.0.0.1, and ends them with whoever
// started them, however that one ended.
import { Server } from 'node:net';

const listen = Server.prototype.listen;
Server.prototype.listen = function (...args) {
  const [port, ...rest] = args;
  const bare = (typeof port === 'number' || /^\d+$/.test(port)) && typeof rest[0] !== 'string';
  return bare ? listen.call(this, port, '127.0.0.1', ...rest) : listen.apply(this, args);
};

process.stdin.on('close', () => process.exit()).resume();
