/**
 * Server-sent events to many clients at once. What has happened since the last time goes out in one write to each, and the
 * writing rests four times as long as it took, so that a thousand listeners cost pushes a fifth of the thread and no more. A
 * listener that does not read is cut off: it can come back and name the last event that it has. What events there are is the
 * store's to know, and how one is written is schemas/event.ts.
 */
import type { ServerResponse } from 'node:http';
import type { FastifyInstance } from 'fastify';
import fp from 'fastify-plugin';
import { Counter, Gauge } from 'prom-client';
import { Problem } from '../errors.ts';
import { listenerBufferBytesMax, listenersMax } from '../limits.ts';
import { encodeEvent } from '../schemas/event.ts';
import type { SessionEvents, Told } from '../store/session-events.ts';
import { cutOff, hasGone } from './connections/http2.ts';

/** For clients: how soon to come back. */
const greeting = 'retry: 1000\n\n';
const heartbeat = Buffer.from(':\n\n');
/** What proxies take for a dead connection is silence of 30 s and more. */
const heartbeatMsDefault = 15_000;
/** Milliseconds' work before others have their turn with the thread. */
const turnMs = 5;
const restFactor = 4;
/** For a listener to read what it was told before the end. */
const endGraceMs = 1_000;

interface Listener {
  readonly raw: ServerResponse;
  /** So many of those pending were told when it came. */
  told: number;
}

/** Those who listen to one session. */
interface Channel {
  readonly events: SessionEvents;
  readonly listeners: Set<Listener>;
  /** Encoded, and not written yet. */
  pending: string[];
  pendingBytes: number;
  readonly stop: () => void;
}

export interface EventStreamsOptions {
  readonly heartbeatMs?: number;
  readonly listenersMax?: number;
  /** Told of every listener that is cut off. */
  readonly onCut?: () => void;
}

export class EventStreams {
  readonly #listenersMax: number;
  readonly #onCut: () => void;
  readonly #heart: NodeJS.Timeout;
  readonly #channels = new Map<SessionEvents, Channel>();
  readonly #listeners = new Set<Listener>();
  /** Those with something to write. */
  readonly #dirty = new Set<Channel>();
  #isBeatDue = false;
  /** What is being written, as far as it has come. */
  #round: Iterator<void> | undefined;
  #isScheduled = false;
  #restUntil = 0;

  constructor(options: EventStreamsOptions = {}) {
    this.#listenersMax = options.listenersMax ?? listenersMax;
    this.#onCut = options.onCut ?? (() => undefined);
    this.#heart = setInterval(() => this.#beat(), options.heartbeatMs ?? heartbeatMsDefault).unref();
  }

  get size(): number {
    return this.#listeners.size;
  }

  /** Throws `overloaded`. */
  requireRoom(): void {
    if (this.size < this.#listenersMax) return;
    const rule = `at most ${this.#listenersMax} clients can listen to events`;
    throw new Problem('overloaded', `${rule}. Received: one more`, { headers: { 'retry-after': '5' } });
  }

  /** Answers with `missed` and then with whatever happens, until one side ends it. */
  open(
    raw: ServerResponse,
    headers: Readonly<Record<string, string>>,
    events: SessionEvents,
    missed: readonly Told[],
  ): void {
    const channel = this.#channels.get(events) ?? this.#channelOf(events);
    const listener = { raw, told: channel.pending.length };
    channel.listeners.add(listener);
    this.#listeners.add(listener);
    raw.once('close', () => this.#remove(channel, listener)).on('error', () => undefined);
    raw.writeHead(200, headers);
    raw.write(greeting + missed.map(encodeEvent).join(''));
    if (events.isOver) this.#mark(channel);
  }

  close(): void {
    clearInterval(this.#heart);
  }

  #channelOf(events: SessionEvents): Channel {
    const hear = (told: Told | undefined) => {
      if (told !== undefined) add(channel, encodeEvent(told));
      if (told !== undefined || events.isOver) this.#mark(channel);
    };
    const channel: Channel = { events, listeners: new Set(), pending: [], pendingBytes: 0, stop: events.listen(hear) };
    this.#channels.set(events, channel);
    return channel;
  }

  #remove(channel: Channel, listener: Listener): void {
    this.#listeners.delete(listener);
    channel.listeners.delete(listener);
    if (channel.listeners.size > 0) return;
    channel.stop();
    this.#channels.delete(channel.events);
    this.#dirty.delete(channel);
  }

  #mark(channel: Channel): void {
    this.#dirty.add(channel);
    this.#schedule();
  }

