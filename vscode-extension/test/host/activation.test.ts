import { strict as assert } from 'node:assert';
import { appendFileSync } from 'node:fs';
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

  it('is activated by its first session', async () => {
    const before = performance.now();
    await darnExtension().activate();
    const took = performance.now() - before;
    // A figure to look at, not to assert: the machine may be busy.
    appendFileSync(process.env.DARN_TEST_OUTPUT ?? '/dev/null', `      activation took ${took.toFixed(1)} ms, the bundle and the round trip to the editor included\n`);
    assert.ok(darnExtension().isActive);
  });
});
