// For `--import`, beside tsx, which makes TypeScript run in the main thread alone: worker threads run it as well.
import { isMainThread } from 'node:worker_threads';

if (!isMainThread) {
  const { register } = await import('tsx/esm/api');
  register();
}
