/** A request as the bytes that go over the wire, with what is known by now in place of the words between tildes. */
import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib';
import type { ContentEncoding, Framing, FuzzRequest } from './requests.ts';

export interface Sent {
  readonly request: FuzzRequest;
  /** With the query; without what else an address can bear before and behind it. */
  readonly target: string;
  readonly head: string;
  readonly body: Buffer;
  /** It never becomes a whole request, so that it need not be answered. */
  readonly isBroken: boolean;
  /** What comes behind it on its connection would be taken for a part of it, or for something else. */
  readonly isLast: boolean;
}

export function render(
  request: FuzzRequest,
  words: ReadonlyMap<string, string>,
  others: Readonly<Record<string, string>>,
): Sent {
  const fill = (text: string) => text.replaceAll(/~(\w+)~/g, (tilded, word) => words.get(word) ?? tilded);
  const { method, path, query, headers, body, encoding, framing } = request;
  const target = fill(query === '' ? path : `${path}?${query}`);
  const text = typeof body === 'string' ? Buffer.from(fill(body)) : Buffer.from(body ?? '');
  const encoded = encode(text, body === undefined ? undefined : encoding);
  const lines = [
    ['host', 'fuzz'],
    ...Object.entries(others),
    ...headers.map(([name, value]) => [name, fill(value)]),
    ...(encoding === undefined ? [] : [['content-encoding', encodingNames[encoding]]]),
    ...(body === undefined && framing === undefined ? [] : [lengthOf(encoded, framing)]),
  ].map((line) => `${line.join(': ')}\r\n`);
  return {
    request,
    target: target.replace(/^https?:\/\/[^/]*/, '').replace(/#.*/, ''),
    head: `${method} ${target} HTTP/1.1\r\n${lines.join('')}\r\n`,
    body: framed(encoded, framing),
    isBroken: framing === 'too-long' || framing === 'bad-chunk',
    isLast: framing === 'too-short' || framing === 'too-long' || framing === 'bad-chunk',
  };
}

const encodingNames: Readonly<Record<ContentEncoding, string>> = {
  gzip: 'gzip',
  deflate: 'deflate',
  br: 'br',
  'cut-gzip': 'gzip',
  'false-gzip': 'gzip',
  unknown: 'compress',
  twice: 'gzip, gzip',
};

function encode(body: Buffer, encoding: ContentEncoding | undefined): Buffer {
  switch (encoding) {
    case 'gzip':
      return gzipSync(body);
    case 'deflate':
      return deflateSync(body);
    case 'br':
      return brotliCompressSync(body);
    case 'cut-gzip':
      return gzipSync(body).subarray(0, -9);
    case 'twice':
      return gzipSync(gzipSync(body));
    default:
      return body;
  }
}

function lengthOf({ length }: Buffer, framing: Framing | undefined): [string, string] {
  if (framing === 'chunked' || framing === 'bad-chunk') return ['transfer-encoding', 'chunked'];
  if (framing === 'too-short') return ['content-length', String(Math.floor(length / 2))];
  return ['content-length', String(framing === 'too-long' ? length + 10 : length)];
}

function framed(body: Buffer, framing: Framing | undefined): Buffer {
  if (framing !== 'chunked' && framing !== 'bad-chunk') return body;
  const middle = Math.floor(body.length / 2);
  const chunks = [body.subarray(0, middle), body.subarray(middle)].filter(({ length }) => length > 0);
  const parts = chunks.flatMap((chunk) => [`${chunk.length.toString(16)}\r\n`, chunk, '\r\n']);
  parts.push(framing === 'chunked' ? '0\r\n\r\n' : 'xyz\r\n');
  return Buffer.concat(parts.map((part) => Buffer.from(part as string)));
}
