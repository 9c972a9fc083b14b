/** Who else is at the server under soak, and behaves well: those who read, follow events, make checkpoints, come and go. */
import { request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { below, pick, stream } from '../../test/support/crash-models.ts';
import type { Figures } from './figures.ts';
import { authorization, type Line } from './line.ts';
import type { SoakSession } from './sessions.ts';

const safetensors = { accept: 'application/vnd.safetensors' };

/** Each does one thing, and is called again and again. */
export type Actor = (nth: number) => Promise<void>;

export function others(line: Line, sessions: readonly SoakSession[], figures: Figures): Actor[] {
  const random = stream(11);
  const path = () => pick(random, sessions).path;
  const revisions = new Map<string, string>();
  const read = async (to: string, headers = {}): Promise<void> => {
    const answer = await line.expect([200, 304], 'GET', to, { headers });
    if (answer?.status === 200) figures.took('read', answer.milliseconds);
    await sleep(20);
  };
  return [
    async (nth) => read(`${path()}/variables`, nth % 2 === 0 ? safetensors : {}),
    async () => read(`${path()}/slots/m`, safetensors),
    async (nth) =>
      read(pick(random, ['/v1/sessions', path(), `${path()}/workers`, '/metrics', '/readyz'].slice(nth % 2))),
    async () => {
      const of = path();
      const answer = await line.expect([200], 'GET', `${of}/variables?since=${revisions.get(of) ?? 1}`);
      const revision = answer?.headers.etag?.slice(1, -1);
      if (answer?.status === 200 && typeof revision === 'string') revisions.set(of, revision);
      await sleep(100);
    },
    async () => {
      const indices = Array.from({ length: 10 }, () => below(random, 50));
      const json = { variables: { rows: { indices } } };
      await line.expect([200], 'POST', '/v1/sessions/sparse/lookup', { json });
      await sleep(50);
    },
    async () => {
      const of = path();
      const { etag } = (await line.expect([200], 'GET', of))?.headers ?? {};
      const headers = { prefer: 'wait=2', ...(typeof etag === 'string' ? { 'if-none-match': etag } : {}) };
      await line.expect([200, 304], 'GET', `${of}/variables`, { headers });
      await sleep(100);
    },
    async () => {
      const of = path();
      const made = await line.expect([201], 'POST', `${of}/checkpoints`);
      if (made?.status === 201) await line.expect([200], 'GET', `${of}/checkpoints/latest`);
      await sleep(2000);
    },
    (nth) => comeAndGo(line, `passing-${nth}`, figures),
    (nth) => listen(line, path(), nth, figures),
  ];
}

/** A session that is made, stepped and deleted. */
async function comeAndGo(line: Line, name: string, figures: Figures): Promise<void> {
  const path = `/v1/sessions/${name}`;
  const settle = async (status: number, method: string, to: string, json?: object): Promise<void> => {
    const headers = { 'idempotency-key': `${name}-${method}` };
    const { answer } = await line.settle(method, to, json === undefined ? { headers } : { json, headers });
    if (answer.status !== status) line.fault(`${method} ${to} must be ${status}. Received: ${answer.status}`);
  };
  await settle(201, 'PUT', path, { variables: { w: { shape: [100_000] }, b: { values: [1, 2] } } });
  await settle(200, 'POST', `${path}/gradients`, { gradients: { b: { values: [1, 1] } } });
  await settle(204, 'DELETE', path);
  figures.count('sessions made and deleted');
  await sleep(500);
}

/** Follows events for a while; their ids must grow. */
async function listen(line: Line, path: string, nth: number, figures: Figures): Promise<void> {
  const target = await line.target();
  const options = { host: '127.0.0.1', port: target.port, path: `${path}/events`, agent: false } as const;
  const sent = request({ ...options, headers: authorization(target) });
  await new Promise<void>((resolve) => {
    let last = 0;
    let rest = '';
    sent.once('response', (response) => {
      response.setEncoding('utf8').on('error', () => undefined);
      response.on('data', (text: string) => {
        const lines = (rest + text).split('\n');
        rest = lines.pop() as string;
        for (const id of lines.filter((each) => each.startsWith('id: '))) {
          const revision = Number.parseInt(id.slice(4), 10);
          if (revision < last) line.fault(`events of ${path} must come in order. ${revision} came behind ${last}`);
          last = revision;
          figures.count('events');
        }
      });
    });
    const timer = setTimeout(() => sent.destroy(), 3000 + 1000 * (nth % 5));
    sent.once('error', () => undefined);
    sent.once('close', () => {
      clearTimeout(timer);
      resolve();
    });
    sent.end();
  });
  await sleep(100);
}
