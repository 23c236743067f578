import { strict as assert } from 'node:assert';
import { patchedIn } from '../../src/patched';
import type { Patch } from '../../src/protocol';

const f = (name: string, source?: string) => ({ name, address: 1, newAddress: 2, encoding: 'jump', framesInOldCode: 0, ...(source && { source }) });
const patch = (id: string, ...functions: ReturnType<typeof f>[]): Patch => ({ id, name: id, path: '', module: id, state: 'active', functions });

describe('patchedIn', () => {
  const text = 'package main\n\nfunc b() {\n}\n\nfunc a() {\n}\n';
  const isFile = (name: string) => name === '/a.go';
  it('finds declarations by name, wherever the edit has moved them', () => {
    const found = patchedIn(text, [{ session: 's', patch: patch('1', f('main.a', '/a.go:40'), f('main.b', '/a.go:1')) }], isFile);
    assert.deepEqual(found.map((p) => [p.line, p.symbol]), [[2, 'main.b'], [5, 'main.a']]);
  });
  it('names a function and its closures once', () => {
    assert.equal(patchedIn(text, [{ session: 's', patch: patch('1', f('main.a', '/a.go:6'), f('main.a.func1', '/a.go:6')) }], isFile).length, 1);
  });
  it('names each patch of a function', () => {
    assert.equal(patchedIn(text, ['1', '2'].map((id) => ({ session: 's', patch: patch(id, f('main.a', '/a.go:6')) })), isFile).length, 2);
  });
  it('leaves out other files, and what has no source', () => {
    assert.deepEqual(patchedIn(text, [{ session: 's', patch: patch('1', f('main.a', '/b.go:6'), f('main.b')) }], isFile), []);
  });
});
