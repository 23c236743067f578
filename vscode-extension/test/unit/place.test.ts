import { strict as assert } from 'node:assert';
import { localFile, moduleOf, modulePath, parsePlace } from '../../src/place';

describe('parsePlace', () => {
  for (const [source, want] of [
    ['/src/bill.go:12', { file: '/src/bill.go', line: 12, column: 0 }],
    ['/src/bill.go:12:7', { file: '/src/bill.go', line: 12, column: 7 }],
    ['/a:1/b.go:2', { file: '/a:1/b.go', line: 2, column: 0 }],
    ['bill.go', undefined],
    [undefined, undefined],
  ] as const) {
    it(`reads ${source ?? 'nothing'}`, () => assert.deepEqual(parsePlace(source), want));
  }
});

describe('localFile', () => {
  const modules = [{ path: 'example.com/shop', dir: '/home/me/shop' }, { path: 'example.com/lib', dir: '/home/me/lib' }];
  for (const [what, file, rules, want] of [
    ['keeps an absolute path', '/src/a.go', [], '/src/a.go'],
    ['turns substitutePath around', '/build/shop/a.go', [{ from: '/home/me/shop', to: '/build/shop' }], '/home/me/shop/a.go'],
    ['takes whole folders only', '/build/shopping/a.go', [{ from: '/home/me/shop', to: '/build/shop' }], '/build/shopping/a.go'],
    ['finds a trimmed path in its module', 'example.com/shop/cmd/main.go', [], '/home/me/shop/cmd/main.go'],
    ['finds a trimmed path with a version', 'example.com/lib@v1.2.3/x.go', [], '/home/me/lib/x.go'],
    ['does not guess where a strange one is', 'example.com/other/x.go', [], undefined],
    ['prefixes trimmed paths by a rule', 'example.com/other/x.go', [{ from: '/src', to: '' }], '/src/example.com/other/x.go'],
  ] as const) {
    it(what, () => assert.equal(localFile(file, rules, modules), want));
  }
});

describe('modules', () => {
  it('are named by go.mod', () => {
    assert.equal(modulePath('// a comment\nmodule example.com/shop\n\ngo 1.24\n'), 'example.com/shop');
    assert.equal(modulePath('module "example.com/q"\n'), 'example.com/q');
    assert.equal(modulePath('go 1.24\n'), '');
  });
  it('hold packages, the innermost first', () => {
    const outer = { path: 'example.com/a', dir: '/a' };
    const inner = { path: 'example.com/a/b', dir: '/elsewhere' };
    assert.equal(moduleOf('example.com/a/b/cmd', [outer, inner]), inner);
    assert.equal(moduleOf('example.com/a/bc', [outer, inner]), outer);
    assert.equal(moduleOf('example.com/ab', [outer, inner]), undefined);
    assert.equal(moduleOf('command-line-arguments', [outer]), undefined);
  });
});
