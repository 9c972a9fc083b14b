// A file as careful programs write it, step by step. Says after each step where the log ends then.
import fs from 'node:fs';

const { POWER_CUT_FOLDER: folder, POWER_CUT_LOG: log } = process.env;
const done = (step) => console.log(JSON.stringify([step, fs.statSync(log).size]));
const syncFolder = () => {
  const descriptor = fs.openSync(folder, 'r');
  fs.fsyncSync(descriptor);
  fs.closeSync(descriptor);
};

const file = fs.openSync(`${folder}/a.tmp`, 'w');
fs.writeSync(file, 'first ');
fs.writeSync(file, 'content');
done('written');
fs.fsyncSync(file);
done('synced');
fs.renameSync(`${folder}/a.tmp`, `${folder}/a`);
done('renamed');
syncFolder();
done('named');
fs.writeSync(file, ', more');
done('appended');
fs.fdatasyncSync(file);
done('appended and synced');
const synced = fs.openSync(`${folder}/a`, fs.constants.O_WRONLY | fs.constants.O_DSYNC);
fs.writeSync(file, 'x'.repeat(600), 2000);
fs.writeSync(synced, 'F', 0);
done('written with O_DSYNC');
fs.ftruncateSync(file, 5);
done('cut');
fs.fsyncSync(file);
done('cut and synced');
fs.unlinkSync(`${folder}/a`);
done('removed');
syncFolder();
done('removed for good');
