import { strict as assert } from 'node:assert';
import { builtFolder, buildPlace, completeAttributes, defaultAttributes, resolveAttributes, type Attributes } from '../../src/launch';

const around = { folder: '/ws', activeFile: '/ws/cmd/shop/main.go' };
const launch = (more: Partial<Attributes>): Attributes => ({ name: 'n', type: 'darn', request: 'launch', ...more });

describe('defaultAttributes', () => {
  it('debug the package of the active file', () => assert.equal(defaultAttributes(around)?.program, '/ws/cmd/shop'));
  it('debug the folder if no Go file is open', () => assert.equal(defaultAttributes({ folder: '/ws' })?.program, '/ws'));
  it('are none without both', () => assert.equal(defaultAttributes({}), undefined));
});

describe('completeAttributes', () => {
  for (const [what, given, file, mode] of [
    ['an ordinary file is debugged', {}, '/ws/a.go', 'debug'],
    ['a test is tested', { mode: 'auto' }, '/ws/a_test.go', 'test'],
    ['a program that is a test is tested', { program: '/ws/b_test.go' }, '/ws/a.go', 'test'],
    ['what is said stays', { mode: 'debug' }, '/ws/a_test.go', 'debug'],
  ] as const) {
    it(what, () => assert.equal(completeAttributes(launch(given), { folder: '/ws', activeFile: file }).mode, mode));
  }
  it('an attach asks for the process', () => {
    const a = completeAttributes(launch({ request: 'attach' }), around);
    assert.deepEqual([a.mode, a.processId], ['local', 0]);
  });
});

describe('resolveAttributes', () => {
  it('makes paths absolute, and builds in the package', () => {
    const a = resolveAttributes(launch({ mode: 'debug', program: 'cmd/shop', cwd: 'data' }), around, []);
    assert.deepEqual([a.program, a.dlvCwd, a.cwd], ['/ws/cmd/shop', '/ws/cmd/shop', '/ws/data']);
  });
  it('takes the folder of a file', () => {
    assert.equal(resolveAttributes(launch({ mode: 'test', program: '/ws/a_test.go' }), around, []).program, '/ws');
  });
  it('does not build an executable anew at a restart, which fails', () => {
    assert.equal(resolveAttributes(launch({ mode: 'exec', program: 'bin/shop' }), around, []).rebuild, false);
    assert.equal(resolveAttributes(launch({ mode: 'debug', program: 'bin' }), around, []).rebuild, undefined);
  });

  it('runs an executable in its folder', () => {
    const a = resolveAttributes(launch({ mode: 'exec', program: 'bin/shop' }), around, []);
    assert.deepEqual([a.program, a.dlvCwd], ['/ws/bin/shop', '/ws/bin']);
  });
  it('lets env go before the files', () => {
    const a = resolveAttributes(launch({ mode: 'debug', program: '.', env: { A: '3', C: null }, envFile: '.env' }), around, [{ A: '1', B: '1' }, { B: '2' }]);
    assert.deepEqual(a.env, { A: '3', B: '2', C: null });
    assert.equal('envFile' in a, false);
  });
  it('leaves an attach as it is', () => {
    const a = launch({ request: 'attach', processId: 7 });
    assert.deepEqual(resolveAttributes(a, around, []), a);
  });
  it('says what a mode may be', () => {
    assert.throws(() => resolveAttributes(launch({ mode: 'core', program: 'x' }), around, []), /mode is "core"\. Darn launches with mode debug, test or exec/);
  });
  it('says that there is no program', () => {
    assert.throws(() => resolveAttributes(launch({ mode: 'exec' }), around, []), /program is missing/);
    assert.throws(() => resolveAttributes(launch({ mode: 'debug', program: '' }), around, []), /There is no program to debug/);
  });
});

describe('builtFolder', () => {
  for (const [what, a, want] of [
    ['is that of the program', { mode: 'debug', program: '/ws/cmd' }, '/ws/cmd'],
    ['is that of a file', { mode: 'test', program: '/ws/a_test.go' }, '/ws'],
    ['is where the Go extension builds', { mode: 'debug', program: '.', __buildDir: '/ws/cmd' }, '/ws/cmd'],
    ['may be relative to the workspace', { mode: 'debug', program: './cmd' }, '/ws/cmd'],
    ['is none of an executable', { mode: 'exec', program: '/ws/x' }, undefined],
  ] as const) {
    it(what, () => assert.equal(builtFolder(launch(a), '/ws'), want));
  }
});

describe('buildPlace', () => {
  it('is the package that was launched', () => assert.deepEqual(buildPlace(launch({ mode: 'debug', program: '/ws/a.go' })), { cwd: '/ws', package: undefined }));
  it('is not known of an executable or a process', () => {
    assert.equal(buildPlace(launch({ mode: 'exec', program: '/ws/x' })), undefined);
    assert.equal(buildPlace(launch({ request: 'attach' })), undefined);
  });
});
