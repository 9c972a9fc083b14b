/** A header that is no checkpoint's, or one of another version, is refused by what is wrong with it. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { takeSnapshot } from '../../src/session/snapshot.ts';
import { checkpointMetadata, checkpointTensors, describeCheckpoint } from '../../src/store/checkpoint-format.ts';
import type { TensorPlan } from '../../src/tensor/safetensors.ts';
import { sessionOf } from '../support/sessions.ts';

const session = sessionOf({ w: { shape: [2] } }, { iterations: 5, revision: 6 });
const snapshot = takeSnapshot(session);
const metadata = checkpointMetadata(snapshot, { savedAt: '2026-03-04T05:06:07.890Z', journal: '00000000000000ff' });
const tensors = checkpointTensors(snapshot);
const [w, m, v] = tensors as [TensorPlan, TensorPlan, TensorPlan];
snapshot.end();

/** Describes the session's own header with some members changed (undefined: left out) and other tensors. */
function describeWith(change: Record<string, string | undefined>, plans: readonly TensorPlan[] = tensors) {
  const members = Object.entries({ ...metadata, ...change }).filter(
    (entry): entry is [string, string] => entry[1] !== undefined,
  );
  return describeCheckpoint(new Map(members), new Map(plans.map(({ name, ...plan }) => [name, plan])));
}

function assertRefused(message: RegExp, ...given: Parameters<typeof describeWith>): void {
  assert.throws(() => describeWith(...given), { name: 'Problem', code: 'malformed_body', message });
}

test('what was written of a session is read as it was', () => {
  const description = describeWith({});
  const { optimizer, iterations, settings, workers } = session.contents;
  assert.deepEqual(description, {
    session: 's',
    revision: 6,
    createdAt: session.createdAt,
    savedAt: '2026-03-04T05:06:07.890Z',
    journal: '00000000000000ff',
    iterations,
    optimizer,
    settings,
    workers,
    variables: [{ name: 'w', dtype: 'F32', shape: [2] }],
  });
  assert.deepEqual([iterations, tensors.map(({ name }) => name)], [5, ['w', 'w:m', 'w:v']]);
});

test('one that an older version wrote has no journal and no workers', () => {
  assert.equal(describeWith({ journal: undefined }).journal, undefined);
  assert.deepEqual([...describeWith({ workers: undefined }).workers.entries()], []);
});

describe('a header is refused', () => {
  for (const format of ['adamax-server/2', 'adamax-server/0', 'adamax-server', 'pt', '']) {
    test(`for its format, "${format}", by name`, () => {
      assertRefused(new RegExp(`must be "adamax-server/1". Received: "${format}"$`), { format });
    });
  }

  for (const member of Object.keys(metadata).filter(
    (name) => !['learning_rate', 'journal', 'workers'].includes(name),
  )) {
    test(`without ${member}`, () =>
      assertRefused(new RegExp(`must have "${member}" in its metadata`), { [member]: undefined }));
  }

  test('for a counter that is no count', () => {
    for (const member of ['iterations', 'revision']) {
      for (const value of ['-1', 'NaN', '1.5', '', ' 1', '1e3', '9007199254740992']) {
        assertRefused(new RegExp(`under "${member}". Received: "${value}"`), { [member]: value });
      }
    }
  });

  test('for a member that is no JSON', () => {
    for (const member of ['optimizer', 'checkpointing', 'aggregation', 'metadata', 'workers']) {
      for (const value of ['', '{"', 'nul']) assertRefused(new RegExp(`JSON under "${member}"`), { [member]: value });
    }
  });

  test('for workers that are none', () => {
    const entry = '["a",1,1,0,0,null,false]';
    assert.equal(describeWith({ workers: `[${entry}]` }).workers.get('a')?.steps, 1);
    for (const value of ['5', 'null', '{}', '[1]', '[["a"]]', `[${entry.replace('1', '-1')}]`, `[${entry},[]]`]) {
      assertRefused(/must have its workers under "workers"/, { workers: value });
    }
  });

  test('for an optimizer that is no Adamax', () => {
    assert.throws(() => describeWith({ optimizer: '{"class_name":"Adam","config":{}}' }), { code: 'invalid_argument' });
  });

  test('for a slot without its variable, of another shape or dtype, of another name, or missing', () => {
    assertRefused(/Received: "w:m"/, {}, [m, v]);
    assertRefused(/Received: "w:v"/, {}, [w, m, { ...v, shape: [1, 2] }]);
    assertRefused(/Received: "w:v"/, {}, [w, m, { ...v, dtype: 'F64' }]);
    assertRefused(/Received: "w:x"/, {}, [w, m, v, { ...v, name: 'w:x' }]);
    assertRefused(/both slots of every variable\. Received: 2 tensors/, {}, [w, m]);
    assertRefused(/both slots of every variable\. Received: 4 tensors/, {}, [w, m, v, { ...w, name: 'x' }]);
  });

  test('for a variable that is neither F32 nor F64', () => {
    assertRefused(
      /must be F32 or F64\. Received: "w" of F16/,
      {},
      tensors.map((plan) => ({ ...plan, dtype: 'F16' })),
    );
  });
});
