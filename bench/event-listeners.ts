/** A child: listens to a session's events over so many connections, says when all listen, and counts what it is sent. */
import { connect, type Socket } from 'node:net';

const [port, count] = process.argv.slice(2, 4).map(Number) as [number, number];
const [path] = process.argv.slice(4);
const mark = Buffer.from('event: step');
let listening = 0;

function listen(): Socket {
  const socket = connect(port, '127.0.0.1', () => socket.write(`GET ${path}/events HTTP/1.1\r\nhost: bench\r\n\r\n`));
  socket.once('data', () => {
    if (++listening === count) process.send?.(true);
  });
  return socket.resume();
}

/** One of them reads what comes; the others take it from the system, and that is all. */
let steps = 0;
listen().on('data', (chunk: Buffer) => {
  for (let at = chunk.indexOf(mark); at >= 0; at = chunk.indexOf(mark, at + 1)) steps++;
});
for (let k = 1; k < count; k++) listen();
process.on('message', () => process.send?.(steps));
process.on('disconnect', () => process.exit());
