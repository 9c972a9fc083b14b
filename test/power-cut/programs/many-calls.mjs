// Every call of Node's that changes files, with a few at a time under way.
import fs from 'node:fs';
import { appendFile, cp, mkdir, open, rename, rm, truncate, writeFile } from 'node:fs/promises';

const folder = process.env.POWER_CUT_FOLDER;
process.chdir(folder);

async function work(name) {
  const own = `${folder}/${name}`;
  await mkdir(`${own}/deep/er`, { recursive: true });
  // By streams and handles, at places and where the descriptor stands, in one piece and in several.
  const file = await open(`${own}/file`, 'w+');
  for (let i = 0; i < 20; i++) await file.write(Buffer.alloc(700, i), 0, 700, (i * 977) % 9000);
  await file.writev([Buffer.from('a'.repeat(600)), Buffer.from('b'.repeat(600))], 4000);
  await file.writev([Buffer.from('where it '), Buffer.from('stands')]);
  await file.write('and on');
  await file.truncate(7000);
  await file.truncate(7500);
  await file.sync();
  await file.close();
  await appendFile(`${name}/log`, 'one\n');
  await appendFile(`${own}/./deep/../log`, 'two\n');
  const log = await open(`${own}/log`, 'a');
  // Linux appends, whatever the place.
  await log.write(Buffer.from('three\n'), 0, 6, 0);
  await log.datasync();
  await log.close();
  await truncate(`${own}/log`, 9);
  await writeFile(`${own}/log`, 'again', { flag: 'r+' });
  await writeFile(`${own}/deep/er/x`, 'x');
  await writeFile(`${own}/deep/er/x`, 'other');
  await fs.promises.link(`${own}/deep/er/x`, `${own}/link`);
  await appendFile(`${own}/link`, ' and more');
  await writeFile(`${own}/old`, 'old');
  await writeFile(`${own}/new`, 'new');
  await rename(`${own}/new`, `${own}/old`);
  await rename(`${own}/deep`, `${own}/moved`);
  await mkdir(`${own}/gone/with/all`, { recursive: true });
  await writeFile(`${own}/gone/with/all/x`, 'x');
  await rm(`${own}/gone`, { recursive: true });
  await assertFails(() => rename(`${own}/none`, `${own}/other`));
  const stream = fs.createWriteStream(`${own}/stream`, { flush: true });
  for (let i = 0; i < 30; i++) stream.write('line '.repeat(i));
  await new Promise((resolve) => stream.end(resolve));
  if (process.env.COPIES) await cp(`${own}/file`, `${own}/copy`);
}

async function assertFails(call) {
  try {
    await call();
  } catch {
    return;
  }
  throw new Error('it must fail');
}

for (let round = 0; round < 3; round++) await Promise.all(['a', 'b', 'c', 'd'].map((name) => work(`${name}${round}`)));
