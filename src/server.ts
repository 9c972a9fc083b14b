#!/usr/bin/env node
/** The process: configuration, recovery, listening, signals, exit. With arguments it is a command instead. */
import closeWithGrace from 'close-with-grace';
import { pino } from 'pino';
import { build } from './app.ts';
import { runCommand } from './cli.ts';
import { readConfig } from './config.ts';
import { Store } from './store/store.ts';

async function serve(): Promise<void> {
  const config = readConfig();
  const log = pino({ level: config.logLevel });
  const store = await Store.open(config, log);
  // Whoever sees to the process starts it again, and then it is what the disk says; /healthz has nothing to hide.
  store.onFault = (err) => {
    log.fatal({ err }, 'a fault that only a restart mends: ending at once, without last checkpoints');
    process.exit(1);
  };
  if (config.authFile === undefined)
    log.warn({ host: config.host }, 'no tokens: who reaches this address may do everything');
  const app = await build(config, store, log);
  const onTimeout = (milliseconds: number): void =>
    log.error(
      { milliseconds },
      'SHUTDOWN_TIMEOUT_MS is over: ending without the last checkpoints; the journal has what it had',
    );
  closeWithGrace({ delay: config.shutdownTimeoutMs, logger: log, onTimeout }, async ({ signal, err }) => {
    if (err) log.fatal({ err }, 'an error that nothing caught');
    log.info({ signal }, 'shutting down');
    await app.drain();
    const isSaved = await store.close();
    await app.close();
    if (!isSaved) throw new Error('every session must have a last checkpoint. One or more could not be written');
    log.info('closed');
  });
  await app.listen({ host: config.host, port: config.port }).catch((error: Error) => {
    const rule = 'HOST and PORT must name an address that this server can listen on';
    throw new Error(`${rule}. Received: ${config.host}, ${config.port} (${error.message})`, { cause: error });
  });
  await store.recover();
}

async function main([, , ...command]: readonly string[]): Promise<void> {
  if (command.length === 0) await serve();
  else process.exitCode = await runCommand(command, process);
}

main(process.argv).catch((error: Error) => {
  process.stderr.write(`adamax-server: ${error.message}\n`);
  process.exit(1);
});
