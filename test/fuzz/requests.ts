/**
 * From an operation of the document to requests for it: its parameters and a body in one of its formats, mostly such as it
 * allows. What is then done to a share of them is mutations.ts's. A request is plain data, so that a failing one can be
 * shrunk and sent again; how it becomes bytes is sending.ts's.
 */
import fc from 'fast-check';
import type { SchemaArbitraries } from './arbitraries.ts';
import { type Operation, type Parameter, referenced } from './operations.ts';
import { validFile, wrongFile } from './safetensors-arbitraries.ts';

export interface FuzzRequest {
  /** Its id; what is then done to the request can make it one for another operation, or for none. */
  readonly operation: string;
  readonly method: string;
  /** Percent-encoded, from the first `/` on, without the query. */
  readonly path: string;
  /** Without the `?`. */
  readonly query: string;
  readonly headers: readonly Header[];
  /** What the body's text is to say, if it is JSON. */
  readonly json?: unknown;
  readonly body: string | Uint8Array | undefined;
  readonly encoding?: ContentEncoding;
  readonly framing?: Framing;
}

export type Header = readonly [name: string, value: string];

/** How a body is compressed, or pretends to be. */
export type ContentEncoding = 'gzip' | 'deflate' | 'br' | 'cut-gzip' | 'false-gzip' | 'unknown' | 'twice';

/** How a body's end is told: by its length if not said; by a wrong length, or by chunks that are none. */
export type Framing = 'chunked' | 'too-short' | 'too-long' | 'bad-chunk';

type Drawn = Readonly<Record<string, unknown>>;

export function requestTo(operation: Operation, schemas: SchemaArbitraries): fc.Arbitrary<FuzzRequest> {
  return fc
    .record({
      path: parametersOf(operation, 'path', schemas),
      query: parametersOf(operation, 'query', schemas),
      headers: parametersOf(operation, 'header', schemas),
      negotiated: negotiation,
      body: bodyOf(operation, schemas),
    })
    .map(({ path, query, headers, negotiated, body }) => ({
      operation: operation.id,
      method: operation.method,
      path: operation.template.replaceAll(/\{([^}]+)\}/g, (_, name) => encodeURIComponent(String(path[name]))),
      query: queryOf(query),
      headers: [...Object.entries(headers), ...Object.entries(negotiated), ...typeOf(body)].map(headerOf),
      body: undefined,
      ...body,
    }));
}

/** What is required is mostly there; the rest for the smaller part. */
function parametersOf(
  { parameters }: Operation,
  place: Parameter['in'],
  schemas: SchemaArbitraries,
): fc.Arbitrary<Drawn> {
  const own = parameters.filter((parameter) => parameter.in === place);
  const drawn = own.map(({ name, schema }) => {
    const value = schemas.of(schema, name);
    const isAlways = place === 'path' || name === 'worker' || name === 'base';
    return [name, isAlways ? value : fc.option(value, { nil: undefined, freq: 2 })] as const;
  });
  return fc.record(Object.fromEntries(drawn)).map((values) => {
    return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
  });
}

const formats = ['application/json', 'application/vnd.safetensors', 'application/octet-stream', '*/*'];

const negotiation: fc.Arbitrary<Drawn> = fc
  .record({
    accept: fc.option(fc.constantFrom(...formats, ...formats, 'text/*', 'application/json;q=0, */*;q=0.5'), {
      freq: 3,
    }),
    'accept-encoding': fc.option(fc.constantFrom('gzip', 'br', 'deflate', 'gzip;q=0, identity', '*'), { freq: 3 }),
  })
  .map((headers) => Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== null)));

interface DrawnBody {
  readonly type: string;
  readonly json?: unknown;
  readonly body: string | Uint8Array;
}

function bodyOf({ bodies }: Operation, schemas: SchemaArbitraries): fc.Arbitrary<DrawnBody | undefined> {
  if (bodies.size === 0) return fc.constant(undefined);
  const components = [...bodies.values()].map(referenced).filter((name) => name !== undefined);
  const choices = [...bodies].map(([type, schema]) => {
    if (type.endsWith('json')) {
      return schemas.of(schema).map((json) => ({ type, json, body: JSON.stringify(json) }));
    }
    const valid = validFile(components[0]);
    const file = fc.oneof({ arbitrary: valid, weight: 3 }, { arbitrary: wrongFile(components[0]), weight: 1 });
    return file.map((body) => ({ type, body }));
  });
  return fc.oneof(...(choices as fc.Arbitrary<DrawnBody>[]));
}

function typeOf(body: DrawnBody | undefined): Header[] {
  return body === undefined ? [] : [['content-type', body.type]];
}

function queryOf(drawn: Drawn): string {
  const pairs = Object.entries(drawn).flatMap(([name, value]) => [value].flat().map((each) => [name, each] as const));
  return pairs.map(([name, value]) => `${name}=${encodeURIComponent(String(value))}`).join('&');
}

/** Control characters would make it another request, or none. */
function headerOf([name, value]: readonly [string, unknown]): Header {
  return [name, String(value).replaceAll(/\p{Cc}/gu, '')];
}
