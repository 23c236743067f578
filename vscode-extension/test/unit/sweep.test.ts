import { strict as assert } from 'node:assert';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import * as os from 'node:os';
import * as path from 'node:path';
import { sweep } from '../../src/sweep';

describe('sweep', () => {
  it('removes what processes have left that are gone, and keeps the others\'', async () => {
    const dir = await mkdtemp(path.join(os.tmpdir(), 'darn-sweep-'));
    const gone = spawn('/bin/true');
    await once(gone, 'exit');
    try {
      for (const name of [`${gone.pid}-0`, `${process.ppid}`, `${process.pid}-3`]) {
        await mkdir(path.join(dir, name));
      }
      await sweep(dir);
      assert.deepEqual(await readdir(dir), [`${process.ppid}`]);
      await sweep(path.join(dir, 'missing'));
    } finally {
      await rm(dir, { recursive: true });
    }
  });
});
