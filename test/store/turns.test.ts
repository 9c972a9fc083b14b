/** Steps share what is between their two turns, in order; whatever else changes a session has it to itself. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Turns } from '../../src/store/turns.ts';

/** A promise and what settles it. */
function gate(): { readonly opened: Promise<void>; open(): void; fail(error: Error): void } {
  let open = (): void => undefined;
  let fail = (_error: Error): void => undefined;
  const opened = new Promise<void>((resolve, reject) => {
    open = resolve;
    fail = reject;
  });
  return { opened, open, fail };
}

async function settled(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await nextTurn();
}

/** A step that says when it is admitted and applied; it is applied when its gate opens. */
function step(turns: Turns, name: string, said: string[], until: Promise<void>): Promise<string | undefined> {
  return turns.step(async () => {
    said.push(`${name} admitted`);
    return async () => {
      await until;
      said.push(`${name} applied`);
      return name;
    };
  });
}

describe('steps', () => {
  test('are admitted while others wait for the disk, and applied in the order of their admission', async () => {
    const turns = new Turns(10);
    const said: string[] = [];
    const gates = { a: gate(), b: gate(), c: gate() };
    const steps = (['a', 'b', 'c'] as const).map((name) => step(turns, name, said, gates[name].opened));
    await settled();
    assert.deepEqual(said, ['a admitted', 'b admitted', 'c admitted']);
    assert.equal(turns.ahead, 3);
    gates.c.open();
    gates.b.open();
    await settled();
    assert.equal(said.length, 3, 'nothing may be applied before what was admitted first');
    gates.a.open();
    assert.deepEqual(await Promise.all(steps), ['a', 'b', 'c']);
    assert.deepEqual(said.slice(3), ['a applied', 'b applied', 'c applied']);
    assert.equal(turns.ahead, 0);
  });

  test('that are not admitted fail alone, and leave no trace', async () => {
    const turns = new Turns(10);
    const said: string[] = [];
    const refused = turns.step<string>(async () => {
      throw new Error('does not fit');
    });
    const next = step(turns, 'next', said, Promise.resolve());
    await assert.rejects(refused, /does not fit/);
    assert.equal(await next, 'next');
    assert.equal(turns.ahead, 0);
  });

  test('that cannot be applied fail alone', async () => {
    const turns = new Turns(10);
    const said: string[] = [];
    const disk = gate();
    const failing = step(turns, 'failing', said, disk.opened);
    const next = step(turns, 'next', said, Promise.resolve());
    const outcome = assert.rejects(failing, /the disk/);
    disk.fail(new Error('the disk'));
    await outcome;
    assert.equal(await next, 'next');
    assert.equal(turns.ahead, 0);
  });
});

describe('another change', () => {
  test('begins when all that came before is applied, and what comes after waits for its end', async () => {
    const turns = new Turns(10);
    const said: string[] = [];
    const [disk, work] = [gate(), gate()];
    const before = step(turns, 'before', said, disk.opened);
    const change = turns.alone(async () => {
      said.push('change begins');
      await work.opened;
      said.push('change ends');
    });
    const behind = step(turns, 'behind', said, Promise.resolve());
    await settled();
    assert.deepEqual(said, ['before admitted']);
    disk.open();
    await settled();
    assert.deepEqual(said.slice(1), ['before applied', 'change begins']);
    work.open();
    await Promise.all([before, change, behind]);
    assert.deepEqual(said.slice(3), ['change ends', 'behind admitted', 'behind applied']);
  });

  test('that fails lets the next one have its turn', async () => {
    const turns = new Turns(10);
    await assert.rejects(
      turns.alone(() => Promise.reject(new Error('no'))),
      /no/,
    );
    assert.equal(await turns.alone(() => 1), 1);
    assert.equal(await turns.read(() => 2), 2);
  });
});

describe('a read', () => {
  test('waits for what was admitted before it, and not for what was not', async () => {
    const turns = new Turns(10);
    const said: string[] = [];
    const [disk, later] = [gate(), gate()];
    const before = step(turns, 'before', said, disk.opened);
    await settled();
    const read = turns.read(() => {
      said.push('read');
    });
    const behind = step(turns, 'behind', said, later.opened);
    await settled();
    assert.deepEqual(said, ['before admitted', 'behind admitted']);
    disk.open();
    await Promise.all([before, read]);
    assert.deepEqual(said.slice(2), ['before applied', 'read']);
    later.open();
    await behind;
  });

  test('keeps steps from being applied while it lasts', async () => {
    const turns = new Turns(10);
    const said: string[] = [];
    const reading = gate();
    const read = turns.read(() => reading.opened);
    const behind = step(turns, 'behind', said, Promise.resolve());
    await settled();
    assert.deepEqual(said, ['behind admitted']);
    reading.open();
    await Promise.all([read, behind]);
    assert.deepEqual(said, ['behind admitted', 'behind applied']);
  });
});

test('so many may wait, and one more is told to come again; then there is room once more', async () => {
  const turns = new Turns(3);
  const said: string[] = [];
  const disk = gate();
  const first = step(turns, 'first', said, disk.opened);
  await settled();
  const waiting = [1, 2, 3].map((k) => step(turns, String(k), said, Promise.resolve()));
  await settled();
  const overloaded = { code: 'overloaded', message: /at most 3 requests can wait/, headers: { 'retry-after': '1' } };
  for (const ask of [
    () => step(turns, 'more', said, Promise.resolve()),
    () => turns.alone(() => undefined),
    () => turns.read(() => undefined),
  ]) {
    await assert.rejects(ask(), overloaded);
  }
  disk.open();
  await Promise.all([first, ...waiting]);
  assert.equal(await turns.read(() => 'room'), 'room');
});
