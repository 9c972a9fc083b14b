/**
 * A reply that waits behind another one on its connection has no socket yet, so Node does not close it when the connection
 * ends. Here that is done, since memory and places are given back when a reply closes.
 */
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyInstance } from 'fastify';
import fp from 'fastify-plugin';
import { synchronous } from '../synchronous.ts';

export const pipelined = fp(async (app: FastifyInstance) => {
  const waiting = new WeakMap<Socket, Set<ServerResponse>>();
  app.addHook(
    'onRequest',
    synchronous(({ raw: { socket } }, { raw }) => {
      if (raw.socket !== null) return;
      const replies = waiting.get(socket) ?? repliesOf(socket);
      waiting.set(socket, replies.add(raw));
      raw.once('close', () => replies.delete(raw));
    }),
  );
});

/** Those that wait on a connection, closed with it. */
function repliesOf(socket: Socket): Set<ServerResponse> {
  const replies = new Set<ServerResponse>();
  socket.once('close', () => {
    for (const raw of replies) if (raw.socket === null) raw.destroy().emit('close');
  });
  return replies;
}
