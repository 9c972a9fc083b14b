/** A POST of JSON whose headers the server has, and whose body is still to come: a request under way for as long as need be. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http';

export class BegunRequest {
  readonly #request: ClientRequest;
  readonly #body: string;
  readonly #answered: Promise<IncomingMessage[]>;

  private constructor(request: ClientRequest, body: string) {
    this.#request = request;
    this.#body = body;
    this.#answered = once(request, 'response');
    this.#answered.catch(() => undefined);
  }

  static async open(
    t: { after(task: () => void): void },
    server: string,
    path: string,
    body: string,
  ): Promise<BegunRequest> {
    const length = Buffer.byteLength(body);
    const headers = { 'content-type': 'application/json', 'content-length': length, expect: '100-continue' };
    const request = httpRequest(new URL(path, server), { method: 'POST', headers });
    const begun = new BegunRequest(request, body);
    t.after(() => request.destroy());
    request.flushHeaders();
    await once(request, 'continue');
    return begun;
  }

  async finish(): Promise<IncomingMessage> {
    this.#request.end(this.#body);
    const [response] = await this.#answered;
    assert.ok(response, 'there is an answer');
    response.resume();
    return response;
  }
}
