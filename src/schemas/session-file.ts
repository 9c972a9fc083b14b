/**
 * A session out of a safetensors body: a model file, every tensor of which becomes a variable, or a checkpoint, with which
 * a session goes on exactly where it stood. Options stand in `__metadata__` as JSON texts; what other tools have left
 * there becomes the session's metadata.
 */
import { setImmediate } from 'node:timers/promises';
import { Type } from 'typebox';
import { Problem } from '../errors.ts';
import { optionBytesMax, variablesMax } from '../limits.ts';
import { parseOptimizer } from '../optimizer/adamax-config.ts';
import { checkRange, checkShape } from '../session/gradient.ts';
import type { SessionContents } from '../session/session.ts';
import { newSettings } from '../session/settings.ts';
import { allocateVariables, stateBytes, type VariableSpec } from '../session/variable.ts';
import { Workers } from '../session/workers.ts';
import { checkpointFormat, splitTensorName } from '../store/checkpoint-format.ts';
import type { NewSession } from '../store/lifecycle.ts';
import { type FloatDtype, isFloatDtype } from '../tensor/dtype.ts';
import type { SafetensorsFile } from '../tensor/safetensors.ts';
import { elementCount, type Tensor } from '../tensor/tensor.ts';
import { variableNamePattern } from './common.ts';
import { drawSeed, variableDtype } from './new-session.ts';
import { settingsMembers } from './session.ts';
import { validate } from './validate.ts';

const FileOptions = Type.Object({
  ...settingsMembers,
  optimizer: Type.Optional(Type.Unsafe<unknown>({ type: 'object' })),
  iterations: Type.Optional(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })),
});

/** What replies and checkpoints say of themselves; it means nothing for a new session. */
const descriptive = new Set(['session', 'revision', 'learning_rate', 'created_at', 'saved_at', 'journal', 'workers']);

/** Checks a file whole; the contents themselves are made when their turn has come. */
export function decodeSessionFile(file: SafetensorsFile): NewSession {
  const { options, foreign } = readMetadata(file.metadata);
  const optimizer = parseOptimizer(options.optimizer, drawSeed);
  const settings = newSettings({ ...options, metadata: { ...foreign, ...options.metadata } });
  const specs = readVariables(file);
  const slots = readSlots(file, specs);
  return {
    bytes: stateBytes(specs.values()),
    async make(): Promise<SessionContents> {
      const variables = allocateVariables([...specs.values()]);
      for (const { name, memory, shape } of variables.values()) {
        const count = elementCount(shape);
        memory.write('w', 0, count, file.tensors.get(name) as Tensor<FloatDtype>);
        const slot = slots.get(name);
        if (slot !== undefined) {
          memory.write('m', 0, count, slot.m);
          memory.write('v', 0, count, slot.v);
        }
        await setImmediate();
      }
      return { variables, optimizer, iterations: options.iterations ?? 0, settings, workers: new Workers() };
    },
  };
}

function readMetadata(metadata: ReadonlyMap<string, string>) {
  const options: Record<string, unknown> = {};
  const foreign = new Map<string, string>();
  for (const [key, text] of metadata) {
    if (Object.hasOwn(FileOptions.properties, key)) options[key] = key === 'durability' ? text : parseText(key, text);
    else if (key === 'format' && text.startsWith('adamax-server/')) checkFormat(text);
    else if (!descriptive.has(key)) foreign.set(key, text);
  }
  validate(FileOptions, options, '__metadata__');
  return { options: options as Type.Static<typeof FileOptions>, foreign: Object.fromEntries(foreign) };
}

function parseText(key: string, text: string): unknown {
  if (text.length > optionBytesMax) {
    const rule = `__metadata__ must hold at most ${optionBytesMax} characters under "${key}"`;
    throw new Problem('invalid_argument', `${rule}. Received: ${text.length}`);
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    const received = JSON.stringify(text.slice(0, 60));
    throw new Problem('invalid_parameter', `__metadata__ must hold JSON under "${key}". Received: ${received}`, {
      cause,
    });
  }
}

function checkFormat(format: string): void {
  if (format === checkpointFormat) return;
  throw new Problem(
    'malformed_body',
    `a checkpoint's format must be "${checkpointFormat}". Received: ${JSON.stringify(format)}`,
  );
}

function readVariables(file: SafetensorsFile): Map<string, VariableSpec> {
  const specs = new Map<string, VariableSpec>();
  const pattern = new RegExp(variableNamePattern);
  for (const [name, tensor] of file.tensors) {
    const { variable, part } = splitTensorName(name);
    if (part === undefined || !pattern.test(variable)) {
      const rule = `a tensor's name must match ${variableNamePattern}, with ":m" or ":v" for a slot`;
      throw new Problem('invalid_parameter', `${rule}. Received: ${JSON.stringify(name)}`);
    }
    if (part === 'w') specs.set(name, { name, dtype: variableDtype(name, tensor.dtype), shape: tensor.shape });
  }
  if (specs.size > variablesMax) {
    throw new Problem(
      'invalid_argument',
      `a session must have at most ${variablesMax} variables. Received: ${specs.size}`,
    );
  }
  for (const [name, spec] of specs) checkRange(name, spec.dtype, file.tensors.get(name) as Tensor<FloatDtype>);
  return specs;
}

type Slots = Map<string, { m: Tensor<FloatDtype>; v: Tensor<FloatDtype> }>;

/** Slots come in pairs, of their variable's shape. */
function readSlots(file: SafetensorsFile, specs: ReadonlyMap<string, VariableSpec>): Slots {
  const slots: Slots = new Map();
  for (const name of file.tensors.keys()) {
    const { variable, part } = splitTensorName(name);
    if (part === 'w' || slots.has(variable)) continue;
    const spec = specs.get(variable);
    const m = file.tensors.get(`${variable}:m`);
    const v = file.tensors.get(`${variable}:v`);
    if (spec === undefined || m === undefined || v === undefined) {
      throw new Problem(
        'invalid_parameter',
        `slots must come as "w:m" and "w:v" beside their variable "w". Received: ${JSON.stringify(name)} alone`,
      );
    }
    slots.set(variable, { m: slotTensor(spec, m, 'm'), v: slotTensor(spec, v, 'v') });
  }
  return slots;
}

function slotTensor(spec: VariableSpec, tensor: Tensor, slot: string): Tensor<FloatDtype> {
  const { dtype, shape, bytes } = tensor;
  checkShape(spec, spec.shape, tensor, `slot ${slot} of`);
  if (isFloatDtype(dtype)) return { dtype, shape, bytes };
  throw new Problem(
    'dtype_mismatch',
    `slot ${slot} of ${JSON.stringify(spec.name)} must be a float dtype. Received: ${dtype}`,
  );
}
