/**
 * `npm run soak -- --minutes 10`: the built server under mixed load for a while, with clients of every kind, restarted and
 * killed four times in the first two fifths and left alone from then on. No acknowledged step may be lost or taken twice, states
 * must be the same bits before and after a restart, memory flat and p99 stable. Prints a table and what is not as promised,
 * with exit code 1. Requests come with a token, and some with others. Who does what is in soak/.
 */
import { createHash, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Children } from '../bench/children.ts';
import { residentMemory } from '../bench/resident.ts';
import { type Server, startServer } from '../bench/server.ts';
import { Figures, MB } from './soak/figures.ts';
import { Line } from './soak/line.ts';
import { nuisances } from './soak/nuisances.ts';
import { type Actor, others } from './soak/others.ts';
import { type Print, type SoakSession, soakSessions } from './soak/sessions.ts';

const endings = ['SIGKILL', 'SIGTERM', 'SIGKILL', 'SIGTERM'] as const;
/** Of the time, from one restart to the next. */
const lifeShare = 0.1;
/** Rows of the table: of ten minutes each is one. */
const slices = 10;
const lookMs = 500;

class Soak {
  readonly line = new Line();
  readonly figures: Figures;
  readonly #children = new Children();
  readonly #folder = this.#children.emptyFolder('data');
  readonly #sessions = soakSessions();
  readonly #milliseconds: number;
  readonly #token = randomBytes(32).toString('base64url');
  #server: Server | undefined;

  constructor(minutes: number) {
    this.#milliseconds = minutes * 60_000;
    this.figures = new Figures(this.#milliseconds / slices);
  }

  async run(): Promise<void> {
    const { line, figures } = this;
    await this.#start();
    for (const session of this.#sessions) await session.create(line);
    const timer = setInterval(() => this.#look(), lookMs);
    const training = Promise.all(this.#sessions.map((session) => session.train(line, figures)));
    const actors = [...others(line, this.#sessions, figures), ...nuisances(line, figures)];
    const acting = Promise.all(actors.map((actor) => this.#repeat(actor)));
    await Promise.race([this.#restarts(), training.then(() => undefined)]);
    clearInterval(timer);
    figures.end();
    line.close();
    await Promise.all([training, acting]);
    await this.#settle();
    await this.#server?.stop();
  }

  async #restarts(): Promise<void> {
    const start = performance.now();
    const share = (part: number) => sleep(start + part * this.#milliseconds - performance.now());
    for (const [nth, ending] of endings.entries()) {
      await share((nth + 1) * lifeShare);
      const prints = await this.#prints();
      await this.#restart(ending);
      await Promise.all(prints.map(([session, print]) => session.recall(this.line, print)));
    }
    await share(1);
  }

  /** When all has been answered: what the sessions have come to, and that a kill changes nothing of it. */
  async #settle(): Promise<void> {
    const before = await this.#prints();
    for (const [{ name, steps }, { iterations }] of before) {
      console.log(`${name}: ${steps} steps acknowledged, ${iterations} taken`);
      if (steps !== iterations) this.line.fault(`${name} must have taken ${steps} steps. Received: ${iterations}`);
    }
    await this.#restart('SIGKILL');
    const after = await this.#prints();
    const text = (prints: typeof before) => JSON.stringify(prints.map(([{ name }, print]) => [name, print]));
    if (text(before) !== text(after))
      this.line.fault(`${text(before)} must be there after a kill. Received: ${text(after)}`);
  }

  async #prints(): Promise<[SoakSession, Print][]> {
    const prints: [SoakSession, Print][] = [];
    for (const session of this.#sessions) {
      const print = await session.print(this.line);
      if (print !== undefined) prints.push([session, print]);
    }
    if (prints.length < this.#sessions.length) this.line.fault('every session must tell its fingerprint');
    return prints;
  }

  async #start(): Promise<void> {
    this.#server = await startServer(this.#children, this.#folder, undefined, this.#environment());
    this.line.up({ port: this.#server.port, token: this.#token });
  }

  async #restart(ending: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    this.line.down();
    await (ending === 'SIGTERM' ? this.#server?.stop() : this.#server?.kill());
    await this.#start();
    this.figures.restarted();
  }

  #environment(): Record<string, string> {
    const file = join(this.#children.folder, 'tokens.json');
    const sha256 = createHash('sha256').update(this.#token).digest('hex');
    const tokens = [{ name: 'soak', sha256, roles: ['admin'], sessions: ['*'] }];
    writeFileSync(file, JSON.stringify({ tokens }), { mode: 0o600 });
    // So few keys that all are there after the warm-up.
    return { IDEMPOTENCY_KEYS: '1000', AUTH_FILE: file };
  }

  async #repeat(actor: Actor): Promise<void> {
    for (let nth = 0; this.line.isOpen; nth++) await actor(nth);
  }

  #look(): void {
    const server = this.#server;
    if (server === undefined) return;
    try {
      this.figures.holds(residentMemory(server.pid).own);
    } catch {
      // It has just ended.
    }
  }
}

async function main(): Promise<void> {
  const options = { minutes: { type: 'string', default: '10' } } as const;
  const { values } = parseArgs({ options });
  const minutes = Number(values.minutes);
  if (!(minutes > 0)) throw new Error('--minutes must be above 0');
  const soak = new Soak(minutes);
  await soak.run();
  const [before, after] = soak.figures.floors;
  console.log(`\n${soak.figures.table(minutes === slices ? 'minute' : 'part')}\n`);
  console.log(`Memory of the process after the warm-up of its last life ${MB(before)} MB, at its end ${MB(after)} MB.`);
  const faults = [...soak.line.faults, ...soak.figures.faults()];
  for (const fault of faults) console.log(`NOT KEPT: ${fault}`);
  if (faults.length > 0) process.exitCode = 1;
  else
    console.log('No step was lost or taken twice, every state came back bit for bit, memory was flat and p99 stable.');
}

main().then(
  () => process.exit(),
  (error: Error) => {
    console.error(error);
    process.exit(1);
  },
);
