/** The start of a server that has a large session on its disk, against reading that session's file. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { denseBody } from './bodies.ts';
import type { Children } from './children.ts';
import { Disk } from './disk-child.ts';
import { asMilliseconds } from './pairs.ts';
import { Poster } from './post.ts';
import type { Benchmark, Row } from './row.ts';
import { startServer } from './server.ts';

const floats = 25_000_000;
const rounds = 9;

export const start: Benchmark = {
  name: 'start',
  notes: [
    `A start lasts from the start of the process until \`/readyz\` is 200, which is asked every 5 ms. Started in turn, ${rounds} times after a warm-up: a server on an empty folder and one with a session of 25,000,000 floats that has taken a step and was shut down in order; then a process reads its checkpoint of 300 MB into memory with \`fs.readFile\`, by its own clock. All with the file in the page cache: so it is after a server was replaced, no disk covers up what the server itself does, and it can be had without being root.`,
  ],
  rows: measure,
};

async function* measure(children: Children): AsyncGenerator<Row> {
  const [empty, full] = [children.emptyFolder('empty'), children.emptyFolder('full')];
  const readFile = new Disk(children).read(await makeCheckpoint(children, full));
  const samples: { empty: number; full: number; read: number }[] = [];
  while (samples.length <= rounds) {
    samples.push({
      empty: await startSeconds(children, empty),
      full: await startSeconds(children, full),
      read: await readFile(1),
    });
  }
  const counted = samples.slice(1);
  yield {
    what: 'start with a session of 300 MB, less that with an empty folder',
    against: 'reading its file',
    target: { atMost: 1.5 },
    result: asMilliseconds(counted.map(({ empty, full, read }) => ({ measured: full - empty, reference: read }))),
  };
  yield {
    what: 'start with a session of 300 MB',
    against: 'start with an empty folder',
    result: asMilliseconds(counted.map(({ empty, full }) => ({ measured: full, reference: empty }))),
  };
}

/** Leaves a session in the folder, and returns the path of its one checkpoint. */
async function makeCheckpoint(children: Children, folder: string): Promise<string> {
  const server = await startServer(children, folder);
  const session = await server.createSession({ w: [floats] });
  await new Poster(server.port, `${session}/gradients`, 1).post(denseBody(floats));
  await server.stop();
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' });
  const file = files.find((name) => name.endsWith('.safetensors'));
  if (file === undefined) throw new Error('the server must leave a checkpoint');
  return join(folder, file);
}

async function startSeconds(children: Children, folder: string): Promise<number> {
  const server = await startServer(children, folder);
  await server.stop();
  return server.startedInSeconds;
}
