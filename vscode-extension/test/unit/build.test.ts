import { strict as assert } from 'node:assert';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import * as os from 'node:os';
import * as path from 'node:path';
import { build, Cancelled, compilerErrors, parseBuild, parseStep, writeOverlay, type Step } from '../../src/build';
import { Refusal } from '../../src/protocol';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(path.join(os.tmpdir(), 'darn-unit-'));
});
afterEach(() => rm(dir, { recursive: true }));

describe('parseStep', () => {
  for (const [line, want] of [
    ['{"stage":"compiling the edit","done":1,"total":7}', { stage: 'compiling the edit', done: 1, total: 7 }],
    ['{"stage":"x"}', { stage: 'x', done: 0, total: 0 }],
    ['{"other":1}', undefined],
    ['{broken', undefined],
    ['warning: something', undefined],
  ] as const) {
    it(`reads ${line}`, () => assert.deepEqual(parseStep(line), want));
  }
});

describe('parseBuild', () => {
  const refusal = (stdout: string, stderr = ''): Refusal => {
    try {
      parseBuild(stdout, stderr, '/ws');
    } catch (error) {
      assert.ok(error instanceof Refusal);
      return error;
    }
    return assert.fail('it was accepted');
  };
  it('returns what was built', () => {
    assert.equal(parseBuild('{"path":"/m.so","id":"ab","name":"m","base":"b","functions":[],"verdicts":[]}\n', '', '/ws').id, 'ab');
  });
  it('throws the findings of a refusal', () => {
    const r = refusal('{"error":"no","findings":[{"code":"no-change","severity":"error","message":"no"}]}');
    assert.equal(r.code, 'no-change');
  });
  it('finds the places of what the compiler says', () => {
    const r = refusal(JSON.stringify({ error: 'go build: exit status 1\n# example.com/shop\n./bill.go:7:12: undefined: x\n' }));
    assert.deepEqual([r.code, r.findings[0]?.source, r.findings[0]?.message], ['compile-error', '/ws/bill.go:7:12', 'undefined: x']);
  });
  it('passes on what was said in place of JSON, without the progress', () => {
    assert.equal(refusal('', '{"stage":"x"}\ndarn: unknown flag: --progress\n').message, 'darn: unknown flag: --progress');
    assert.match(refusal('').message, /without a word/);
  });
});

describe('compilerErrors', () => {
  it('reads absolute paths and lines without columns', () => {
    assert.deepEqual(compilerErrors('/src/a.go:3: syntax error: x: y', '/ws').map((f) => [f.source, f.message]), [['/src/a.go:3', 'syntax error: x: y']]);
  });
  it('names the file that a copy stands for', () => {
    assert.equal(compilerErrors('../tmp/0-a.go:3:1: no', '/ws', new Map([['/tmp/0-a.go', '/ws/a.go']]))[0]?.source, '/ws/a.go:3:1');
  });
  it('reads the errors of a compiler of C, and leaves out its warnings', () => {
    const said = 'cc -c a.c: exit status 1\n/src/a.c: In function \'f\':\n/src/a.c:3:7: warning: unused\n/src/a.c:4:2: error: \'x\' undeclared\nb.h:1: fatal error: no c.h';
    assert.deepEqual(compilerErrors(said, '/ws').map((f) => [f.source, f.message]), [['/src/a.c:4:2', '\'x\' undeclared'], ['/ws/b.h:1', 'no c.h']]);
  });
  it('reads no place where there is none', () => assert.deepEqual(compilerErrors('no required module provides x; to add it:\n\tgo get x', '/ws'), []));
});

describe('writeOverlay', () => {
  it('writes texts of files with the same name apart', async () => {
    const file = await writeOverlay(dir, new Map([['/a/x.go', 'one'], ['/b/x.go', 'two']]));
    const { Replace } = JSON.parse(await readFile(file, 'utf8')) as { Replace: Record<string, string> };
    assert.equal(await readFile(Replace['/a/x.go'] ?? '', 'utf8'), 'one');
    assert.equal(await readFile(Replace['/b/x.go'] ?? '', 'utf8'), 'two');
  });
});

describe('build', () => {
  const options = (darn: string, signal: AbortSignal, progress: (step: Step) => void) => ({
    darn, pid: 7, cwd: dir, output: path.join(dir, 'out', 'm.so'), buffers: new Map([['/a.go', 'text']]),
    base: 'HEAD~1', partial: true, signal, progress,
  });
  const script = async (text: string) => {
    const file = path.join(dir, 'command');
    await writeFile(file, `#!/bin/sh\n${text}\n`);
    await chmod(file, 0o755);
    return file;
  };
  it('passes on what it is told, and reports the steps', async () => {
    const steps: string[] = [];
    const command = await script(`echo "$*" > ${dir}/args; echo '{"stage":"one"}' >&2; echo '{"path":"x","id":"ab"}'`);
    const built = await build(options(command, new AbortController().signal, (s) => steps.push(s.stage)));
    assert.equal(built.id, 'ab');
    assert.deepEqual(steps, ['one']);
    assert.match(await readFile(path.join(dir, 'args'), 'utf8'),
      /^build --json --progress --pid 7 --output .*m\.so --overlay .*overlay\.json --base HEAD~1 --partial\n$/);
  });
  it('names the file of C and how it is compiled, and the module by the sum of its file', async () => {
    const command = await script(`echo "$*" > ${dir}/args; printf '' > ${dir}/brew.so; echo '{"path":"${dir}/brew.so","functions":[]}'`);
    const built = await build({ ...options(command, new AbortController().signal, () => undefined), c: { file: '/src/brew.c', commands: '/src/db.json' } });
    assert.deepEqual([built.id, built.name], ['e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855', 'brew']);
    assert.match(await readFile(path.join(dir, 'args'), 'utf8'),
      /^build --json --progress --pid 7 --output .*m\.so --base HEAD~1 --compile-commands \/src\/db\.json \/src\/brew\.c\n$/);
  });
  it('ends the command when it is cancelled', async () => {
    const abort = new AbortController();
    const command = await script(`trap 'echo "{\\"error\\":\\"interrupted\\"}"; exit 1' INT; echo '{"stage":"one"}' >&2; while :; do sleep 0.05; done`);
    await assert.rejects(build(options(command, abort.signal, () => abort.abort())), Cancelled);
  });
  it('names the setting if there is no such command', async () => {
    await assert.rejects(build(options('/no/such/darn', new AbortController().signal, () => undefined)), /could not be started.*darn\.path/);
  });
});
