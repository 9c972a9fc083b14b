/** What goes wrong with requests: in the address, the headers, the body, and how it is sent. */
import fc from 'fast-check';
import { edited } from './json-mutations.ts';
import type { FuzzRequest, Header } from './requests.ts';

type Mutation = (request: FuzzRequest) => FuzzRequest;

const long = (length: number) => 'a'.repeat(length);

/** In place of a part of an address, percent-encoded or not as they stand. */
const segments = fc.oneof(
  fc.constantFrom(
    '',
    '.',
    '..',
    '%2e%2e',
    '%2F',
    '%00',
    '%',
    '%zz',
    '%ff',
    '%C3%28',
    '%F0%9F%98%80',
    'ü',
    '~',
    ':',
    '*',
  ),
  fc.constantFrom(
    long(129),
    long(257),
    long(800),
    '%61'.repeat(257),
    '__proto__',
    'constructor',
    '-1',
    'm',
    'latest',
    'w:m',
  ),
  fc.constantFrom('dense%2Fkernel', 'dense/kernel', 'a%20b', ';a=b', "'", '<script>', '%0d%0a', '{session}'),
  fc.string({ unit: 'grapheme', maxLength: 10 }).map(encodeURIComponent),
);

const inPath: fc.Arbitrary<Mutation> = fc.oneof(
  fc.tuple(fc.nat({ max: 6 }), segments).map(([nth, segment]) => (request: FuzzRequest) => {
    const parts = request.path.split('/');
    parts[1 + (nth % (parts.length - 1))] = segment;
    return { ...request, path: parts.join('/') };
  }),
  fc.constantFrom('/', '//', '/a', '%2f', '.', '#a').map((tail) => (request: FuzzRequest) => {
    return { ...request, path: `${request.path}${tail}` };
  }),
  fc.constantFrom('http://127.0.0.1', '/', '/.').map((front) => (request: FuzzRequest) => {
    return { ...request, path: `${front}${request.path}` };
  }),
);

const queryNames = ['limit', 'after', 'name', 'dtype', 'rows', 'base', 'worker', 'since', 'keep_checkpoints'];
const queryValues = fc.oneof(
  fc.constantFrom(
    '',
    '-1',
    '0',
    '1.5',
    '1e3',
    '1e400',
    'NaN',
    'null',
    'true',
    'TRUE',
    '9007199254740993',
    '0x10',
    '%',
    '%ff',
  ),
  fc.constantFrom(
    'F32',
    'f32',
    'I64',
    'w',
    'w,double',
    '%00',
    long(200),
    '[]',
    '1,',
    ',',
    '0,99999999999999999',
    '+1',
    '%20',
  ),
);

const inQuery: fc.Arbitrary<Mutation> = fc
  .tuple(
    fc.constantFrom(...queryNames, 'other', '', '__proto__', 'toString', '%', 'name[]', 'dtype%5Bx%5D'),
    queryValues,
  )
  .map(([name, value]) => (request) => {
    return { ...request, query: [request.query, `${name}=${value}`].filter((each) => each !== '').join('&') };
  });

const otherHeaders: readonly Header[] = [
  ...['', '*', '41', '"41', 'W/"1"', '"1","2"', '"a"b"', '""', long(5_000)].map((value): Header => ['if-match', value]),
  ...['', '*', '41', 'W/*', '"'].map((value): Header => ['if-none-match', value]),
  ...['', ' ', 'a b', 'ä', '\u{1f600}', long(255), long(256), '__proto__'].map(
    (value): Header => ['idempotency-key', value],
  ),
  ...['wait=-1', 'wait=NaN', 'wait=', 'wait', 'return=maximal', ',,', 'return="minimal"'].map(
    (value): Header => ['prefer', value],
  ),
  ...['bytes=', 'bytes=a-b', 'bytes=5-1', 'bytes=-0', 'bytes=0-1,', '0-1', long(3_000)].map(
    (value): Header => ['range', value],
  ),
  ...['', '-1', '1.5', 'x', '9007199254740993', '1+', '+ckpt-000001', long(1_000)].map(
    (value): Header => ['last-event-id', value],
  ),
  ...['', 'text/html', 'application/json;q=2', 'a/b;c', ';', '*', 'application/*'].map(
    (value): Header => ['accept', value],
  ),
  ...['', 'identity;q=0', 'gzip;q=9', 'zstd', 'gzip,br,*;q=0'].map((value): Header => ['accept-encoding', value]),
  ['expect', '100-continue'],
  ['expect', 'other'],
  ['x-forwarded-for', '127.0.0.1'],
  ['x-http-method-override', 'DELETE'],
  ['cookie', '__proto__=1'],
  ['origin', 'http://example.org'],
  ['upgrade', 'websocket'],
  ['te', 'trailers'],
  ['connection', 'close'],
  ['constructor', 'x'],
  ['__proto__', 'x'],
  ['if-modified-since', 'yesterday'],
  ['if-unmodified-since', 'Thu, 01 Jan 1970 00:00:00 GMT'],
  ['content-language', long(4_000)],
];

