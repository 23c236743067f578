import { strict as assert } from 'node:assert';
import { planActivation } from '../../src/plan';
import type { Patch, State } from '../../src/protocol';

const patch = (id: string, state: State): Patch => ({ id, name: id, path: '', module: id, state, functions: [] });
const own = (p: Patch) => p.id.startsWith('own');

describe('planActivation', () => {
  for (const [what, patches, want] of [
    ['just activates the first patch', [patch('own2', 'loaded')], { replace: false, off: [] }],
    ['takes the place of the earlier edit', [patch('own1', 'active'), patch('own2', 'loaded')], { replace: true, off: [] }],
    ['leaves patches from elsewhere on', [patch('other', 'active'), patch('own2', 'loaded')], { replace: false, off: [] }],
    ['turns off just its own beside patches from elsewhere',
      [patch('other', 'active'), patch('own1', 'active'), patch('own2', 'loaded')], { replace: false, off: ['own1'] }],
    ['does not care for patches that are off', [patch('own1', 'loaded'), patch('own2', 'loaded')], { replace: false, off: [] }],
  ] as const) {
    it(what, () => assert.deepEqual(planActivation(patches, 'own2', own), want));
  }
});
