import { strict as assert } from 'node:assert';
import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import * as os from 'node:os';
import * as path from 'node:path';
import { takeSnapshot } from '../../src/snapshot';

describe('takeSnapshot', () => {
  let top: string;
  let tree: string;
  let store: string;
  const git = (args: string[], env = {}) => execFileSync('git', args, {
    cwd: tree, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'],
    env: { ...process.env, GIT_AUTHOR_NAME: 't', GIT_AUTHOR_EMAIL: 't@t', GIT_COMMITTER_NAME: 't', GIT_COMMITTER_EMAIL: 't@t', ...env },
  });
  const put = async (name: string, text: string) => {
    await mkdir(path.dirname(path.join(tree, name)), { recursive: true });
    await writeFile(path.join(tree, name), text);
  };
  beforeEach(async () => {
    top = await mkdtemp(path.join(os.tmpdir(), 'darn-snapshot-'));
    tree = path.join(top, 'tree');
    store = path.join(top, 'store');
    await put('go.mod', 'module m\n');
    await put('a.go', 'one');
  });
  afterEach(() => rm(top, { recursive: true }));
  const commit = () => {
    git(['init', '-q']);
    git(['add', '.']);
    git(['commit', '-q', '-m', 'first']);
  };

  it('is the commit of a tree that has not changed', async () => {
    commit();
    assert.deepEqual(await takeSnapshot(tree, store), { base: git(['rev-parse', 'HEAD']).trim(), env: {} });
  });

  it('holds what is not committed, and leaves the repository as it was', async () => {
    commit();
    await put('.gitignore', 'ignored.go\n');
    await put('a.go', 'two');
    await put('b.go', 'new');
    await put('ignored.go', 'no');
    const before = git(['count-objects', '-v']) + git(['status', '--porcelain']) + git(['for-each-ref']);
    const s = await takeSnapshot(tree, store);
    assert.ok(s);
    assert.equal(git(['show', `${s.base}:a.go`], s.env), 'two');
    assert.equal(git(['show', `${s.base}:b.go`], s.env), 'new');
    assert.throws(() => git(['show', `${s.base}:ignored.go`], s.env));
    assert.equal(git(['count-objects', '-v']) + git(['status', '--porcelain']) + git(['for-each-ref']), before);
    assert.throws(() => git(['cat-file', '-e', s.base]), 'the commit is in the repository');
  });

  it('is a copy of the module where there is no repository', async () => {
    await put('sub/b.go', 'b');
    await put('node_modules/x.js', 'x');
    const s = await takeSnapshot(path.join(tree, 'sub'), store);
    assert.ok(s);
    await put('sub/b.go', 'changed');
    assert.equal(await readFile(path.join(s.base, 'sub/b.go'), 'utf8'), 'b');
    assert.equal(await readFile(path.join(s.base, 'go.mod'), 'utf8'), 'module m\n');
    await assert.rejects(readFile(path.join(s.base, 'node_modules/x.js')));
  });

  it('is none where there is no module', async () => {
    await rm(path.join(tree, 'go.mod'));
    assert.equal(await takeSnapshot(tree, store), undefined);
  });
});
