import { strict as assert } from 'node:assert';
import { hear, restarts } from '../../src/wire';

describe('hear', () => {
  for (const [what, message, want] of [
    ['that the adapter is Darn', { type: 'response', command: 'initialize', success: true, body: { supportsDarn: true } }, { kind: 'capabilities', darn: true }],
    ['that the adapter is Delve', { type: 'response', command: 'initialize', success: true, body: {} }, { kind: 'capabilities', darn: false }],
    ['that the program goes on', { type: 'response', command: 'configurationDone', success: true }, { kind: 'ready' }],
    ['a refusal with its findings', { type: 'response', command: 'darn/load', success: false, body: { findings: [{ code: 'busy' }] } },
      { kind: 'refused', command: 'darn/load', findings: [{ code: 'busy' }] }],
    ['a failure without findings', { type: 'response', command: 'darn/load', success: false }, { kind: 'refused', command: 'darn/load', findings: [] }],
    ['that the program has ended', { type: 'event', event: 'exited' }, { kind: 'ended' }],
    ['the patches', { type: 'response', command: 'darn/list', success: true, body: { patches: [] } }, { kind: 'listed', listing: { patches: [] } }],
    ['what happens to a patch', { type: 'event', event: 'darn/patch', body: { reason: 'loaded' } }, { kind: 'patch', event: { reason: 'loaded' } }],
    ['nothing in another success', { type: 'response', command: 'darn/load', success: true }, undefined],
    ['nothing in an output', { type: 'event', event: 'output' }, undefined],
  ] as const) {
    it(`hears ${what}`, () => assert.deepEqual(hear(message), want));
  }
});

describe('restarts', () => {
  it('knows the request', () => {
    assert.equal(restarts({ type: 'request', command: 'restart' }), true);
    assert.equal(restarts({ type: 'response', command: 'restart' }), false);
  });
});
