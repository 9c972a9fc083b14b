/** The life of threads: started when they are needed first, ended when they are closed, and replaced after a fault. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as delay, setImmediate as turn } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';
import { Threads } from '../../src/kernel/threads.ts';
import { allocate, type VariableMemory } from '../../src/kernel/variable-memory.ts';
import type { Work } from '../../src/kernel/work.ts';
import { encode } from '../support/floats.ts';
import { shared } from '../support/work-cases.ts';

describe('the threads', () => {
  /** 200 works of one block. */
  const scans = (): Work[] =>
    Array.from({ length: 200 }, () => {
      const sums = new Float64Array(new SharedArrayBuffer(8));
      return { kind: 'scan', values: encode([3], 'F64'), count: 1, dtype: 'F64', limit: null, sums };
    });

  test('are as many as asked for, start when they are needed first, and end when they are closed', async () => {
    const workers: Worker[] = [];
    let ended = 0;
    const listener = (worker: Worker) => {
      workers.push(worker);
      worker.on('exit', () => ended++);
    };
    process.on('worker', listener);
    const executor = new Threads(2);
    await executor.run(scans().slice(0, 5));
    // Workers are told of in the next turn.
    await turn();
    assert.equal(workers.length, 0);
    for (let run = 0; run < 3; run++) await executor.run(scans());
    assert.equal(workers.length, 2);
    assert.equal(ended, 0);
    await executor.close();
    assert.equal(ended, 2);
    process.off('worker', listener);
  });

  test('can be closed without ever having worked', () => new Threads(2).close());

  test('pass on what fails there, to every run that is under way, and others take their place', async () => {
    const executor = new Threads(2);
    const [memory] = allocate([{ dtype: 'F32', rows: 150 * 16_384, width: 1 }]) as [VariableMemory];
    // No room for what is to be read.
    const failing = { kind: 'read', memory, part: 'w', to: shared(encode([0], 'F32')) } as const;
    for (let fault = 0; fault < 2; fault++) {
      await executor.run(scans());
      const failed = executor.run([failing, ...scans(), ...scans()]);
      // Of what the threads report, all comes at once: one's fault, and what the other has done or failed in.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300);
      await assert.rejects(failed, { code: 'ERR_OUT_OF_RANGE' });
      let ended = false;
      const next = executor.run(scans()).finally(() => {
        ended = true;
      });
      await Promise.race([next, delay(5000)]);
      assert.ok(ended, 'a run after a fault must come to its end');
    }
    await executor.close();
  });
});
