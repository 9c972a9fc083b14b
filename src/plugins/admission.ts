/**
 * How many requests the server works on at a time: one more is refused before anything of it is looked at, at a small part of
 * what a push costs. So those that were let in keep their pace, whatever else comes. Who waits (for other workers, a change or
 * an event) and whose client is slow is not worked on, and does not count. What a refusal looks like: overload.ts.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { slowBytes } from '../limits.ts';

interface Place {
  readonly request: IncomingMessage;
  /** `slow` and `aside`: not counted, for its client's sake or its own. */
  standing: 'counted' | 'slow' | 'aside';
  /** Bytes over its connection by the last look; `undefined` before the first. */
  moved: number | undefined;
}

export class Admission {
  readonly #max: number;
  readonly #places = new Map<ServerResponse, Place>();
  #counted = 0;
  /** Of those counted, such as are over. */
  #over = 0;

  constructor(max: number) {
    this.#max = max;
  }

  get counted(): number {
    return this.#counted;
  }

  /** Gives the request a place until its reply is closed, if there is one. */
  admit(request: IncomingMessage, reply: ServerResponse): boolean {
    if (this.#counted >= this.#max) return false;
    this.#counted++;
    this.#places.set(reply, { request, standing: 'counted', moved: undefined });
    reply.once('close', () => this.#end(reply));
    return true;
  }

  /** It waits for something that is no work of the server's, until that is settled or, without it, for good. */
  stepAside(reply: ServerResponse, until?: Promise<unknown>): void {
    const place = this.#places.get(reply);
    if (place === undefined) return;
    this.#put(place, 'aside');
    if (until === undefined) return;
    const comeBack = (): void => {
      if (this.#places.has(reply)) this.#put(place, 'counted');
    };
    until.then(comeBack, comeBack);
  }

  /** Once a second: a client counts no more that sends its body, or takes its reply, too slowly to be work. */
  lookForSlow(): void {
    for (const [reply, place] of this.#places) {
      if (place.standing === 'aside') continue;
      const { socket, complete } = place.request;
      const moved = socket.bytesRead + socket.bytesWritten;
      const waits = !complete || reply.writableLength > 0;
      const isSlow = waits && place.moved !== undefined && moved - place.moved < slowBytes;
      place.moved = moved;
      this.#put(place, isSlow ? 'slow' : 'counted');
    }
  }

  #put(place: Place, standing: Place['standing']): void {
    this.#counted += Number(standing === 'counted') - Number(place.standing === 'counted');
    place.standing = standing;
  }

  /**
   * Its place is free at the end of the event loop's round: what is done at once waits in front of the server, not in it, so how
   * much there is of it shows only in what one round finds.
   */
  #end(reply: ServerResponse): void {
    const place = this.#places.get(reply) as Place;
    this.#places.delete(reply);
    if (place.standing !== 'counted') return;
    if (this.#over++ > 0) return;
    setImmediate(() => {
      this.#counted -= this.#over;
      this.#over = 0;
    });
  }
}
