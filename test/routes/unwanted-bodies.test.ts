/** Where nothing takes a body, none is read for its own sake: what is wrong is the address, or that there is a body at all. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { type Call, safetensors, startApi } from '../support/api.ts';
import { create, refused, succeeded } from '../support/calls.ts';
import { head, RawConnection } from '../support/raw-connection.ts';

const api = await startApi({ after });
await create(api, 'spare', { w: { values: [1, 2] } });
const path = '/v1/sessions/spare/checkpoints';

describe('a call that takes no body takes', () => {
  const nothings: [string, Call][] = [
    ['none', {}],
    ['an empty object', { json: {} }],
    ['an empty object with spaces', { json: ' { } ' }],
    ['an empty body of a type that is none of ours', { headers: { 'content-type': 'multipart/form-data' } }],
    ['an empty body that says it is JSON', { headers: { 'content-type': 'application/json' } }],
  ];
  for (const [name, call] of nothings) {
    test(name, async () => {
      succeeded(await api.call('POST', path, call), 201);
    });
  }
});

describe('a call that takes no body refuses', () => {
  const bodies: [string, Call][] = [
    ['a member', { json: { a: 1 } }],
    ['a list', { json: [] }],
    ['what is no JSON', { json: '{' }],
    ['a large one', { json: { a: 'x'.repeat(100_000) } }],
    ['a file', { bytes: Buffer.alloc(8), headers: { 'content-type': safetensors } }],
    ['what is no file', { bytes: Buffer.alloc(3) }],
    ['another type', { bytes: Buffer.from('a=b'), headers: { 'content-type': 'application/x-www-form-urlencoded' } }],
    ['a type that is none', { bytes: Buffer.from('a=b'), headers: { 'content-type': 'application/' } }],
    ['another encoding', { json: {}, headers: { 'content-encoding': 'compress' } }],
    ['an encoding that it is not in', { json: {}, headers: { 'content-encoding': 'gzip' } }],
  ];
  for (const [name, call] of bodies) {
    test(name, async () => {
      const before = (await api.call('GET', path)).json;
      refused(await api.call('POST', path, call), 'invalid_parameter');
      refused(await api.call('DELETE', '/v1/sessions/spare', call), 'invalid_parameter');
      assert.deepEqual((await api.call('GET', path)).json, before);
    });
  }
});

describe('at an address that is none, nothing is said of a body', () => {
  const bodies: [string, Call][] = [
    ['of another type', { json: '', headers: { 'content-type': 'text/plain' } }],
    ['that is no JSON', { json: '{' }],
    ['in an encoding that is none', { json: {}, headers: { 'content-encoding': 'compress' } }],
  ];
  for (const [name, call] of bodies) {
    test(name, async () => {
      refused(await api.call('POST', '/v1/nowhere', call), 'route_not_found');
    });
  }
});

describe('a compressed body that is not read to its end ends the connection, which would hang', () => {
  const requests: [string, string, string, number][] = [
    ['where none is taken', 'GET', '/v1/sessions/spare', 200],
    ['where it is not what it says', 'POST', '/v1/sessions/spare/gradients', 400],
  ];
  for (const [name, method, to, status] of requests) {
    test(name, async () => {
      const connection = await RawConnection.open(api);
      const headers = { 'content-type': 'application/json', 'content-encoding': 'gzip', 'content-length': 300_000 };
      connection.write(head(method, to, headers), Buffer.alloc(200_000));
      const reply = await connection.next();
      assert.equal(reply.status, status);
      assert.equal(reply.headers.connection, 'close');
      await connection.closed();
    });
  }
});