  #beat(): void {
    if (this.size === 0) return;
    this.#isBeatDue = true;
    this.#schedule();
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    const wait = this.#restUntil - performance.now();
    if (wait <= 0) setImmediate(() => this.#run());
    else setTimeout(() => this.#run(), Math.ceil(wait));
  }

  #run(): void {
    const started = performance.now();
    this.#isScheduled = false;
    this.#round ??= this.#write();
    let now: number;
    do {
      if (this.#round.next().done) this.#round = undefined;
      now = performance.now();
    } while (this.#round !== undefined && now - started < turnMs);
    this.#restUntil = now + restFactor * (now - started);
    if (this.#round !== undefined || this.#dirty.size > 0 || this.#isBeatDue) this.#schedule();
  }

  /** One round through all who are to be told something, a listener a time. */
  *#write(): Generator<void> {
    const channels = [...this.#dirty];
    this.#dirty.clear();
    for (const channel of channels) yield* this.#writeTo(channel);
    if (!this.#isBeatDue) return;
    this.#isBeatDue = false;
    for (const { raw } of [...this.#listeners]) {
      this.#give(raw, heartbeat);
      yield;
    }
  }

  *#writeTo(channel: Channel): Generator<void> {
    const { pending } = channel;
    const { isOver } = channel.events;
    channel.pending = [];
    channel.pendingBytes = 0;
    const all = Buffer.from(pending.join(''));
    // Who comes while this is under way has been told all of it.
    const listeners = [...channel.listeners].map((listener) => ({ listener, told: listener.told }));
    for (const { listener } of listeners) listener.told = 0;
    for (const { listener, told } of listeners) {
      this.#give(listener.raw, told === 0 ? all : Buffer.from(pending.slice(told).join('')));
      if (isOver) end(listener.raw);
      yield;
    }
  }

  #give(raw: ServerResponse, bytes: Buffer): void {
    if (hasGone(raw) || raw.writableEnded || bytes.length === 0) return;
    if (raw.writableLength > listenerBufferBytesMax) {
      this.#onCut();
      cutOff(raw);
    } else {
      // At once: a reply would put it off behind all that is written in this turn, whose length would then say nothing.
      raw.socket?.cork();
      raw.write(bytes);
      raw.socket?.uncork();
    }
  }
}

/** More than the writing keeps up with is as good as lost: what the log still has takes its place. */
function add(channel: Channel, text: string): void {
  channel.pending.push(text);
  channel.pendingBytes += text.length;
  if (channel.pendingBytes <= listenerBufferBytesMax) return;
  channel.pending = channel.events.afterLoss().map(encodeEvent);
  channel.pendingBytes = 0;
  for (const listener of channel.listeners) listener.told = 0;
}

/** Who does not read what is left cannot hold the end up. */
function end(raw: ServerResponse): void {
  if (hasGone(raw) || raw.writableEnded) return;
  const timer = setTimeout(() => cutOff(raw), endGraceMs).unref();
  raw.once('close', () => clearTimeout(timer)).end();
}

export const eventStreams = fp(async (app: FastifyInstance) => {
  const registers = [app.metrics.registry];
  const cuts = new Counter({
    name: 'adamax_event_listeners_cut_total',
    help: 'Listeners to events that were cut off since they read too slowly.',
    registers,
  });
  const streams = new EventStreams({ onCut: () => cuts.inc() });
  new Gauge({
    name: 'adamax_event_listeners',
    help: 'Clients that listen to events.',
    registers,
    collect() {
      this.set(streams.size);
    },
  });
  app.decorate('eventStreams', streams);
  app.addHook('onClose', async () => streams.close());
});

declare module 'fastify' {
  interface FastifyInstance {
    eventStreams: EventStreams;
  }
}
