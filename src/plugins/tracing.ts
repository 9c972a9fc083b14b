/**
 * OpenTelemetry traces: a span for each request, child of the caller's where a `traceparent` came, sent in batches beside the
 * traffic. Loaded only where there is somewhere to send them to. Where that is, which share of the requests is traced, and how
 * the service is called, is for OpenTelemetry's SDK to read from its own variables (`OTEL_*`). A collector that does not answer
 * costs spans and nothing else. Spans tell of addresses and outcomes, never of bodies, headers or queries.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { FastifyOtelInstrumentation } from '@fastify/otel';
import { context, DiagLogLevel, diag, propagation, type Span, trace } from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { defaultResource, detectResources, envDetector, resourceFromAttributes } from '@opentelemetry/resources';
import { BatchSpanProcessor, NodeTracerProvider } from '@opentelemetry/sdk-trace-node';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import { packageVersion } from './package-version.ts';

/** Asked for every few seconds, by whoever looks after the server. */
const untraced = new Set(['/healthz', '/readyz', '/metrics']);
/** What a shutdown waits at most for the last spans to be taken. */
const flushMs = 2000;

export const tracing = fp(async (app: FastifyInstance) => {
  const warn = (message: string, ...rest: unknown[]): void => app.log.warn({ rest }, `tracing: ${message}`);
  const silent = (): void => undefined;
  diag.setLogger(
    { error: warn, warn, info: silent, debug: silent, verbose: silent },
    { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true },
  );
  const provider = new NodeTracerProvider({
    resource: defaultResource()
      .merge(resourceFromAttributes({ 'service.name': 'adamax-server', 'service.version': packageVersion() }))
      .merge(detectResources({ detectors: [envDetector] })),
    spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())],
  });
  provider.register();
  const instrumentation = new FastifyOtelInstrumentation({
    ignorePaths: ({ url }) => untraced.has(url),
    instrumentHooks: false,
    instrumentHandler: false,
    recordExceptions: false,
    requestHook: describe,
  });
  instrumentation.setTracerProvider(provider);
  await app.register(instrumentation.plugin());
  // It would put an error's message into the span, which can quote what a client sent, and call a client's mistakes the server's.
  app.addHook('onRoute', (route) => {
    delete route.onError;
  });
  // Before the span ends, which it does when the reply is ready to be sent.
  app.addHook('onSend', (request, _reply, payload, done) => {
    if (request.problemCode !== undefined) spanOf(request)?.setAttribute('adamax.problem', request.problemCode);
    done(null, payload);
  });
  app.addHook('onClose', async () => {
    const flushed = provider.shutdown().catch((error: Error) => warn(error.message));
    await Promise.race([flushed, delay(flushMs, undefined, { ref: false })]);
    for (const api of [trace, context, propagation, diag]) api.disable();
  });
});

function describe(span: Span, request: FastifyRequest): void {
  const { url: route } = request.routeOptions;
  const { session } = (request.params ?? {}) as { session?: string };
  span.updateName(route === undefined ? request.method : `${request.method} ${route}`);
  span.setAttribute('url.path', request.url.split('?', 1)[0] as string);
  if (session !== undefined) span.setAttribute('adamax.session', session);
  const { traceId, spanId } = span.spanContext();
  request.traced = { traceId, spanId };
}

function spanOf(request: FastifyRequest): Span | null {
  return request.opentelemetry().span;
}
