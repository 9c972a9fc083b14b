/**
 * Holds replies against the OpenAPI document: the path must be in it, with that method and status, that content type, and
 * a body that its schema allows. Every test that speaks HTTP goes through here, so the document cannot drift from the code.
 */
import assert from 'node:assert/strict';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';

interface Media {
  schema: object;
}

interface Operation {
  responses: Record<string, { content?: Record<string, Media> }>;
}

export interface OpenapiDocument {
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, object> };
}

export interface Reply {
  readonly status: number;
  readonly contentType: string | undefined;
  readonly bytes: Uint8Array;
}

/** Replies seen by all tests of this process, as `method path status`. */
export const seen = new Set<string>();

export class OpenapiTruth {
  readonly #document: OpenapiDocument;
  readonly #ajv: Ajv2020;
  readonly #templates: { template: string; pattern: RegExp }[];
  readonly #compiled = new Map<object, ValidateFunction>();

  constructor(document: OpenapiDocument) {
    this.#document = document;
    this.#ajv = new Ajv2020({ strict: false, validateFormats: false });
    this.#ajv.addSchema({ $id: 'openapi', ...document });
    this.#templates = Object.keys(document.paths)
      .sort((a, b) => Number(a.includes('{')) - Number(b.includes('{')))
      .map((template) => ({ template, pattern: new RegExp(`^${template.replaceAll(/\{[^}]+\}/g, '[^/]*')}$`) }));
  }

  check(method: string, path: string, reply: Reply): void {
    const bare = path.split('?', 1)[0] as string;
    const template = this.#templates.find(({ pattern }) => pattern.test(bare))?.template;
    // HEAD is answered as GET is, without the body.
    const verb = method === 'HEAD' ? 'get' : method.toLowerCase();
    const operation = template === undefined ? undefined : this.#document.paths[template]?.[verb];
    const what = `${method} ${template ?? bare} ${reply.status}`;
    seen.add(what);
    if (operation === undefined) {
      assert.ok([400, 404, 405].includes(reply.status), `${what} is not in the document`);
      if (method === 'HEAD') assert.equal(reply.bytes.length, 0, `${what} must have no body`);
      else this.#checkBody(what, reply, { $ref: 'openapi#/components/schemas/Problem' });
      return;
    }
    const response = operation.responses[reply.status];
    assert.ok(response, `${what} is not in the document`);
    if (response.content === undefined || method === 'HEAD') {
      assert.equal(reply.bytes.length, 0, `${what} must have no body`);
      return;
    }
    const media = response.content[reply.contentType ?? ''];
    assert.ok(media, `${what} must not be of type ${reply.contentType}`);
    this.#checkBody(what, reply, media.schema);
  }

  #checkBody(what: string, reply: Reply, schema: object): void {
    if (!/json/.test(reply.contentType ?? '')) return;
    let validate = this.#compiled.get(schema);
    if (validate === undefined) {
      validate = this.#ajv.compile(absolute(schema));
      this.#compiled.set(schema, validate);
    }
    const body: unknown = JSON.parse(Buffer.from(reply.bytes).toString());
    assert.ok(
      validate(body),
      `${what}: ${this.#ajv.errorsText(validate.errors)}\n${JSON.stringify(body).slice(0, 500)}`,
    );
  }
}

/** References into the document, wherever the schema itself stands. */
function absolute(schema: object): object {
  return JSON.parse(JSON.stringify(schema).replaceAll('"#/components', '"openapi#/components'));
}
