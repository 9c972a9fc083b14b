/** Which rows of which variables a sparse pull asks for. */
import { type Static, Type } from 'typebox';
import { Problem } from '../errors.ts';
import { variablesMax } from '../limits.ts';
import { readIndices } from '../optimizer/indexed-slices.ts';
import type { Selection } from '../session/session.ts';
import type { SafetensorsFile } from '../tensor/safetensors.ts';
import { variableNamePattern } from './common.ts';
import { Indices, indexTensor } from './slices.ts';

export const LookupBody = Type.Object(
  {
    variables: Type.Record(
      Type.String({ pattern: variableNamePattern }),
      Type.Object({ indices: Indices }, { additionalProperties: false }),
      { additionalProperties: false, maxProperties: variablesMax, description: 'By variable name.' },
    ),
  },
  {
    $id: 'Lookup',
    additionalProperties: false,
    examples: [{ variables: { embedding: { indices: [4, 17, 4] } } }],
  },
);

export type LookupBody = Static<typeof LookupBody>;

export function decodeLookup(body: LookupBody): Selection[] {
  return Object.entries(body.variables).map(([variable, { indices }]) => ({ variable, rows: indices }));
}

/** Tensors `w:indices`; any other is refused with `invalid_parameter`. */
export function decodeLookupFile(file: SafetensorsFile): Selection[] {
  return [...file.tensors].map(([name, tensor]) => {
    if (!name.endsWith(':indices')) {
      throw new Problem(
        'invalid_parameter',
        `a lookup's tensors must be named "w:indices". Received: ${JSON.stringify(name)}`,
      );
    }
    return { variable: name.slice(0, -':indices'.length), rows: readIndices(indexTensor(name, tensor)) };
  });
}
