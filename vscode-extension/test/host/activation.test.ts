import { strict as assert } from 'node:assert';
import { performance } from 'node:perf_hooks';
import { darnExtension, open } from './editor';

describe('the extension', () => {
  it('is not activated by opening a Go file', async () => {
    await open('bill.go');
    assert.equal(darnExtension().isActive, false);
  });

  it('names no event of activation that comes without debugging', () => {
    const { activationEvents } = darnExtension().packageJSON as { activationEvents: string[] };
    assert.deepEqual(activationEvents.filter((event) => !event.startsWith('onDebug')), []);
  });

  it('is activated quickly', async () => {
    const before = performance.now();
    await darnExtension().activate();
    const took = performance.now() - before;
    // The figure to look at is printed; a busy machine must not fail the test.
    process.env.DARN_TEST_ACTIVATION = took.toFixed(1);
    assert.ok(took < 2000, `${took} ms`);
  });
});
