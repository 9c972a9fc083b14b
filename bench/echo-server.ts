/**
 * A child: the least that a `node:http` server can do with a body. Each body is read chunk by chunk into one buffer, made
 * beforehand (as large as the first argument says), and that buffer is the reply; so it takes one request at a time.
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

const buffer = Buffer.alloc(Number(process.argv[2]));

const server = createServer((request, reply) => {
  let filled = 0;
  request.on('data', (chunk: Buffer) => {
    buffer.set(chunk, filled);
    filled += chunk.length;
  });
  request.on('end', () => {
    reply.setHeader('content-length', filled);
    reply.end(buffer.subarray(0, filled));
  });
});

// Between its turns a connection may be idle for longer than the default of 5 s.
server.keepAliveTimeout = 0;
server.listen(0, '127.0.0.1', () => process.send?.((server.address() as AddressInfo).port));
process.on('disconnect', () => process.exit());
