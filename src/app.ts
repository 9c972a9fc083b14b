/** build(config): the Fastify instance, complete. It never listens and never reads the environment. */

import { constants } from 'node:zlib';
import compress from '@fastify/compress';
import fastify, { type FastifyBaseLogger, type FastifyInstance, type FastifyRequest, LogController } from 'fastify';
import { routes } from '../routes/index.ts';
import type { Config } from './config.ts';
import { Problem } from './errors.ts';
import { variableNameMax } from './limits.ts';
import { auditLog } from './plugins/audit.ts';
import { authorisation } from './plugins/authorisation.ts';
import { bodies, takesBody } from './plugins/bodies/bodies.ts';
import { browsers } from './plugins/browsers.ts';
import { readCredentials } from './plugins/connections/certificate.ts';
import { connections } from './plugins/connections/connections.ts';
import { expectContinue } from './plugins/connections/expect-continue.ts';
import { Listener } from './plugins/connections/listener.ts';
import { pace } from './plugins/connections/pace.ts';
import { pipelined } from './plugins/connections/pipelined.ts';
import { diskSpace } from './plugins/disk-space.ts';
import { eventStreams } from './plugins/event-stream.ts';
import { info } from './plugins/figures/info.ts';
import { metrics } from './plugins/figures/metrics.ts';
import { openapi } from './plugins/openapi.ts';
import { overload } from './plugins/overload.ts';
import { answerClientError, problems, sendProblem, toProblem } from './plugins/problems.ts';
import { refusalLog } from './plugins/refusal-log.ts';
import { requestLog } from './plugins/request-log.ts';
import { shutdown } from './plugins/shutdown.ts';
import { buildValidator } from './schemas/validate.ts';
import type { Store } from './store/store.ts';

export async function build(config: Config, store: Store, logger: FastifyBaseLogger): Promise<FastifyInstance> {
  const credentials = config.tls && (await readCredentials(config.tls));
  const listener = new Listener(config.connections, credentials, logger);
  const app: FastifyInstance = fastify({
    ...listener.options,
    loggerInstance: logger,
    logController: new LogController({ disableRequestLogging: true }),
    // The few lines about requests name them; a logger for each request would cost more than they do.
    childLoggerFactory: (parent) => parent,
    bodyLimit: config.bodyBytesMax,
    clientErrorHandler: (error, socket) => answerClientError(app, error, socket),
    // Of an address that cannot be read, which meets no hook.
    frameworkErrors: (error, request, reply) => sendProblem(toProblem(error), request, reply.headers(app.replyHeaders)),
    // A variable's name has up to 256 characters, each of which may come percent-encoded.
    routerOptions: { maxParamLength: 3 * variableNameMax },
    return503OnClosing: false,
    // After the plugin `shutdown` has waited for what is under way.
    forceCloseConnections: true,
    schemaController: { compilersFactory: { buildValidator } },
  });
  app.setSerializerCompiler(() => JSON.stringify);
  app.decorate('store', store);
  await app.register(pipelined);
  await app.register(refusalLog);
  await app.register(requestLog);
  await app.register(problems);
  // Before whatever asks for a token.
  await app.register(browsers, { origins: config.corsOrigins, isSecure: config.tls !== undefined });
  await app.register(connections, { config, listener, credentials });
  if (config.isTraced) await app.register((await import('./plugins/tracing.ts')).tracing);
  // The other half of the time is for the last checkpoints.
  await app.register(shutdown, { patienceMs: config.shutdownTimeoutMs / 2 });
  await app.register(pace, { bounds: config.connections });
  await app.register(authorisation, { authFile: config.authFile });
  await app.register(auditLog);
  await app.register(compress, compression);
  await app.register(expectContinue);
  await app.register(bodies, { bodyBytesMax: config.bodyBytesMax });
  await app.register(diskSpace);
  await app.register(metrics, { store });
  await app.register(overload, { requestsMax: config.requestsMax });
  await app.register(eventStreams);
  await app.register(info, { config });
  await app.register(openapi);
  await app.register(routes);
  return app;
}

/** Text is compressed for those who ask, quickly; tensors never are, since random mantissas do not shrink. */
const compression = {
  encodings: ['gzip', 'deflate', 'br'] as ('gzip' | 'deflate' | 'br')[],
  requestEncodings: ['gzip', 'deflate', 'br'] as ('gzip' | 'deflate' | 'br')[],
  customTypes: /^application\/(json|yaml|problem\+json)|^text\//,
  zlibOptions: { level: 1 },
  brotliOptions: { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } },
  onUnsupportedRequestEncoding: (encoding: string, request: FastifyRequest) =>
    new Problem(
      takesBody(request) ? 'unsupported_media_type' : 'invalid_parameter',
      `Content-Encoding must be gzip, deflate or br. Received: ${encoding}`,
    ),
};

declare module 'fastify' {
  interface FastifyInstance {
    store: Store;
  }
}
