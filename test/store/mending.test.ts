/** How long it is tried to come back after a failure of the disk: for ever, unless the disk has no part in it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Problem } from '../../src/errors.ts';
import { Mending, unexplainedMax } from '../../src/store/mending.ts';

const quiet = { info: () => undefined, warn: () => undefined, error: () => undefined };
const disk = () => Promise.reject(new Problem('insufficient_storage', 'full'));
const fault = () => Promise.reject(new TypeError('not a function'));

test('a disk that fails is waited for; what is not its own fault is one of ours when it stays', async () => {
  const faults: unknown[] = [];
  let mend: () => Promise<void> = disk;
  const mending = new Mending(
    () => mend(),
    quiet,
    (error) => faults.push(error),
  );
  const attempt = async (outcome: () => Promise<void>, times: number): Promise<void> => {
    mend = outcome;
    for (let count = 0; count < times; count++) {
      mending.begin();
      await mending.idle();
    }
  };
  await attempt(disk, 10 * unexplainedMax);
  for (const relief of [disk, () => Promise.resolve()]) {
    await attempt(fault, unexplainedMax - 1);
    await attempt(relief, 1);
  }
  await attempt(fault, unexplainedMax - 1);
  assert.deepEqual(faults, []);
  await attempt(fault, 1);
  assert.deepEqual(faults, [new TypeError('not a function')]);
});

test('only one attempt is under way', async () => {
  let begun = 0;
  let end: () => void = assert.fail;
  const mend = () => {
    begun++;
    return new Promise<void>((resolve) => {
      end = resolve;
    });
  };
  const mending = new Mending(mend, quiet, assert.ifError);
  mending.begin();
  mending.begin();
  assert.equal(begun, 1);
  end();
  await mending.idle();
  mending.begin();
  assert.equal(begun, 2);
  end();
});