function withHeader({ headers, ...request }: FuzzRequest, name: string, value: string | undefined): FuzzRequest {
  const others = headers.filter(([other]) => other !== name);
  return { ...request, headers: value === undefined ? others : [...others, [name, value]] };
}

const inHeaders: fc.Arbitrary<Mutation> = fc.oneof(
  fc.constantFrom(...otherHeaders).map(
    ([name, value]) =>
      (request: FuzzRequest) =>
        withHeader(request, name, value),
  ),
  // A second one of the same name.
  fc.constantFrom(...otherHeaders).map((header) => (request: FuzzRequest) => {
    return { ...request, headers: [...request.headers, header] };
  }),
);

const contentTypes = fc.constantFrom(
  ...['application/json', 'application/vnd.safetensors', 'application/octet-stream', 'application/merge-patch+json'],
  ...[
    'application/json; charset=utf-8',
    'application/json; charset=latin1',
    'APPLICATION/JSON',
    'application/json,text/plain',
  ],
  ...[
    'text/plain',
    '',
    'json',
    'application/',
    ';',
    '*/*',
    'multipart/form-data',
    'application/x-www-form-urlencoded',
    '__proto__',
  ],
  undefined,
);

const bodies = fc.oneof(
  fc.constantFrom(
    '',
    ' ',
    '{}',
    '[]',
    'null',
    '0',
    '""',
    '{',
    '{"a":1}',
    '\u{feff}{}',
    '{}{}',
    '{"__proto__":{"a":1}}',
  ),
  fc.constantFrom(
    Buffer.from('ff00', 'hex'),
    Buffer.from('7b2261223a22ff227d', 'hex'),
    Buffer.alloc(8),
    Buffer.alloc(300_000),
  ),
  fc.uint8Array({ maxLength: 40 }),
);

const inBody: fc.Arbitrary<Mutation> = fc.oneof(
  {
    arbitrary: edited.map((edit) => (request: FuzzRequest) => {
      return request.json === undefined ? request : { ...request, body: edit(request.json) };
    }),
    weight: 6,
  },
  {
    arbitrary: contentTypes.map((type) => (request: FuzzRequest) => withHeader(request, 'content-type', type)),
    weight: 2,
  },
  {
    arbitrary: fc.tuple(bodies, contentTypes).map(([body, type]) => (request: FuzzRequest) => {
      return withHeader({ ...request, body }, 'content-type', type);
    }),
    weight: 1,
  },
  { arbitrary: bodies.map((body) => (request: FuzzRequest) => ({ ...request, body })), weight: 1 },
  {
    arbitrary: fc.double({ min: 0, max: 1, noNaN: true }).map((share) => (request: FuzzRequest) => {
      return { ...request, body: request.body?.slice(0, Math.floor(share * request.body.length)) };
    }),
    weight: 1,
  },
  {
    arbitrary: fc.tuple(fc.nat(), fc.integer({ min: 1, max: 255 })).map(([at, bits]) => (request: FuzzRequest) => {
      const body = Buffer.from((request.body ?? '') as string);
      if (body.length > 0) body[at % body.length] = (body[at % body.length] as number) ^ bits;
      return { ...request, body };
    }),
    weight: 1,
  },
);

const inSending: fc.Arbitrary<Mutation> = fc.oneof(
  fc
    .constantFrom(
      'gzip' as const,
      'gzip' as const,
      'deflate' as const,
      'br' as const,
      'cut-gzip',
      'false-gzip',
      'unknown',
      'twice',
    )
    .map((encoding) => (request: FuzzRequest) => ({ ...request, encoding })),
  fc
    .constantFrom('chunked' as const, 'chunked' as const, 'too-short', 'too-long', 'bad-chunk')
    .map((framing) => (request: FuzzRequest) => ({ ...request, framing })),
);

const inMethod: fc.Arbitrary<Mutation> = fc
  .constantFrom('GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'PROPFIND')
  .map((method) => (request) => ({ ...request, method }));

const mutation = fc.oneof(
  { arbitrary: inBody, weight: 6 },
  { arbitrary: inHeaders, weight: 2 },
  { arbitrary: inPath, weight: 2 },
  { arbitrary: inQuery, weight: 2 },
  { arbitrary: inSending, weight: 2 },
  { arbitrary: inMethod, weight: 1 },
);

const none = fc.constant<Mutation[]>([]);

/** About half of the requests as they are, and half with something wrong, or two things. */
export function mutated(requests: fc.Arbitrary<FuzzRequest>): fc.Arbitrary<FuzzRequest> {
  const some = fc.array(mutation, { minLength: 1, maxLength: 2 });
  return fc
    .tuple(requests, fc.oneof({ arbitrary: none, weight: 1 }, { arbitrary: some, weight: 1 }))
    .map(([request, mutations]) => mutations.reduce((each, mutate) => mutate(each), request));
}
