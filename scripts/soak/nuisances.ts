/** Who is at the server under soak and behaves badly: slow and broken connections, requests that are wrong, tokens that are. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { encodeFile, f32 } from '../../test/support/api.ts';
import { below, pick, stream } from '../../test/support/crash-models.ts';
import type { Figures } from './figures.ts';
import { authorization, type Line, type Target } from './line.ts';
import type { Actor } from './others.ts';

const file = encodeFile({ kernel: f32(Array(300_000).fill(0.5), [600, 500]) });
const json = { 'content-type': 'application/json' };
const tensors = { 'content-type': 'application/vnd.safetensors' };
/** Statuses that a bad request may have, and nothing else; the server may be too busy to say. */
const refusals = ['400', '401', '404', '405', '413', '415', '422', '429', '503'];

type Fields = Readonly<Record<string, string | number>>;

function head(target: Target, method: string, path: string, fields: Fields = {}): string {
  const all = Object.entries({ host: 'soak', ...authorization(target), ...fields });
  return `${method} ${path} HTTP/1.1\r\n${all.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`;
}

/** `from`: an address of this machine's own that guesses come from, so that only they are slowed down for them. */
async function open({ port }: Target, from = '127.0.0.1'): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', localAddress: from }).on('error', () => undefined);
  await Promise.race([once(socket, 'connect'), once(socket, 'close')]).catch(() => undefined);
  return socket;
}

export function nuisances(line: Line, figures: Figures): Actor[] {
  const random = stream(12);
  return [
    async () => {
      figures.count('uploads cut off');
      const target = await line.target();
      const socket = await open(target);
      const length = file.length;
      socket.write(head(target, 'POST', '/v1/sessions/large/gradients', { ...tensors, 'content-length': length }));
      socket.write(file.subarray(0, below(random, length)));
      await sleep(below(random, 50));
      socket[pick(random, ['destroy', 'resetAndDestroy', 'end'] as const)]();
      await sleep(100);
      socket.destroy();
    },
    async () => {
      figures.count('slow uploads');
      const target = await line.target();
      const socket = await open(target);
      const fields = { ...tensors, 'content-length': file.length };
      socket.write(head(target, 'POST', '/v1/sessions/large/gradients', fields));
      for (let at = 0; at < 5000 && !socket.destroyed; at += 100) {
        socket.write(file.subarray(at, at + 100));
        await sleep(100);
      }
      socket.destroy();
    },
    async () => {
      figures.count('slow readers');
      const target = await line.target();
      const socket = await open(target);
      socket.write(head(target, 'GET', '/v1/sessions/large/variables', { accept: tensors['content-type'] }));
      for (let look = 0; look < 50 && !socket.destroyed; look++) {
        socket.resume();
        await once(socket, 'data', { signal: AbortSignal.timeout(1000) }).catch(() => undefined);
        socket.pause();
        await sleep(100);
      }
      socket.destroy();
    },
    async (nth) => {
      figures.count('bad requests');
      await refused(line, badRequest(nth, await line.target()));
      await sleep(50);
    },
    async () => {
      figures.count('bad tokens');
      const authorization = pick(random, [
        'Bearer guess',
        'Bearer',
        'Basic cm9vdDpyb290',
        `Bearer ${'x'.repeat(2000)}`,
      ]);
      const target = { ...(await line.target()), token: undefined };
      await refused(line, head(target, 'GET', '/v1/sessions/dense', { authorization }), '127.0.0.2');
      await sleep(200);
    },
  ];
}

function badRequest(nth: number, target: Target): string {
  const path = '/v1/sessions/dense';
  const post = (text: string, fields: Fields = json, to = `${path}/gradients`): string =>
    head(target, 'POST', to, { 'content-length': Buffer.byteLength(text), ...fields }) + text;
  const all = [
    post('{"gradients":'),
    post('{"gradients":{"kernel":{"values":[1,2]}}}'),
    post('{"gradients":{"nobody":{"values":[1]}}}'),
    post('{"gradients":{"bias":{"values":[1,2,3,1e999]}}}'),
    post('{"gradients":{}}', json, '/v1/sessions/nobody/gradients'),
    post('nonsense', tensors),
    post('<xml/>', { 'content-type': 'text/xml' }),
    post('', { ...tensors, 'content-length': 10_000_000_000 }),
    post('{"gradients":{}}', { ...json, 'idempotency-key': 'x'.repeat(300) }),
    head(target, 'PATCH', `${path}/gradients`),
    head(target, 'GET', `${path}/variables?misspelt=1`),
    head(target, 'GET', '/v1/nowhere'),
    'let me in\r\n\r\n',
  ];
  return all[nth % all.length] as string;
}

/** Sends it over a connection of its own; the answer must be a refusal. */
async function refused(line: Line, text: string, from?: string): Promise<void> {
  const target = await line.target();
  const socket = await open(target, from);
  socket.write(text);
  const [answer] = (await once(socket, 'data', { signal: AbortSignal.timeout(10_000) }).catch(() => [])) as Buffer[];
  socket.destroy();
  if (!line.has(target)) return;
  const status = answer?.toString('latin1', 9, 12) ?? 'nothing';
  if (!refusals.includes(status))
    line.fault(`${JSON.stringify(text.slice(0, 300))} must be refused. Received: ${status}`);
}
