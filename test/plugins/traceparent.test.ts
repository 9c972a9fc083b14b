/** The header `traceparent`, by W3C Trace Context's own grammar, and where its ids go. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseTraceparent } from '../../src/plugins/traceparent.ts';

const traceId = '4bf92f3577b34da6a3ce929d0e0e4736';
const spanId = '00f067aa0ba902b7';

describe('traceparent', () => {
  for (const header of [
    `00-${traceId}-${spanId}-01`,
    `00-${traceId}-${spanId}-00`,
    `00-${traceId}-${spanId}-ff`,
    `cc-${traceId}-${spanId}-01`,
    `cc-${traceId}-${spanId}-01-what-the-future-will-be-like`,
  ]) {
    test(`${header} is taken`, () => assert.deepEqual(parseTraceparent(header), { traceId, spanId }));
  }

  for (const header of [
    undefined,
    '',
    `ff-${traceId}-${spanId}-01`,
    `00-${traceId}-${spanId}-01-more`,
    `00-${traceId}-${spanId}-01-`,
    `cc-${traceId}-${spanId}-01.more`,
    `00-${'0'.repeat(32)}-${spanId}-01`,
    `00-${traceId}-${'0'.repeat(16)}-01`,
    `00-${traceId.toUpperCase()}-${spanId}-01`,
    `00-${traceId.slice(1)}-${spanId}-01`,
    `00-${traceId}-${spanId}`,
    `00-${traceId}-${spanId}-1`,
    `0-${traceId}-${spanId}-01`,
    ` 00-${traceId}-${spanId}-01`,
    `00-${traceId}-${spanId}-01\n`,
    // Two headers, as Node joins them.
    `00-${traceId}-${spanId}-01, 00-${traceId}-${spanId}-01`,
  ]) {
    test(`${JSON.stringify(header)} counts as none`, () => assert.equal(parseTraceparent(header), undefined));
  }
});
