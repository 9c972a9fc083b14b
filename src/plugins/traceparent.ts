/**
 * The header `traceparent` of W3C Trace Context: which trace a request is part of, and which span of it sent it. A header that
 * is not well-formed counts as none, as the recommendation has it; a later version may say more behind what is known.
 */

export interface TraceContext {
  readonly traceId: string;
  readonly spanId: string;
}

/** Version, trace-id, parent-id and trace-flags; ff is no version, and ids of zeros are none. */
const wellFormed =
  /^(?!ff)(?<version>[\da-f]{2})-(?!0{32})(?<traceId>[\da-f]{32})-(?!0{16})(?<spanId>[\da-f]{16})-[\da-f]{2}(?<more>-.*)?$/;

export function parseTraceparent(header: string | string[] | undefined): TraceContext | undefined {
  if (typeof header !== 'string') return undefined;
  const { version, traceId, spanId, more } = wellFormed.exec(header)?.groups ?? {};
  if (traceId === undefined || spanId === undefined || (version === '00' && more !== undefined)) return undefined;
  return { traceId, spanId };
}
