/**
 * From a JSON schema of the document to values that it allows. What a schema cannot say (which variables a session has, which
 * numbers mean something) is steered: a part of the values is drawn from what is known under a component's or a member's
 * name, and another from the document's own examples.
 */
import fc from 'fast-check';
import { type Document, referenced, type Schema } from './operations.ts';

export interface Known {
  /** By the name of a component. */
  readonly components: Readonly<Record<string, fc.Arbitrary<unknown>>>;
  /** By the name of a member or a parameter. */
  readonly members: Readonly<Record<string, fc.Arbitrary<unknown>>>;
  /** Names for members that a schema does not name. */
  readonly names: fc.Arbitrary<string>;
}

/** Keywords that say something about a value, or nothing that matters here. Another one is to be taken up here first. */
const understood = new Set(
  `$ref type enum const anyOf allOf properties required additionalProperties maxProperties items minItems maxItems minimum
  maximum minLength maxLength pattern default description examples example title format contentMediaType`.split(/\s+/),
);

export class SchemaArbitraries {
  readonly #document: Document;
  readonly #known: Known;
  readonly #components = new Map<string, fc.Arbitrary<unknown>>();

  constructor(document: Document, known: Known) {
    this.#document = document;
    this.#known = known;
  }

  /** `name`: of the member or parameter whose schema this is. */
  of(schema: Schema, name?: string): fc.Arbitrary<unknown> {
    const known = name === undefined ? undefined : this.#known.members[name];
    const examples = (schema.examples ?? (schema.example === undefined ? [] : [schema.example])) as unknown[];
    const choices = [{ arbitrary: this.#bySchema(schema), weight: 2 }];
    if (known !== undefined) choices.push({ arbitrary: known, weight: 18 });
    else if (examples.length > 0) choices.push({ arbitrary: fc.constantFrom(...examples), weight: 1 });
    return fc.oneof(...choices);
  }

  #bySchema(schema: Schema): fc.Arbitrary<unknown> {
    const unknown = Object.keys(schema).find((keyword) => !understood.has(keyword));
    if (unknown !== undefined) throw new Error(`the fuzzer must know every keyword of a schema. Received: ${unknown}`);
    const component = referenced(schema);
    if (component !== undefined) return this.component(component);
    if (schema.const !== undefined) return fc.constant(schema.const);
    if (schema.enum !== undefined) return fc.constantFrom(...(schema.enum as unknown[]));
    if (schema.anyOf !== undefined) return fc.oneof(...(schema.anyOf as Schema[]).map((each) => this.of(each)));
    if (schema.allOf !== undefined) return this.of(Object.assign({}, ...(schema.allOf as Schema[])));
    if (schema.type === undefined) return fc.jsonValue();
    return fc.oneof(...[schema.type as string | string[]].flat().map((type) => this.#ofType(type, schema)));
  }

  component(name: string): fc.Arbitrary<unknown> {
    let arbitrary = this.#components.get(name);
    if (arbitrary === undefined) {
      const own = this.of(this.#document.components.schemas[name] as Schema);
      const known = this.#known.components[name];
      arbitrary = known === undefined ? own : fc.oneof({ arbitrary: known, weight: 8 }, { arbitrary: own, weight: 1 });
      this.#components.set(name, arbitrary);
    }
    return arbitrary;
  }

  #ofType(type: string, schema: Schema): fc.Arbitrary<unknown> {
    switch (type) {
      case 'null':
        return fc.constant(null);
      case 'boolean':
        return fc.boolean();
      case 'string':
        return strings(schema);
      case 'integer':
        return integers(schema);
      case 'number':
        return numbers(schema);
      case 'array':
        return this.#arrays(schema);
      case 'object':
        return this.#objects(schema);
      default:
        throw new Error(`the fuzzer must know every type of a schema. Received: ${type}`);
    }
  }

  #arrays({ items = {}, minItems = 0, maxItems = 4 }: Schema): fc.Arbitrary<unknown> {
    const lengths = { minLength: minItems as number, maxLength: Math.min(4, maxItems as number) };
    return fc.array(this.of(items as Schema), lengths);
  }

  #objects({ properties = {}, required = [], additionalProperties = true }: Schema): fc.Arbitrary<unknown> {
    const members = Object.entries(properties as Record<string, Schema>).map(([name, schema]) => {
      return [name, this.of(schema, name)] as const;
    });
    const declared = fc.record(Object.fromEntries(members), { requiredKeys: required as string[] });
    if (additionalProperties === false || (members.length > 0 && additionalProperties === true)) return declared;
    const value = this.of(additionalProperties === true ? {} : (additionalProperties as Schema));
    return fc
      .tuple(declared, fc.dictionary(this.#known.names, value, { maxKeys: 3 }))
      .map(([named, others]) => ({ ...others, ...named }));
  }
}

function strings({ pattern, minLength = 0, maxLength = 20 }: Schema): fc.Arbitrary<string> {
  if (pattern !== undefined) return fc.stringMatching(new RegExp(pattern as string));
  const lengths = { minLength: minLength as number, maxLength: Math.min(20, maxLength as number) };
  return fc.string({ unit: 'grapheme', ...lengths });
}

/** Small ones, and those at the bounds. */
function integers({ minimum = -(2 ** 53), maximum = 2 ** 53 }: Schema): fc.Arbitrary<number> {
  const [min, max] = [minimum as number, maximum as number];
  const small = fc.integer({ min: Math.max(min, -3), max: Math.min(max, Math.max(min, 0) + 20) });
  return fc.oneof({ arbitrary: small, weight: 5 }, { arbitrary: fc.constantFrom(min, max), weight: 1 });
}

function numbers({ minimum, maximum }: Schema): fc.Arbitrary<number> {
  const bounds = {
    min: (minimum as number | undefined) ?? -Number.MAX_VALUE,
    max: (maximum as number | undefined) ?? Number.MAX_VALUE,
  };
  const any = fc.double({ ...bounds, noNaN: true });
  return fc.oneof({ arbitrary: integers({ minimum, maximum }), weight: 2 }, { arbitrary: any, weight: 1 });
}
