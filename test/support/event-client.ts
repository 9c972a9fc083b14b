/** A client of server-sent events, over a socket of its own: what has come, in order, and how it ended. */
import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Api, Json } from './api.ts';

export interface Received {
  readonly id: string | undefined;
  readonly event: string;
  readonly data: Json;
}

export class EventClient {
  readonly response: IncomingMessage;
  readonly received: Received[] = [];
  /** All that has come, as text. */
  text = '';
  /** `whole`: the server has ended the reply as HTTP has it. */
  readonly ended: Promise<'whole' | 'cut'>;
  readonly #news = new EventEmitter().setMaxListeners(0);
  #rest = '';
  #read = 0;

  private constructor(response: IncomingMessage) {
    this.response = response;
    response.setEncoding('utf8').on('data', (text: string) => this.#take(text));
    response.on('error', () => undefined);
    this.ended = new Promise((resolve) => {
      response.once('close', () => {
        this.#news.emit('news');
        resolve(response.complete ? 'whole' : 'cut');
      });
    });
  }

  /** Resolves when the reply's header is there. */
  static async open(port: number, path: string, headers: Record<string, string> = {}): Promise<EventClient> {
    const call = request({
      port,
      host: '127.0.0.1',
      path,
      headers: { accept: 'text/event-stream', ...headers },
      agent: false,
    });
    call.end();
    const [response] = (await once(call, 'response')) as [IncomingMessage];
    call.on('error', () => undefined);
    return new EventClient(response);
  }

  /** The next event, in order. Fails where there will be none. */
  async next(): Promise<Received> {
    while (this.received.length <= this.#read) {
      assert.ok(!this.response.closed, `the events ended: ${this.text.slice(-500)}`);
      await once(this.#news, 'news');
    }
    return this.received[this.#read++] as Received;
  }

  async take(count: number): Promise<Received[]> {
    const taken: Received[] = [];
    while (taken.length < count) taken.push(await this.next());
    return taken;
  }

  close(): void {
    this.response.destroy();
  }

  #take(text: string): void {
    this.text += text;
    const blocks = (this.#rest + text).split('\n\n');
    this.#rest = blocks.pop() as string;
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split('\n').map((line) => line.split(/: ?(.*)/s, 2)));
      if (fields.event === undefined) continue;
      this.received.push({ id: fields.id, event: fields.event, data: JSON.parse(fields.data) });
    }
    this.#news.emit('news');
  }
}

/** Follows a session, behind the event `last` if it is given. */
export function follow(api: Api, name: string, last?: string): Promise<EventClient> {
  const headers: Record<string, string> = last === undefined ? {} : { 'last-event-id': last };
  return EventClient.open((api.app.server.address() as AddressInfo).port, `/v1/sessions/${name}/events`, headers);
}

/** What tells events apart: ids, and what the session's own say. */
export function idsOf(events: readonly Received[]): (string | undefined)[] {
  return events.map(({ id, data }) => id ?? data.change);
}
