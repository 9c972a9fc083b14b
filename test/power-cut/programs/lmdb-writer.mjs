// A journal on lmdb, at its simplest: every transaction adds a numbered record and removes an old one. Says, when a
// transaction has been awaited, which one it was and where the log of operations ends then.
import fs from 'node:fs';
import { open } from 'lmdb';

const { POWER_CUT_FOLDER: folder, POWER_CUT_LOG: log } = process.env;
const done = (step) => console.log(JSON.stringify([step, fs.statSync(log).size]));

done('start');
const options = { encoding: 'binary', keyEncoding: 'uint32', noSubdir: true, maxDbs: 1, mapSize: 2 ** 30 };
const db = open({ ...options, path: `${folder}/journal.mdb`, overlappingSync: false, eventTurnBatching: false });
done('opened');
await db.put(0, Buffer.from('format'));
done('created');
const descriptor = fs.openSync(folder, 'r');
fs.fsyncSync(descriptor);
fs.closeSync(descriptor);
done(0);
for (let number = 1; number <= 150; number++) {
  // From a few bytes to many pages of their own.
  const value = Buffer.alloc(number % 7 === 0 ? 30_000 : 10 + ((number * 131) % 3000), number);
  await db.batch(() => {
    void db.put(number, value);
    if (number > 40) void db.remove(number - 40);
  });
  done(number);
}
await db.close();
