/** Names, parameters and headers that many routes share. */
import { type Static, type TSchema, Type } from 'typebox';
import type { ProblemCode } from '../errors.ts';
import { catalogue } from '../errors.ts';
import { sessionNameMax, variableNameMax, workerNameMax } from '../limits.ts';

export const SessionName = Type.String({
  pattern: `^[A-Za-z0-9][A-Za-z0-9._-]{0,${sessionNameMax - 1}}$`,
  description: "A session's name: 1 to 128 letters, digits, `.`, `_` or `-`, the first a letter or digit.",
  examples: ['mnist'],
});

export const variableNamePattern = `^[A-Za-z0-9_][A-Za-z0-9_./-]{0,${variableNameMax - 1}}$`;

export const VariableName = Type.String({
  pattern: variableNamePattern,
  description: "A variable's name, percent-encoded: 1 to 256 letters, digits, `_`, `.`, `/` or `-`.",
  examples: ['dense/kernel'],
});

export const SessionParams = Type.Object({ session: SessionName });
export const VariableParams = Type.Object({ session: SessionName, variable: VariableName });
export const SlotParams = Type.Object({
  session: SessionName,
  slot: Type.Enum(['m', 'v'], { description: 'The first moment `m` or the infinity norm `v`.' }),
});
export const CheckpointParams = Type.Object({
  session: SessionName,
  id: Type.String({
    maxLength: 64,
    description: "A checkpoint's id, or `latest`.",
    examples: ['ckpt-000001', 'latest'],
  }),
});

export const WorkerName = Type.String({
  minLength: 1,
  maxLength: workerNameMax,
  description: 'Who pushes: any name of 1 to 128 characters, one for each worker.',
  examples: ['worker-3'],
});
export const WorkerParams = Type.Object({ session: SessionName, worker: WorkerName });

export const ReplyDtype = Type.Optional(
  Type.Enum(['F64', 'F32', 'F16', 'BF16'], {
    description: "The dtype of the reply's tensors; each variable's own by default. Rounded to nearest even.",
  }),
);

/** Query strings refuse unknown members by name. */
export function query<T extends Record<string, TSchema>>(members: T) {
  return Type.Object(members, { additionalProperties: false });
}

export const IfMatch = Type.Optional(
  Type.String({
    description: 'Apply only at this revision, else `412`. Several may be named, or `*`.',
    examples: ['"41"'],
  }),
);

export const IdempotencyKey = Type.Optional(
  Type.String({
    description:
      'Any name for this request, 1 to 255 visible ASCII characters. However often it is sent, it is applied once; a repeat is answered with `Idempotency-Replayed: true`.',
    examples: ['worker-3-step-1200'],
  }),
);

export const ChangeHeaders = Type.Object({ 'if-match': IfMatch, 'idempotency-key': IdempotencyKey });

/** What any change can meet. */
export const changeProblems = [
  'precondition_failed',
  'idempotency_key_reused',
  'storage_failed',
  'insufficient_storage',
] as const satisfies ProblemCode[];

/** `next` of a list: the cursor for `after`, or null. */
export const Cursor = Type.Union([Type.String(), Type.Null()]);

export const ProblemDetails = Type.Object(
  {
    type: Type.String({ description: 'A URI reference for the kind of problem.' }),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String({ description: 'The rule, then what came.' }),
    instance: Type.String({ description: "The request's path." }),
    code: Type.Enum(Object.keys(catalogue) as ProblemCode[], { description: 'One word of the catalogue.' }),
    errors: Type.Optional(
      Type.Array(Type.Object({ pointer: Type.String(), detail: Type.String() }, { additionalProperties: false }), {
        description: 'The single things that are wrong: JSON pointers into the body, or the place in the request.',
      }),
    ),
    applied: Type.Union([Type.Boolean(), Type.Literal('unknown')], {
      description:
        '`false`: nothing was changed. `true`: all was, only the reply could not be given. `unknown`: only a retry can tell.',
    }),
    iterations: Type.Optional(
      Type.Integer({
        description: 'Of `gradient_stale`: where the session stands, to be pulled before the next push.',
      }),
    ),
  },
  {
    $id: 'Problem',
    additionalProperties: false,
    description: 'RFC 9457 problem details.',
    examples: [
      {
        type: '/docs/errors#shape_mismatch',
        title: 'A shape does not fit',
        status: 422,
        detail: 'gradient for "w" must have shape [3,2]. Received: [2,3]',
        instance: '/v1/sessions/mnist/gradients',
        code: 'shape_mismatch',
        applied: false,
      },
    ],
  },
);

export type ProblemDetails = Static<typeof ProblemDetails>;

/** What any route can meet, by what it takes of who calls it. */
const always = {
  open: ['invalid_parameter', 'recovering', 'shutting_down', 'internal'],
  any: ['invalid_parameter', 'unauthenticated', 'rate_limited', 'recovering', 'shutting_down', 'internal'],
  role: [
    'invalid_parameter',
    'unauthenticated',
    'forbidden',
    'rate_limited',
    'overloaded',
    'recovering',
    'shutting_down',
    'internal',
  ],
} as const satisfies Record<string, ProblemCode[]>;

/** The responses of a route that takes a role and can meet these problems, besides those that any such route can meet. */
export function problems(...codes: ProblemCode[]) {
  return problemsFor('role', ...codes);
}

/** As `problems`, of a route that takes no token, or any. */
export function problemsFor(access: keyof typeof always, ...codes: ProblemCode[]) {
  const byStatus = new Map<number, ProblemCode[]>();
  for (const code of new Set([...codes, ...always[access]])) {
    const { status } = catalogue[code];
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  return Object.fromEntries(
    [...byStatus].map(([status, list]) => [
      status,
      {
        description: list.map((code) => `\`${code}\`: ${catalogue[code].title.toLowerCase()}`).join('; '),
        content: { 'application/problem+json': { schema: Type.Ref('Problem') } },
      },
    ]),
  );
}
