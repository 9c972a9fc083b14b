/** Room on the disk, with a disk that says what the test wants: what is refused from which byte on, and when that ends. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { DiskSpace, type DiskUse } from '../../src/store/disk-space.ts';

const min = 1000;

/** A disk that has so much free, until the test says otherwise, and has been looked at. */
async function diskWith(freeBytes: number, minBytes = min) {
  const lines: string[] = [];
  const line = (_: object, message: string) => {
    lines.push(message);
  };
  const disk = { freeBytes };
  const space = new DiskSpace('.', minBytes, { info: line, warn: line, error: line }, async () => disk.freeBytes);
  await space.look();
  return { disk, space, lines };
}

const full = { code: 'insufficient_storage', applied: false };

describe('what is refused', () => {
  const rows: [use: DiskUse, floor: number][] = [
    ['session', 2 * min],
    ['change', min],
    ['checkpoint', min / 2],
  ];
  for (const [use, floor] of rows) {
    test(`a ${use} may leave ${floor} bytes free, and not one fewer`, async () => {
      const { space } = await diskWith(5 * min);
      const most = 5 * min - floor;
      space.require(use, most);
      assert.throws(() => space.require(use, most + 1), {
        ...full,
        message: `${floor} bytes must stay free on the disk behind what is written (DISK_FREE_BYTES_MIN). Received: ${most + 1} bytes, where 5000 are free`,
      });
      assert.equal(space.allows(use, most), true);
      assert.equal(space.allows(use, most + 1), false);
    });
  }

  test('without a bound nothing is, and what is free is known all the same', async () => {
    const { space } = await diskWith(7, 0);
    for (const use of ['session', 'change', 'checkpoint'] as const) space.take(use, 1_000_000);
    assert.equal(space.level, 'ample');
    await space.look();
    assert.equal(space.freeBytes, 7);
  });

  test('before the first look, and where none succeeds, nothing is', async () => {
    const silent = { info: () => undefined, warn: () => undefined, error: () => undefined };
    const space = new DiskSpace('.', min, silent, async () => undefined);
    await space.look();
    space.take('session', 1e15);
    assert.equal(space.level, 'ample');
  });
});

describe('between two looks', () => {
  test('what is taken counts, and after the next look what the disk says', async () => {
    const { disk, space } = await diskWith(5 * min);
    space.take('change', 3 * min);
    assert.equal(space.freeBytes, 2 * min);
    assert.throws(() => space.take('change', min + 1), full);
    disk.freeBytes = 4 * min;
    await space.look();
    assert.equal(space.freeBytes, 4 * min);
  });

  test('what is set aside counts until it is written, however often the disk is looked at', async () => {
    const { space } = await diskWith(5 * min);
    const written = space.reserve('change', 3 * min);
    await space.look();
    assert.equal(space.freeBytes, 2 * min);
    assert.throws(() => space.reserve('change', min + 1), full);
    written();
    assert.equal(space.freeBytes, 2 * min);
    await space.look();
    assert.equal(space.freeBytes, 5 * min);
  });

  test('a disk that does not answer is asked once, and what is taken meanwhile counts once', async () => {
    const answers: ((freeBytes: number) => void)[] = [];
    const silent = { info: () => undefined, warn: () => undefined, error: () => undefined };
    const space = new DiskSpace('.', min, silent, () => new Promise((resolve) => answers.push(resolve)));
    space.take('change', min);
    const looks = [space.look(), space.look()];
    assert.equal(answers.length, 1);
    answers[0]?.(5 * min);
    await Promise.all(looks);
    assert.equal(space.freeBytes, 5 * min);
  });

  test('what is taken while the disk is looked at counts on', async () => {
    const { disk, space } = await diskWith(5 * min);
    const looking = space.look();
    disk.freeBytes = 0;
    space.take('change', min);
    await looking;
    assert.equal(space.freeBytes, 4 * min);
  });
});

describe('levels', () => {
  test('begin below their bound and end an eighth above it, and each is told once', async () => {
    const { disk, space, lines } = await diskWith(4 * min);
    const path: [freeBytes: number, level: string][] = [
      [4 * min, 'ample'],
      [4 * min - 1, 'low'],
      [4.5 * min - 1, 'low'],
      [4.5 * min, 'ample'],
      [2 * min, 'low'],
      [2 * min - 1, 'scarce'],
      [2.25 * min - 1, 'scarce'],
      [2.25 * min, 'low'],
      [min, 'scarce'],
      [min - 1, 'short'],
      [1.125 * min - 1, 'short'],
      [1.125 * min, 'scarce'],
      [0, 'short'],
      [100 * min, 'ample'],
    ];
    for (const [freeBytes, level] of path) {
      disk.freeBytes = freeBytes;
      await space.look();
      assert.equal(space.level, level, `with ${freeBytes} bytes`);
    }
    assert.deepEqual(lines, [
      'the disk is filling up',
      'the disk has room again',
      'the disk is filling up',
      'the disk is filling up: no new sessions are taken',
      'the disk is filling up',
      'the disk is filling up: no new sessions are taken',
      'the disk is nearly full: no changes are taken that need room',
      'the disk is filling up: no new sessions are taken',
      'the disk is nearly full: no changes are taken that need room',
      'the disk has room again',
    ]);
  });

  test('what is refused at one stays refused until it ends', async () => {
    const { disk, space } = await diskWith(min - 1);
    disk.freeBytes = 1.125 * min - 1;
    await space.look();
    assert.throws(() => space.require('change', 0), { ...full, message: /^1125 bytes must stay free/ });
    disk.freeBytes = 1.125 * min;
    await space.look();
    space.require('change', 0);
    // One level up, and there is no room for sessions yet.
    assert.throws(() => space.require('session', 0), full);
  });
});
