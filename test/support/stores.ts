/** A store without HTTP, its sessions on the training path: for what happens to its files, and what it says about them. */
import type { SessionSettings } from '../../src/session/settings.ts';
import { defaultSettings } from '../../src/session/settings.ts';
import type { HeldSession } from '../../src/store/held-session.ts';
import { Store } from '../../src/store/store.ts';
import { sessionOf } from './sessions.ts';
import { pathStep, pathVariables } from './training-path.ts';

export interface OpenStore {
  readonly store: Store;
  /** What it logged, as `level message fields`. */
  readonly log: readonly string[];
  /** To be called once; the test's end does it otherwise. */
  close(): Promise<void>;
}

/** Opens and recovers. */
export async function openStore(t: { after(task: () => Promise<void>): void }, folder: string): Promise<OpenStore> {
  const log: string[] = [];
  const line = (level: string) => (fields: object, message: string) => {
    log.push(`${level} ${message} ${JSON.stringify(fields)}`);
  };
  const config = { dataDir: folder, memoryBytesMax: 1_000_000_000, threads: 2, keysMax: 100 };
  const store = await Store.open(config, { info: line('info'), warn: line('warn'), error: line('error') });
  let open = true;
  const close = async (): Promise<void> => {
    if (open) await store.close();
    open = false;
  };
  t.after(close);
  await store.recover();
  return { store, log, close };
}

/** A session at the start of the path, with checkpoints as these rules say, and else by hand only; without a journal by default. */
export async function createOnPath(
  store: Store,
  name: string,
  rules: Partial<SessionSettings['checkpointing']> = {},
  durability: SessionSettings['durability'] = 'checkpoint',
): Promise<HeldSession> {
  const checkpointing = { ...defaultSettings.checkpointing, every_steps: null, every_seconds: null, ...rules };
  const settings = { ...defaultSettings, durability, checkpointing };
  const make = async () => sessionOf(pathVariables, { settings }).contents;
  return (await store.create(name, { bytes: 10_000, make })).result;
}

/** Takes so many steps along the path. */
export async function advance(held: HeldSession, steps: number): Promise<void> {
  const gradients = new Map(Object.entries(pathStep));
  for (let step = 0; step < steps; step++) await held.applyGradients(gradients, {}, { receive: () => [] });
  await held.live.log.journal.flush();
}
