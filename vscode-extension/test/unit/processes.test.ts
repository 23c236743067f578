import { strict as assert } from 'node:assert';
import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import * as os from 'node:os';
import * as path from 'node:path';
import { exec } from '../../src/exec';
import { isGoProgram, listProcesses, processesNamed } from '../../src/processes';

describe('isGoProgram', () => {
  let dir: string;
  before(async () => {
    dir = await mkdtemp(path.join(os.tmpdir(), 'darn-processes-'));
  });
  after(() => rm(dir, { recursive: true }));

  it('knows Go programs, stripped ones too', async function () {
    this.timeout(120_000);
    await writeFile(path.join(dir, 'main.go'), 'package main\n\nfunc main() {}\n');
    for (const flags of ['', '-s -w']) {
      const file = path.join(dir, `program${flags.length}`);
      const built = await exec('go', ['build', `-ldflags=${flags}`, '-o', file, 'main.go'], { cwd: dir });
      assert.equal(built.status, 0, built.stderr);
      assert.equal(await isGoProgram(file), true);
    }
  });
  it('knows that others are none', async () => {
    assert.equal(await isGoProgram(process.execPath), false);
    await writeFile(path.join(dir, 'text'), 'text');
    assert.equal(await isGoProgram(path.join(dir, 'text')), false);
    assert.equal(await isGoProgram(path.join(dir, 'missing')), false);
  });
});

describe('listProcesses', () => {
  it('names a process of this user by its program', async () => {
    const child = spawn('/bin/sleep', ['60'], { stdio: 'ignore' });
    try {
      const all = await listProcesses(false);
      const found = all.find((p) => p.pid === child.pid);
      assert.ok(found);
      assert.equal(found.command, '/bin/sleep 60');
      assert.ok(processesNamed(found.name, all).includes(found));
      assert.deepEqual(processesNamed('no-such-program', all), []);
      assert.equal((await listProcesses(true)).some((p) => p.pid === child.pid), false);
    } finally {
      child.kill();
    }
  });
});
