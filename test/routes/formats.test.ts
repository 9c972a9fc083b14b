/** In which format and coding bodies come and go: Content-Type, Accept, Content-Encoding, Accept-Encoding. */
import assert from 'node:assert/strict';
import { type IncomingHttpHeaders, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { brotliCompressSync, brotliDecompressSync, deflateSync, gunzipSync, gzipSync, inflateSync } from 'node:zlib';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { type Answer, type Call, encodeFile, f32, numbers, safetensors, startApi } from '../support/api.ts';
import { create, getDocument, pushFile, readNumbers, refused, stateOf, succeeded } from '../support/calls.ts';

const api = await startApi({ after });
const json = 'application/json';
const octets = 'application/octet-stream';
const coders = { gzip: gzipSync, deflate: deflateSync, br: brotliCompressSync };
const decoders = { gzip: gunzipSync, deflate: inflateSync, br: brotliDecompressSync };

/** 2,000 numbers: a JSON reply well beyond what is too short to compress. */
const values = Array.from({ length: 2000 }, (_, k) => k / 8);

before(async () => {
  await create(api, 'f', { w: { values } });
  await create(api, 'small', { w: { values: [1, 2, 3] } });
});

function typeOf({ headers }: Answer): string | undefined {
  return headers['content-type']?.split(';')[0];
}

describe("Accept chooses the reply's format, and leaves it to the request's own", () => {
  const zeros = [0, 0, 0];
  const asJson: Call = { json: { gradients: { w: { values: zeros } } } };
  const asFile: Call = { bytes: encodeFile({ w: f32(zeros) }) };
  const asOctets: Call = { ...asFile, headers: { 'content-type': octets } };
  const cases: [accept: string | undefined, ofJson: string, ofFile: string, ofOctets: string][] = [
    [undefined, json, safetensors, octets],
    ['*/*', json, safetensors, octets],
    ['application/*', json, safetensors, octets],
    ['text/html, */*;q=0.1', json, safetensors, octets],
    [json, json, json, json],
    [safetensors, safetensors, safetensors, safetensors],
    [octets, octets, octets, octets],
    [`${json};q=0.5, ${safetensors}`, safetensors, safetensors, safetensors],
    [`${safetensors};q=0.1, ${json};q=0.2`, json, json, json],
    [`${json};q=0, */*`, safetensors, safetensors, octets],
    [`text/csv, ${json};q=0.3`, json, json, json],
  ];
  for (const [accept, ...wanted] of cases) {
    test(`Accept: ${accept ?? 'none'}`, async () => {
      for (const [k, call] of [asJson, asFile, asOctets].entries()) {
        const headers = { ...call.headers, ...(accept === undefined ? {} : { accept }) };
        const answer = succeeded(await api.call('POST', '/v1/sessions/small/gradients', { ...call, headers }));
        assert.equal(typeOf(answer), wanted[k]);
        const updated =
          wanted[k] === json ? answer.json.variables.w.values : numbers(answer.file.tensors.get('w') as Tensor);
        assert.deepEqual(updated, [1, 2, 3]);
      }
      const headers: Record<string, string> = accept === undefined ? {} : { accept };
      const read = succeeded(await api.call('GET', '/v1/sessions/small/variables', { headers }));
      assert.equal(typeOf(read), wanted[0]);
    });
  }

  test('and where no format is allowed the request is 406, with nothing applied', async () => {
    const { iterations } = await getDocument(api, 'small');
    for (const accept of ['image/png', `${json};q=0`, 'text/*']) {
      const answer = await api.call('POST', '/v1/sessions/small/gradients', { ...asJson, headers: { accept } });
      assert.match(refused(answer, 'not_acceptable').detail, /^Accept must allow one of .*\. Received: /);
      refused(await api.call('GET', '/v1/sessions/small/variables', { headers: { accept } }), 'not_acceptable');
    }
    assert.equal((await getDocument(api, 'small')).iterations, iterations);
  });
});

test('every safetensors reply says of which session it is, at which revision, iteration and rate', async () => {
  await create(
    api,
    'about',
    { w: { values: [1, 2] } },
    { optimizer: { class_name: 'Adamax', config: { learning_rate: 0.5 } } },
  );
  const pushed = await pushFile(api, 'about', { w: f32([1, 1]) });
  const headers = { accept: safetensors };
  const lookup = { json: { variables: { w: { indices: [1] } } }, headers };
  const replies = [
    pushed,
    (await api.call('GET', '/v1/sessions/about/variables', { headers })).file,
    (await api.call('GET', '/v1/sessions/about/variables/w?rows=1', { headers })).file,
    (await api.call('GET', '/v1/sessions/about/slots/v', { headers })).file,
    (await api.call('POST', '/v1/sessions/about/lookup', lookup)).file,
  ];
  for (const { metadata } of replies) {
    const about = { session: 'about', revision: '1', iterations: '1', learning_rate: '0.5' };
    assert.deepEqual(Object.fromEntries(metadata), about);
  }
});

test('a Content-Type may have parameters and any case; others are 415, named', async () => {
  const body = { json: { gradients: {} } };
  for (const type of ['application/json; charset=utf-8', 'Application/JSON']) {
    const call = { ...body, headers: { 'content-type': type } };
    succeeded(await api.call('POST', '/v1/sessions/f/gradients', call));
  }
  const text = { ...body, headers: { 'content-type': 'text/plain' } };
  const problem = refused(await api.call('POST', '/v1/sessions/f/gradients', text), 'unsupported_media_type');
  assert.equal(
    problem.detail,
    'Content-Type must be one of application/json, application/vnd.safetensors, application/octet-stream. Received: text/plain',
  );
  const file = { bytes: encodeFile({}) };
  refused(await api.call('PATCH', '/v1/sessions/f', file), 'unsupported_media_type');
  refused(await api.call('POST', '/v1/sessions/f/gradients'), 'unsupported_media_type');
});

describe('a request body may be compressed', () => {
  const gradient = values.map((value) => Math.sin(value));
  const text = Buffer.from(JSON.stringify({ gradients: { w: { values: gradient.map(Math.fround) } } }));
  const file = encodeFile({ w: f32(gradient) });

  for (const [encoding, compress] of Object.entries(coders)) {
    test(`by ${encoding}, in every format`, async () => {
      await create(api, `plain-${encoding}`, { w: { values } });
      await create(api, `packed-${encoding}`, { w: { values } });
      for (const [type, body] of [
        [json, text],
        [safetensors, file],
        [octets, file],
      ] as const) {
        const plain = { bytes: body, headers: { 'content-type': type } };
        succeeded(await api.call('POST', `/v1/sessions/plain-${encoding}/gradients`, plain));
        const headers = { 'content-type': type, 'content-encoding': encoding };
        const packed = { bytes: compress(body), headers };
        succeeded(await api.call('POST', `/v1/sessions/packed-${encoding}/gradients`, packed));
      }
      assert.deepEqual(await stateOf(api, `packed-${encoding}`), await stateOf(api, `plain-${encoding}`));
      const model = { bytes: compress(encodeFile({ w: f32([7]) })), headers: { 'content-encoding': encoding } };
      succeeded(await api.call('PUT', `/v1/sessions/model-${encoding}`, model), 201);
      assert.deepEqual(await readNumbers(api, `model-${encoding}`, 'w'), [7]);
    });
  }

  test('and is refused where it is not as it says', async () => {
    const before = await stateOf(api, 'f');
    const send = (bytes: Uint8Array, encoding: string) =>
      api.call('POST', '/v1/sessions/f/gradients', { bytes, headers: { 'content-encoding': encoding } });
    const unknown = refused(await send(file, 'compress'), 'unsupported_media_type');
    assert.equal(unknown.detail, 'Content-Encoding must be gzip, deflate or br. Received: compress');
    for (const encoding of Object.keys(coders)) refused(await send(file, encoding), 'malformed_body');
    refused(await send(gzipSync(file).subarray(0, 100), 'gzip'), 'malformed_body');
    assert.deepEqual(await stateOf(api, 'f'), before);
  });
});

describe('a reply is compressed for those who accept it', () => {
  for (const [encoding, decompress] of Object.entries(decoders)) {
    test(`by ${encoding}, where it is text`, async () => {
      for (const path of ['/v1/sessions/f/variables', '/v1/sessions', '/openapi.json', '/openapi.yaml']) {
        const plain = await raw(path, {});
        assert.equal(plain.headers['content-encoding'], undefined);
        const packed = await raw(path, { 'accept-encoding': encoding });
        assert.equal(packed.headers['content-encoding'], encoding, path);
        assert.match(packed.headers.vary ?? '', /accept-encoding/i);
        assert.equal(packed.headers['content-type'], plain.headers['content-type']);
        assert.equal(packed.headers.etag, plain.headers.etag);
        assert.deepEqual(decompress(packed.bytes), plain.bytes);
        assert.ok(packed.bytes.length < plain.bytes.length / 2);
      }
    });
  }

  test('and for nobody else', async () => {
    for (const accepted of ['identity', 'gzip;q=0', 'zstd']) {
      const { status, headers, bytes } = await raw('/v1/sessions/f/variables', { 'accept-encoding': accepted });
      assert.equal(status, 200);
      assert.equal(headers['content-encoding'], undefined, accepted);
      assert.deepEqual(JSON.parse(bytes.toString()).variables.w.values, values);
    }
  });

  test('but never where it is safetensors', async () => {
    for (const [path, accept] of [
      ['/v1/sessions/f/variables', safetensors],
      ['/v1/sessions/f/variables', octets],
      ['/v1/sessions/f/checkpoints/latest', '*/*'],
    ] as const) {
      const { headers, bytes } = await raw(path, { accept, 'accept-encoding': 'gzip, br' });
      assert.equal(headers['content-encoding'], undefined, path);
      assert.equal(headers['content-length'], String(bytes.length));
      assert.ok(bytes.length > 8000);
    }
  });
});

/** A reply as it comes over the wire, not decompressed. */
function raw(
  path: string,
  headers: Record<string, string>,
): Promise<{ status: number | undefined; headers: IncomingHttpHeaders; bytes: Buffer }> {
  const { port } = api.app.server.address() as AddressInfo;
  return new Promise((resolve, reject) => {
    request({ port, host: '127.0.0.1', path, headers }, async (response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of response) chunks.push(chunk);
      resolve({ status: response.statusCode, headers: response.headers, bytes: Buffer.concat(chunks) });
    })
      .on('error', reject)
      .end();
  });
}
