import { strict as assert } from 'node:assert';
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import * as os from 'node:os';
import * as path from 'node:path';
import { findCommands, isForeign } from '../../src/cBuild';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(path.join(os.tmpdir(), 'darn-unit-'));
});
afterEach(() => rm(dir, { recursive: true }));

describe('findCommands', () => {
  it('finds none where there is none', async () => assert.equal(await findCommands(dir, undefined), undefined));
  it('finds that of a build folder, the one of the folder first, and the one that is named before', async () => {
    await mkdir(path.join(dir, 'build'));
    await writeFile(path.join(dir, 'build/compile_commands.json'), '[]');
    assert.equal(await findCommands(dir, undefined), path.join(dir, 'build/compile_commands.json'));
    await writeFile(path.join(dir, 'compile_commands.json'), '[]');
    assert.equal(await findCommands(dir, undefined), path.join(dir, 'compile_commands.json'));
    assert.equal(await findCommands(dir, 'other.json'), path.join(dir, 'other.json'));
  });
});

describe('isForeign', () => {
  it('is an executable that is not of Go', async () => {
    await copyFile('/bin/true', path.join(dir, 'true'));
    assert.equal(await isForeign(path.join(dir, 'true')), true);
  });
  it('is no program of Go, no script, and nothing that is not there', async () => {
    await writeFile(path.join(dir, 'go'), Buffer.concat([Buffer.from('\x7fELF'), Buffer.from('\xff Go buildinf:', 'latin1')]));
    await writeFile(path.join(dir, 'script'), '#!/bin/sh\n');
    for (const name of ['go', 'script', 'none']) {
      assert.equal(await isForeign(path.join(dir, name)), false, name);
    }
  });
});
