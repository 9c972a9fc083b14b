/**
 * Ajv as this server wants it: bodies are taken at their word (no coercion, nothing dropped), query strings and headers
 * are coerced from text, and every failure becomes one problem that lists what is wrong.
 */
import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv';
import type { TSchema } from 'typebox';
import { Problem, type ProblemItem } from '../errors.ts';

/** The schemas are our own, and a test holds them against OpenAPI's; to judge them at every start took half of it. */
const rules = { strict: false, removeAdditional: false, verbose: true, validateSchema: false } as const;

/** Fastify's hook: one compiler for a set of shared schemas. */
export function buildValidator(shared: Record<string, unknown>): (route: unknown) => ValidateFunction {
  const make = (coerceTypes: false | 'array'): Ajv => {
    const ajv = new Ajv({ ...rules, useDefaults: true, coerceTypes });
    for (const schema of Object.values(shared)) ajv.addSchema(schema as object);
    return ajv;
  };
  const exact = make(false);
  const coercing = make('array');
  // Many routes have the same parameters, each in an object of its own, and to compile one takes milliseconds.
  const known = new Map<string, ValidateFunction>();
  return (route) => {
    const { schema, httpPart } = route as { schema: TSchema; httpPart: string };
    const ajv = httpPart === 'body' ? exact : coercing;
    const text = `${httpPart === 'body'} ${JSON.stringify(schema)}`;
    const found = known.get(text) ?? ajv.compile(schema);
    known.set(text, found);
    return found;
  };
}

const compiled = new WeakMap<object, ValidateFunction>();
const exact = new Ajv(rules);

/** Holds a value that came in another way than as a body against a schema without references. */
export function validate(schema: TSchema, value: unknown, where: string): void {
  let check = compiled.get(schema);
  if (check === undefined) {
    check = exact.compile(schema);
    compiled.set(schema, check);
  }
  if (!check(value)) throw validationProblem(check.errors ?? [], where);
}

/** Ajv's errors as one `invalid_parameter`. `where`: `body`, `querystring`, `params`, `headers` or a name. */
export function validationProblem(errors: readonly Partial<ErrorObject>[], where: string): Problem {
  const items = errors.map((error) => describe(error, where)).filter(onlyTelling);
  const first = items[0] ?? { pointer: '', detail: 'must be valid' };
  const place = first.pointer === '' ? `the ${where === 'querystring' ? 'query' : where}` : first.pointer;
  const more = items.length > 1 ? ` (and ${items.length - 1} more)` : '';
  return new Problem('invalid_parameter', `${place} ${first.detail}${more}`, { errors: items });
}

/** A union reports each of its branches; what says least goes, unless it is all there is. */
function onlyTelling(item: ProblemItem, _index: number, all: readonly ProblemItem[]): boolean {
  const same = all.findIndex(({ pointer, detail }) => pointer === item.pointer && detail === item.detail);
  return all[same] === item;
}

function describe(error: Partial<ErrorObject>, where: string): ProblemItem {
  const pointer = `${where === 'body' ? '' : `/${where === 'querystring' ? 'query' : where}`}${error.instancePath ?? ''}`;
  const params = (error.params ?? {}) as Record<string, unknown>;
  switch (error.keyword) {
    case 'additionalProperties':
      return { pointer, detail: `must have no member ${JSON.stringify(params.additionalProperty)}. Received: it` };
    case 'required':
      return { pointer, detail: `must have the member ${JSON.stringify(params.missingProperty)}. Received: none` };
    case 'enum': {
      const choices = (params.allowedValues as unknown[]).map((each) => JSON.stringify(each)).join(', ');
      return { pointer, detail: `must be one of ${choices}. Received: ${brief(error.data)}` };
    }
    case 'const':
      return { pointer, detail: `must be ${JSON.stringify(params.allowedValue)}. Received: ${brief(error.data)}` };
    default:
      return { pointer, detail: `${error.message ?? 'must be valid'}. Received: ${brief(error.data)}` };
  }
}

/** A value for a message: short, and however deep it is nested. */
export function brief(value: unknown): string {
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === 'object' && value !== null) return 'an object';
  // JSON.stringify would make null of an infinity.
  const text = typeof value === 'string' ? JSON.stringify(value) : String(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
