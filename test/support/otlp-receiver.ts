/** A collector of OpenTelemetry traces on this machine: it takes OTLP over HTTP in protobuf, and keeps the spans that came. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface ReceivedSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string;
  readonly name: string;
  readonly attributes: Readonly<Record<string, unknown>>;
  /** 2: an error. */
  readonly statusCode: number;
  /** Of what made it: `service.name` and the like. */
  readonly resource: Readonly<Record<string, unknown>>;
}

export class OtlpReceiver {
  readonly spans: ReceivedSpan[] = [];
  readonly requests: {
    readonly path: string;
    readonly headers: NodeJS.Dict<string | string[]>;
    readonly body: Buffer;
  }[] = [];
  readonly #server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
      const body = Buffer.concat(chunks);
      this.requests.push({ path: request.url ?? '', headers: request.headers, body });
      this.spans.push(...decodeSpans(body));
      response.setHeader('content-type', 'application/x-protobuf').end();
    });
  });

  static async start(t: { after(task: () => void): void }): Promise<OtlpReceiver> {
    const receiver = new OtlpReceiver();
    receiver.#server.listen(0, '127.0.0.1');
    await once(receiver.#server, 'listening');
    t.after(() => {
      receiver.#server.close();
      receiver.#server.closeAllConnections();
    });
    return receiver;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }
}

type Field = Buffer | bigint;

/** The fields of a protobuf message by number. */
function fieldsOf(message: Buffer): Map<number, Field[]> {
  const fields = new Map<number, Field[]>();
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = message[at++] as number;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  const bytes = (length: number): Buffer => {
    at += length;
    return message.subarray(at - length, at);
  };
  while (at < message.length) {
    const key = Number(varint());
    const type = key & 7;
    const value = type === 0 ? varint() : type === 2 ? bytes(Number(varint())) : bytes(type === 1 ? 8 : 4);
    fields.set(key >> 3, [...(fields.get(key >> 3) ?? []), value]);
  }
  return fields;
}

function messages(fields: Map<number, Field[]>, number: number): Map<number, Field[]>[] {
  return (fields.get(number) ?? []).map((field) => fieldsOf(field as Buffer));
}

function attributesOf(fields: Map<number, Field[]>, number: number): Record<string, unknown> {
  const pairs = messages(fields, number).map((pair) => {
    const [value] = messages(pair, 2);
    const [[, [first] = []] = []] = [...(value ?? [])];
    return [String(pair.get(1)?.[0]), Buffer.isBuffer(first) ? first.toString() : Number(first)] as const;
  });
  return Object.fromEntries(pairs);
}

/** Of an ExportTraceServiceRequest. */
function decodeSpans(body: Buffer): ReceivedSpan[] {
  return messages(fieldsOf(body), 1).flatMap((resourceSpans) => {
    const resource = attributesOf(messages(resourceSpans, 1)[0] ?? new Map(), 1);
    const spans = messages(resourceSpans, 2).flatMap((scope) => messages(scope, 2));
    return spans.map((span) => {
      const hex = (number: number) => ((span.get(number)?.[0] ?? Buffer.alloc(0)) as Buffer).toString('hex');
      return {
        traceId: hex(1),
        spanId: hex(2),
        parentSpanId: hex(4),
        name: String(span.get(5)?.[0]),
        attributes: attributesOf(span, 9),
        statusCode: Number(messages(span, 15)[0]?.get(3)?.[0] ?? 0),
        resource,
      };
    });
  });
}
