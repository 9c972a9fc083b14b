/** A child: Fastify routes that return what they take, as a buffer or parsed from JSON; no logger, no schema. */
import type { AddressInfo } from 'node:net';
import fastify from 'fastify';

const app = fastify();
app.addContentTypeParser('application/vnd.safetensors', { parseAs: 'buffer' }, (_request, body, done) => {
  done(null, body);
});
app.post('/safetensors', (request, reply) => reply.type('application/vnd.safetensors').send(request.body));
app.post('/json', (request, reply) => reply.send(request.body));

await app.listen({ host: '127.0.0.1', port: 0 });
process.send?.((app.server.address() as AddressInfo).port);
process.on('disconnect', () => process.exit());
