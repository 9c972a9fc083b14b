/**
 * A child: sets values in Redis over several connections at once, each the next one when the last is acknowledged, as often
 * as it is told to, and answers with the seconds that it took. Arguments: port, bytes of a value, connections.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

const [port, bytes, connections] = process.argv.slice(2).map(Number) as [number, number, number];
const value = Buffer.alloc(bytes, 'v');
const acknowledged = '+OK\r\n';

/** The key is the connection's own, so that memory stays as it is: only the file grows. */
class RedisConnection {
  readonly #socket: Socket;
  readonly #command: Buffer;
  #reply = '';
  #settle: { resolve: () => void; reject: (error: Error) => void } | undefined;

  private constructor(socket: Socket, key: string) {
    this.#socket = socket;
    const head = `*3\r\n$3\r\nSET\r\n$${key.length}\r\n${key}\r\n$${value.length}\r\n`;
    this.#command = Buffer.concat([Buffer.from(head), value, Buffer.from('\r\n')]);
    socket.on('error', (error) => this.#settle?.reject(error));
    socket.on('data', (chunk: Buffer) => {
      this.#reply += chunk.toString('latin1');
      if (!this.#reply.endsWith('\r\n')) return;
      if (this.#reply === acknowledged) this.#settle?.resolve();
      else this.#settle?.reject(new Error(`Redis must acknowledge a value. It replied ${this.#reply}`));
      this.#reply = '';
    });
  }

  static async open(key: string): Promise<RedisConnection> {
    const socket = connect(port, '127.0.0.1').setNoDelay();
    await once(socket, 'connect');
    return new RedisConnection(socket, key);
  }

  set(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
      this.#socket.write(this.#command);
    });
  }
}

const opened = await Promise.all(Array.from({ length: connections }, (_, k) => RedisConnection.open(`key-${k}`)));

async function set(times: number): Promise<number> {
  const start = performance.now();
  let left = times;
  const send = async (connection: RedisConnection): Promise<void> => {
    while (left-- > 0) await connection.set();
  };
  await Promise.all(opened.map(send));
  return (performance.now() - start) / 1000;
}

process.on('message', async (times: number) => {
  process.send?.(await set(times));
});
process.on('disconnect', () => process.exit());
