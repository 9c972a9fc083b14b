/** The server's resident memory: its peak under dense pushes, and whether it comes back to where it was. */
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { denseBody } from './bodies.ts';
import type { Children } from './children.ts';
import { asMeasured, type Comparison } from './pairs.ts';
import { type Body, Poster } from './post.ts';
import { residentMemory } from './resident.ts';
import type { Benchmark, Row } from './row.ts';
import { type Server, startServer } from './server.ts';

const MB = 1e6;
const lookMs = 20;
/** The peak: a session, and so many pushes over one connection. The bound is in bytes. */
const [peakFloats, peakPushes] = [25_000_000, 20];
const peakBound = (12 + 4 + 4) * peakFloats + 150 * MB;
/** The growth: pushes of a warm-up, in each of two windows, and from the start of the first to that of the second. */
const [warmUp, window, apart] = [2_000, 5_000, 10_000];
/** How long memory may take to come back, since V8 collects garbage when it sees fit. */
const settleSeconds = 20;
const [sessions, uploads] = [100, 1_000];
/** Megabytes: two sessions, six bodies. */
const allowanceMB = 24;

export const memory: Benchmark = {
  name: 'memory',
  notes: [
    `Resident memory is \`VmRSS\` of \`/proc/<pid>/status\`, its peak since the server's start \`VmHWM\`; each row has a server of its own. The bound of the peak: 12 bytes a parameter, one gradient and one reply for the one request in flight, and 150 MB for everything else. MB are 10^6 bytes.`,
    `Between two collections of garbage memory only rises, so growth over pushes is that of its floor: the least in a window of ${window} pushes, after a warm-up of ${warmUp}, and the least in a window that begins ${apart} pushes later. A leak of 1 KB a push would be 10 MB; less than 4 MB is how V8's own spaces come to lie.`,
    `What has come and gone: ${sessions} sessions of 12 MB are created and then deleted; ${uploads} uploads of 4 MB are destroyed after half of the body, one after the other, and then a whole one succeeds. The level before is that after one session, or after some whole and some cut-off uploads. The level after is the least within ${settleSeconds} s in which nothing is asked of the server. The allowance is two sessions or six bodies, of the 1.2 GB and the 4 GB that went through.`,
  ],
  rows: measure,
};

async function* measure(children: Children): AsyncGenerator<Row> {
  yield {
    what: `peak of resident memory, one session of n = 25 M floats, ${peakPushes} dense pushes`,
    against: '12 n + gradient + reply + 150 MB',
    target: { atMost: 1 },
    result: await measureOn(children, peak),
  };
  yield {
    what: 'resident memory, at its least, after 10,000 pushes of 1,000 floats',
    against: 'before them',
    target: { atMostMore: 4, unit: 'MB' },
    result: await measureOn(children, growth),
  };
  const back = { against: 'before them', target: { atMostMore: allowanceMB, unit: 'MB' } };
  yield {
    what: `resident memory after ${sessions} sessions of 12 MB, created and deleted`,
    ...back,
    result: await measureOn(children, afterSessions),
  };
  yield {
    what: 'resident memory after 1,000 uploads of 4 MB, cut off in the middle',
    ...back,
    result: await measureOn(children, afterUploads),
  };
}

async function measureOn(
  children: Children,
  measureServer: (server: Server) => Promise<Comparison>,
): Promise<Comparison | string> {
  if (process.platform !== 'linux') return 'not measured: only Linux has /proc';
  const server = await startServer(children);
  const result = await measureServer(server);
  await server.stop();
  return result;
}

async function peak(server: Server): Promise<Comparison> {
  const poster = await newPoster(server, peakFloats);
  await poster.flood(denseBody(peakFloats), 1, peakPushes);
  return asMeasured(residentMemory(server.pid).peak / MB, peakBound / MB, 'MB');
}

async function growth(server: Server): Promise<Comparison> {
  const poster = await newPoster(server, 1_000);
  const body = denseBody(1_000);
  const push = (times: number) => poster.flood(body, 1, times);
  await push(warmUp);
  const before = await leastDuring(server, push(window));
  await push(apart - window);
  const after = await leastDuring(server, push(window));
  return asMeasured(after / MB, before / MB, 'MB');
}

async function afterSessions(server: Server): Promise<Comparison> {
  const comeAndGo = async (count: number): Promise<void> => {
    const created: string[] = [];
    while (created.length < count) created.push(await server.createSession({ w: [1_000_000] }));
    for (const session of created) await server.call('DELETE', session);
  };
  await comeAndGo(1);
  return comesBack(server, () => comeAndGo(sessions));
}

async function afterUploads(server: Server): Promise<Comparison> {
  const poster = await newPoster(server, 1_000_000);
  const body = denseBody(1_000_000);
  const cutOffAndWhole = async (count: number): Promise<void> => {
    for (let k = 0; k < count; k++) await cutOff(server.port, poster.path, body);
    await poster.post(body);
  };
  for (let k = 0; k < 5; k++) await cutOffAndWhole(1);
  return comesBack(server, () => cutOffAndWhole(uploads));
}

async function comesBack(server: Server, work: () => Promise<void>): Promise<Comparison> {
  const before = residentMemory(server.pid).now;
  await work();
  const after = await leastDuring(server, sleep(settleSeconds * 1000));
  return asMeasured(after / MB, before / MB, 'MB');
}

async function leastDuring(server: Server, work: Promise<unknown>): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  const look = () => {
    least = Math.min(least, residentMemory(server.pid).now);
  };
  const timer = setInterval(look, lookMs);
  await work;
  clearInterval(timer);
  look();
  return least;
}

async function newPoster(server: Server, floats: number): Promise<Poster> {
  const session = await server.createSession({ w: [floats] });
  return new Poster(server.port, `${session}/gradients`, 1);
}

/** Sends a push up to its middle and destroys the connection. */
async function cutOff(port: number, path: string, { type, bytes }: Body): Promise<void> {
  const socket = connect(port, '127.0.0.1');
  const head = `POST ${path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: ${type}\r\ncontent-length: ${bytes.length}\r\n\r\n`;
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject);
    socket.write(head);
    socket.write(bytes.subarray(0, bytes.length / 2), () => resolve());
  });
  socket.destroy();
}
