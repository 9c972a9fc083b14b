/** A session to be created, from JSON: its variables by their values or by an initializer, and its optimizer. */
import { randomInt } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { type Static, Type } from 'typebox';
import { Problem } from '../errors.ts';
import { elementsMax, variablesMax } from '../limits.ts';
import { parseOptimizer } from '../optimizer/adamax-config.ts';
import { type Initializer, initialize, parseInitializer } from '../optimizer/initializers.ts';
import { checkRange } from '../session/gradient.ts';
import type { SessionContents } from '../session/session.ts';
import { newSettings } from '../session/settings.ts';
import { allocateVariables, stateBytes, type Variable, type VariableSpec } from '../session/variable.ts';
import { Workers } from '../session/workers.ts';
import type { NewSession } from '../store/lifecycle.ts';
import type { FloatDtype, VariableDtype } from '../tensor/dtype.ts';
import { elementCount, isCountable, type Tensor } from '../tensor/tensor.ts';
import { variableNamePattern } from './common.ts';
import { OptimizerJson, settingsMembers } from './session.ts';
import { escapePointer, requireFinite } from './slices.ts';
import { decodeTensor, type TensorJson, tensorMembers } from './tensor.ts';

const VariableBody = Type.Object(
  {
    ...tensorMembers,
    values: Type.Optional(tensorMembers.values),
    initializer: Type.Optional(
      Type.Unsafe<unknown>({
        type: ['object', 'string'],
        description:
          "Keras' serialised form, or its name. `Zeros` by default; a `seed` that is not given is drawn and recorded.",
        examples: [{ class_name: 'GlorotUniform', config: { seed: 7 } }],
      }),
    ),
  },
  { $id: 'NewVariable', additionalProperties: false, description: '`values`, or `shape` with an `initializer`.' },
);

export const SessionBody = Type.Object(
  {
    optimizer: Type.Optional(OptimizerJson),
    variables: Type.Optional(
      Type.Record(Type.String({ pattern: variableNamePattern }), VariableBody, {
        additionalProperties: false,
        maxProperties: variablesMax,
      }),
    ),
    ...settingsMembers,
  },
  {
    $id: 'NewSession',
    additionalProperties: false,
    description: 'A session to create. Every member may be left out.',
    examples: [
      {
        optimizer: { class_name: 'Adamax', config: { learning_rate: 0.001 } },
        variables: {
          'dense/kernel': { shape: [784, 10], initializer: { class_name: 'GlorotUniform', config: { seed: 7 } } },
          'dense/bias': { values: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0] },
        },
        checkpointing: { every_steps: 1000, every_seconds: 300, keep: 5 },
        metadata: { owner: 'team-a' },
      },
    ],
  },
);

export type SessionBody = Static<typeof SessionBody>;

/** A seed for what is to be random but was given none; it is recorded, so that a replay gives the same again. */
export function drawSeed(): number {
  return randomInt(2 ** 47);
}

interface NewVariable extends VariableSpec {
  readonly values: Tensor<FloatDtype> | undefined;
  readonly initializer: Initializer;
}

/** Checks a creation whole; the contents themselves are made when their turn has come. */
export function decodeSession(body: SessionBody): NewSession {
  const optimizer = parseOptimizer(body.optimizer, drawSeed);
  const settings = newSettings(body);
  const specs = Object.entries(body.variables ?? {}).map(([name, json]) => decodeVariable(name, json));
  return {
    bytes: stateBytes(specs),
    async make(): Promise<SessionContents> {
      const variables = allocateVariables(specs.map(({ name, dtype, shape }) => ({ name, dtype, shape })));
      for (const spec of specs) await fill(variables.get(spec.name) as Variable, spec);
      return { variables, optimizer, iterations: 0, settings, workers: new Workers() };
    },
  };
}

/** The event loop gets its turn between blocks: 400 M normal variates take half a minute. */
async function fill({ memory }: Variable, { values, initializer, shape, dtype }: NewVariable): Promise<void> {
  if (values !== undefined) memory.write('w', 0, elementCount(shape), values);
  else if (initializer.class_name !== 'Zeros') {
    for (const { first, values: block } of initialize(initializer, shape, dtype)) {
      const bytes = new Uint8Array(block.buffer, block.byteOffset, block.byteLength);
      memory.write('w', first, block.length, { dtype, bytes });
      await setImmediate();
    }
  }
}

/** The dtype of a new variable: its own, or the one that its values widen to. */
export function variableDtype(name: string, dtype: TensorJson['dtype']): VariableDtype {
  if (dtype === undefined || dtype === 'F16' || dtype === 'BF16' || dtype === 'F32') return 'F32';
  if (dtype === 'F64') return 'F64';
  throw new Problem(
    'dtype_mismatch',
    `variable ${JSON.stringify(name)} must be F32 or F64 (F16 and BF16 widen to F32). Received: ${dtype}`,
  );
}

function decodeVariable(name: string, json: Static<typeof VariableBody>): NewVariable {
  const pointer = `/variables/${escapePointer(name)}`;
  const dtype = variableDtype(name, json.dtype);
  const quoted = JSON.stringify(name);
  if (json.shape !== undefined && !isCountable(json.shape)) {
    const rule = `${quoted} must have at most ${Math.floor(elementsMax)} elements, sizes of 0 aside`;
    throw refuse(`${pointer}/shape`, `${rule}. Received: shape [${json.shape}]`);
  }
  if (json.values !== undefined) {
    if (json.initializer !== undefined)
      throw refuse(pointer, `${quoted} must have values or an initializer. Received: both`);
    const values = decodeTensor(json as TensorJson, undefined, pointer);
    requireFinite(new Map([[name, { values }]]));
    checkRange(name, dtype, values);
    return { name, dtype, shape: values.shape, values, initializer: { class_name: 'Zeros', config: {} } };
  }
  if (json.shape === undefined) throw refuse(pointer, `${quoted} must have values, or a shape. Received: neither`);
  const initializer = parseInitializer(json.initializer, `${pointer}/initializer`, drawSeed, dtype);
  return { name, dtype, shape: json.shape, values: undefined, initializer };
}

function refuse(pointer: string, detail: string): Problem {
  return new Problem('invalid_argument', detail, { errors: [{ pointer, detail }] });
}
