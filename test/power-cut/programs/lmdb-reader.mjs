// Opens what lmdb-writer.mjs has left in each of the folders given, and says the first and the last record, or what is wrong.
import { existsSync, readFileSync } from 'node:fs';
import { open } from 'lmdb';

/** lmdb 3.5.6 would end the process where the first page is none of its own. */
function hasHeader(file) {
  const isMeta = file.length >= 8192 && (file.readUInt16LE(18) & 0x08) !== 0;
  return isMeta && file.readUInt32LE(24) === 0xbeefc0de && file.readUInt16LE(28) === 2;
}

function read(folder) {
  const path = `${folder}/journal.mdb`;
  if (!existsSync(path)) return { missing: true };
  const file = readFileSync(path);
  if (file.length > 0 && !hasHeader(file)) return { unfinished: true };
  const options = { encoding: 'binary', keyEncoding: 'uint32', noSubdir: true, maxDbs: 1, mapSize: 2 ** 30 };
  const db = open({ ...options, path, overlappingSync: false });
  try {
    if (db.get(0)?.toString() !== 'format')
      return [...db.getKeys()].length === 0 ? { unfinished: true } : { error: 'the format is lost' };
    const numbers = [];
    for (const { key, value } of db.getRange({ start: 1 })) {
      const whole = value.length === (key % 7 === 0 ? 30_000 : 10 + ((key * 131) % 3000));
      if (!whole || value.some((byte) => byte !== key)) return { error: `record ${key} is damaged` };
      if (numbers.length > 0 && key !== numbers.at(-1) + 1) return { error: `a gap before record ${key}` };
      numbers.push(key);
    }
    // It must be writable too, which takes pages that it believes to be free.
    for (let number = 1000; number < 1020; number++) db.putSync(number, Buffer.alloc(5000, 1));
    return { first: numbers[0] ?? 0, last: numbers.at(-1) ?? 0 };
  } finally {
    void db.close();
  }
}

for (const folder of process.argv.slice(2)) {
  let result;
  try {
    result = read(folder);
  } catch (error) {
    result = { error: error.message };
  }
  console.log(JSON.stringify(result));
}
