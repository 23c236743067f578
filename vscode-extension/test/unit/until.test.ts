import { strict as assert } from 'node:assert';
import { until } from '../../src/until';

describe('until', () => {
  it('resolves with the change that makes the condition hold, and listens no longer', async () => {
    const listeners = new Set<() => void>();
    let n = 0;
    let resolved = false;
    const change = async () => {
      n++;
      listeners.forEach((listener) => listener());
      await Promise.resolve();
    };
    const done = until((listener) => {
      listeners.add(listener);
      return { dispose: () => listeners.delete(listener) };
    }, () => n === 2).then(() => {
      resolved = true;
    });
    await change();
    assert.equal(resolved, false);
    await change();
    await done;
    assert.equal(listeners.size, 0);
  });

  it('resolves at once if the condition holds', async () => {
    await until(() => assert.fail('it listens'), () => true);
  });
});
