import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Validator } from '@seriousme/openapi-schema-validator';
import { parse } from 'yaml';
import { catalogue } from '../src/errors.ts';
import type { OpenapiDocument } from './support/openapi-truth.ts';

const document = parse(readFileSync(new URL('../openapi.yaml', import.meta.url), 'utf8'));
const { paths } = document as OpenapiDocument;
const operations = Object.entries(paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({
    name: `${method} ${path}`,
    operation: operation as Operation,
  })),
);

interface Operation {
  operationId?: string;
  summary?: string;
  tags?: string[];
  requestBody?: { content: Record<string, unknown> };
  responses: Record<string, { content?: Record<string, { schema: object }> }>;
}

test('the document is valid OpenAPI 3.1 by a public validator', async () => {
  const validator = new Validator();
  const { valid, errors } = await validator.validate(structuredClone(document));
  assert.ok(valid, JSON.stringify(errors));
  assert.equal(validator.version, '3.1');
});

test('every route has an operationId, a summary, a tag, a success and problems', () => {
  assert.ok(operations.length >= 20);
  for (const { name, operation } of operations) {
    assert.ok(operation.operationId && operation.summary && operation.tags?.length, name);
    const statuses = Object.keys(operation.responses);
    assert.ok(
      statuses.some((status) => status.startsWith('2')),
      `${name} has no success`,
    );
    for (const status of statuses.filter((each) => Number(each) >= 400)) {
      assert.ok(operation.responses[status]?.content?.['application/problem+json'], `${name} ${status}`);
    }
    assert.ok(statuses.includes('400') && statuses.includes('500'), `${name} names no problems`);
  }
  const ids = operations.map(({ operation }) => operation.operationId);
  assert.equal(new Set(ids).size, ids.length);
});

test('every call that carries tensors takes both body formats', () => {
  for (const id of ['createSession', 'applyGradients', 'assignVariables', 'assignSlots', 'lookup']) {
    const found = operations.find(({ operation }) => operation.operationId === id);
    const types = Object.keys(found?.operation.requestBody?.content ?? {});
    assert.deepEqual(types, ['application/json', 'application/vnd.safetensors', 'application/octet-stream'], id);
  }
});

test('the problem schema has every code of the catalogue, and no other', () => {
  const problem = document.components.schemas.Problem as { properties: { code: { enum: string[] } } };
  assert.deepEqual(problem.properties.code.enum, Object.keys(catalogue));
});

test('components are named, and those with bodies have examples', () => {
  const schemas = document.components.schemas as Record<string, { examples?: unknown[]; example?: unknown }>;
  for (const name of Object.keys(schemas)) assert.doesNotMatch(name, /^def-/);
  for (const name of ['NewSession', 'SessionPatch', 'Gradients', 'Assignments', 'Lookup', 'Tensors', 'Problem']) {
    assert.ok(schemas[name]?.examples ?? schemas[name]?.example, name);
  }
});
