/** What a server finds that starts after a crash: the folder as it was at one moment, while another had it open. */
import { cp } from 'node:fs/promises';
import { temporaryFolder } from './server-process.ts';

/** A copy, removed when the test ends. Nothing may be under way in the folder. */
export async function crashedCopy(t: Parameters<typeof temporaryFolder>[0], folder: string): Promise<string> {
  const copy = await temporaryFolder(t);
  // Sockets cannot be copied; a dead server's is as good as none.
  await cp(folder, copy, { recursive: true, filter: (path) => !path.endsWith('.sock') });
  return copy;
}
