/** Who has a place among the requests under way, at the bound and one beyond it, and who gives it up. */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { beforeEach, test } from 'node:test';
import { setImmediate as nextRound } from 'node:timers/promises';
import { slowBytes } from '../../src/limits.ts';
import { Admission } from '../../src/plugins/admission.ts';

/** What of a request and its reply is looked at. */
class Exchange {
  readonly request = { complete: true, socket: { bytesRead: 0, bytesWritten: 0 } };
  readonly reply = Object.assign(new EventEmitter(), { writableLength: 0 });

  admit(to: Admission): boolean {
    return to.admit(this.request as unknown as IncomingMessage, this.raw);
  }

  get raw(): ServerResponse {
    return this.reply as unknown as ServerResponse;
  }

  async end(): Promise<void> {
    this.reply.emit('close');
    await nextRound();
  }
}

const max = 2;
let admission: Admission;
let exchanges: Exchange[];

/** Lets another one in, which must succeed. */
function enter(): Exchange {
  const exchange = new Exchange();
  assert.equal(exchange.admit(admission), true, 'there must be a place');
  return exchange;
}

function isFull(): boolean {
  return !new Exchange().admit(admission);
}

beforeEach(() => {
  admission = new Admission(max);
  exchanges = Array.from({ length: max }, enter);
});

test('as many as the bound are let in, and no more, until one is over', async () => {
  assert.ok(isFull(), 'the bound must hold');
  await exchanges[0]?.end();
  enter();
  assert.ok(isFull(), 'the bound must hold again');
});

test('one that is over in no time keeps its place until the round of the event loop is', async () => {
  const [first] = exchanges as [Exchange];
  first.reply.emit('close');
  assert.ok(isFull(), 'a place must not be used twice in a round');
  await nextRound();
  enter();
});

test('one that waits has no place, and takes one when it goes on, whoever has come meanwhile', async () => {
  const [first, second] = exchanges as [Exchange, Exchange];
  let goOn = (): void => undefined;
  admission.stepAside(first.raw, new Promise<void>((resolve) => (goOn = resolve)));
  const third = enter();
  assert.ok(isFull(), 'one place must have become free');
  goOn();
  await nextRound();
  await second.end();
  assert.ok(isFull(), 'the one that is back must count');
  await third.end();
  enter();
});

test('one that waits in vain, or is over meanwhile, gives up one place and not two', async () => {
  const [first, second] = exchanges as [Exchange, Exchange];
  admission.stepAside(
    first.raw,
    nextRound().then(() => Promise.reject(new Error('in vain'))),
  );
  admission.stepAside(second.raw, nextRound());
  await second.end();
  await nextRound();
  assert.equal(admission.counted, 1);
  await first.end();
  assert.equal(admission.counted, 0);
});

test('one that has stepped aside for good never counts again', async () => {
  admission.stepAside((exchanges[0] as Exchange).raw);
  admission.lookForSlow();
  admission.lookForSlow();
  assert.equal(admission.counted, 1);
  await exchanges[0]?.end();
  assert.equal(admission.counted, 1);
});

const slow: [string, (exchange: Exchange) => void, (exchange: Exchange) => void][] = [
  ['sends its body', ({ request }) => (request.complete = false), ({ request }) => (request.complete = true)],
  ['takes its reply', ({ reply }) => (reply.writableLength = 1), ({ reply }) => (reply.writableLength = 0)],
];
for (const [what, begin, finish] of slow) {
  test(`a client that ${what} too slowly has no place, until that is over`, () => {
    const [first] = exchanges as [Exchange];
    begin(first);
    admission.lookForSlow();
    assert.ok(isFull(), 'it has a second');
    first.request.socket.bytesRead += slowBytes;
    admission.lookForSlow();
    assert.ok(isFull(), 'as fast as the bound is not slow');
    first.request.socket.bytesWritten += slowBytes - 1;
    admission.lookForSlow();
    assert.equal(admission.counted, 1, 'one byte less is slow');
    finish(first);
    admission.lookForSlow();
    assert.equal(admission.counted, 2, 'what is there now is work');
  });
}

test('one that is worked on for seconds counts all the time', () => {
  for (let second = 0; second < 5; second++) admission.lookForSlow();
  assert.equal(admission.counted, 2);
});
