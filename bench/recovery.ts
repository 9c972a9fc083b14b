/** Recovery from the journal alone: how fast steps are applied again, against how fast they were pushed. */
import type { Children } from './children.ts';
import { Flood } from './flood.ts';
import { asRate, type Pair } from './pairs.ts';
import { lackOfDisk } from './room.ts';
import type { Benchmark, Row } from './row.ts';
import { startServer } from './server.ts';

const [steps, floats, connections] = [100_000, 1_000, 16];
/** Of them, over one connection. */
const alone = 10_000;
const kills = 3;
const diskBytes = 2e9;
const recoverySecondsMax = 300;

export const recovery: Benchmark = {
  name: 'recovery',
  notes: [
    `Recovery: ${steps.toLocaleString('en-US')} durable pushes over ${connections} connections, with no checkpoint but that of the creation; the last ${alone.toLocaleString('en-US')} of them over one connection, whose pace is a row of its own. Then the server is killed (SIGKILL) and started on the same folder, ${kills} times; each start lasts from that of the process until \`/readyz\` is 200, and has the journal in the page cache. The fingerprint must be the one before the kill, else the run fails.`,
  ],
  rows: measure,
};

async function* measure(children: Children): AsyncGenerator<Row> {
  const claims = [`pushing them, ${connections} connections`, 'pushing them, 1 connection'].map((against) => {
    return { what: 'recovery of 100,000 durable steps, 1,000 floats', against, target: { atLeast: 10 } };
  });
  const lack = lackOfDisk(children.folder, diskBytes);
  if (lack !== undefined) {
    for (const claim of claims) yield { ...claim, result: lack };
    return;
  }
  const folder = children.emptyFolder('data');
  let server = await startServer(children, folder);
  const session = await server.createSession({ w: [floats] }, 'always');
  const push = (by: number, times: number): Promise<number> =>
    new Flood(children, 'safetensors', floats, by).requests(server.port, `${session}/gradients`)(times);
  const together = ((await push(connections, steps - alone)) / (steps - alone)) * steps;
  const inTurn = ((await push(1, alone)) / alone) * steps;
  const before = await server.call('GET', `${session}/fingerprint`);
  const recovered: number[] = [];
  while (recovered.length < kills) {
    await server.kill();
    server = await startServer(children, folder, recoverySecondsMax);
    const after = await server.call('GET', `${session}/fingerprint`);
    if (after !== before) throw new Error(`a recovered session must be as it was, ${before}. Received: ${after}`);
    recovered.push(server.startedInSeconds);
  }
  for (const [k, reference] of [together, inTurn].entries()) {
    const pairs: Pair[] = recovered.map((measured) => ({ measured, reference }));
    yield { ...(claims[k] as (typeof claims)[number]), result: asRate(pairs, steps, 'steps') };
  }
}
