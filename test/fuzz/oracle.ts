/**
 * What holds for every reply, whatever the request was: never a 500, nothing that the document does not say, a problem with a
 * code that is documented for that operation, and of the sessions only that has changed which the reply says.
 */
import assert from 'node:assert/strict';
import { catalogue, type ProblemCode } from '../../src/errors.ts';
import { parseSafetensors } from '../../src/tensor/safetensors.ts';
import { type OpenapiDocument, OpenapiTruth } from '../support/openapi-truth.ts';
import type { Outcome, WireReply } from './connection.ts';
import { type Document, type Operation, operationsOf } from './operations.ts';
import type { Sent } from './sending.ts';
import type { SessionState, WorldState } from './world.ts';

export interface Answered {
  readonly sent: Sent;
  readonly reply: WireReply;
  /** Whose address and method it had. */
  readonly operation: Operation | undefined;
}

/** What a success comes to. `before`, `after`: the session in the address. */
type Effect = (before: SessionState | undefined, after: SessionState | undefined) => boolean;

const revisionGrew: Effect = (before, after) => (after?.revision ?? 0) > (before?.revision ?? Infinity);
const isListed = (world: SessionState | undefined) => (id: string) => world?.checkpoints.includes(id) === true;

/** Of the calls that change something. A call that is not here is taken to change nothing. */
const effects: Readonly<Record<string, Effect>> = {
  createSession: (before, after) => before === undefined && after !== undefined,
  deleteSession: (before, after) => before !== undefined && after === undefined,
  patchSession: revisionGrew,
  applyGradients: revisionGrew,
  assignVariables: revisionGrew,
  assignSlots: revisionGrew,
  restoreCheckpoint: revisionGrew,
  writeCheckpoint: (before, after) => after?.checkpoints.every(isListed(before)) === false,
  deleteCheckpoint: (before, after) => before?.checkpoints.every(isListed(after)) === false,
  releaseWorker: (before, after) =>
    before?.quarantined.length === after?.quarantined.length || revisionGrew(before, after),
  forkSession: (before, after) => before?.revision === after?.revision,
};

export class Oracle {
  readonly operations: readonly Operation[];
  readonly #truth: OpenapiTruth;
  readonly #patterns: readonly { pattern: RegExp; operation: Operation }[];

  constructor(document: Document) {
    this.operations = operationsOf(document);
    this.#truth = new OpenapiTruth(document as unknown as OpenapiDocument);
    this.#patterns = this.operations
      .toSorted((a, b) => a.parameters.length - b.parameters.length)
      .map((operation) => {
        return { pattern: new RegExp(`^${operation.template.replaceAll(/\{[^}]+\}/g, '[^/]*')}$`), operation };
      });
  }

  /** Holds a reply against the document. `undefined`: there need not be one. */
  judge(sent: Sent, reply: Outcome): Answered | undefined {
    if (reply === 'closed' || reply === 'reset') {
      const isExcused = sent.isBroken || (reply === 'reset' && sent.body.length > 0);
      assert.ok(isExcused, `a request must be answered. The connection was ${reply}`);
      return undefined;
    }
    const { status, headers, bytes } = reply;
    assert.notEqual(status, 500, bytes.toString());
    const path = sent.target.split('?', 1)[0] as string;
    const verb = sent.request.method === 'HEAD' ? 'GET' : sent.request.method;
    const operation = this.#patterns.find(
      (each) => each.operation.method === verb && each.pattern.test(path),
    )?.operation;
    const contentType = headers['content-type']?.split(';', 1)[0];
    // The document does not have the pages that show it.
    if (!isToGarbage(reply) && !path.startsWith('/docs')) {
      this.#truth.check(sent.request.method, sent.target, { status, contentType, bytes });
      if (contentType === 'application/problem+json' && bytes.length > 0) judgeProblem(reply, operation);
    }
    if (status === 200 && contentType?.endsWith('safetensors') && bytes.length > 0) parseSafetensors(bytes);
    return { sent, reply, operation };
  }

  /** Holds what has become of the sessions against the replies to all that was sent in between. */
  judgeChanges(answers: readonly (Answered | undefined)[], before: WorldState, after: WorldState): void {
    const changing = answers.filter((each) => each !== undefined && mayChange(each)) as Answered[];
    if (changing.length === 0) {
      const isExcused = answers.some((each) => each !== undefined && mayQuarantine(each));
      assert.deepEqual(comparable(after, before, isExcused), comparable(before, after, isExcused));
      return;
    }
    if (answers.length > 1) return;
    const [{ sent, reply, operation }] = changing as [Answered];
    const name = decodeURIComponent(sent.target.split(/[/?]/)[3] as string);
    const effect = effects[operation?.id ?? ''];
    if (reply.status < 300 && effect !== undefined) {
      assert.ok(effect(before.get(name), after.get(name)), `${operation?.id} must do what its success says`);
    }
    const others = (world: WorldState) => new Map([...world].filter(([each]) => each !== name && before.has(each)));
    assert.deepEqual(comparable(others(after), before, false), comparable(others(before), after, false));
    const created = [...after.keys()].filter((each) => !before.has(each)).length;
    const creates = operation?.id === 'createSession' || operation?.id === 'forkSession';
    assert.equal(created, creates && reply.status < 300 ? 1 : 0, 'sessions must be made by creations alone');
  }
}

function judgeProblem({ status, headers, bytes }: WireReply, operation: Operation | undefined): void {
  const problem = JSON.parse(bytes.toString());
  const code = problem.code as ProblemCode;
  assert.equal(problem.status, status);
  assert.equal(catalogue[code].status, status);
  if (status === 429 || status === 503) assert.ok(headers['retry-after'], `${code} must say when to come again`);
  if (operation === undefined) return;
  const documented = operation.responses.get(status) as string;
  assert.ok(documented.includes(`\`${code}\``), `${operation.id} must not be answered with ${code}: ${bytes}`);
}

/** To bytes that are no HTTP, so that there is no request whose reply it could be. */
function isToGarbage({ status, bytes }: WireReply): boolean {
  return status === 400 && bytes.includes('"instance":"*"');
}

function mayChange({ operation, reply, sent }: Answered): boolean {
  if (operation === undefined || sent.request.method === 'HEAD' || effects[operation.id] === undefined) return false;
  if (reply.headers['idempotency-replayed'] !== undefined) return false;
  return reply.status < 300 || (reply.status >= 400 && JSON.parse(reply.bytes.toString()).applied !== false);
}

/** A refused gradient may be the last one that puts its worker aside. */
function mayQuarantine({ reply }: Answered): boolean {
  return reply.status === 422 && reply.bytes.includes('gradient_not_finite');
}

/**
 * Without checkpoints where there is a newer one than in the other world: a session writes some by itself, and removes others.
 * Without all that a quarantine changes if it may be one.
 */
function comparable(world: WorldState, other: WorldState, isQuarantine: boolean): object {
  return [...world].map(([name, { checkpoints, quarantined, revision, document, ...rest }]) => ({
    name,
    ...rest,
    ...(checkpoints[0] === other.get(name)?.checkpoints[0] ? { checkpoints } : {}),
    ...(isQuarantine ? {} : { quarantined, revision, document }),
  }));
}
