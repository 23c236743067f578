import { strict as assert } from 'node:assert';
import { setTimeout as wait } from 'node:timers/promises';
import { Debounce } from '../../src/debounce';

describe('Debounce', () => {
  it('calls once with all items, when no more come', async () => {
    const calls: string[][] = [];
    const d = new Debounce<string>(10, (items) => calls.push(items));
    d.add('a');
    d.add('b');
    d.add('a');
    await wait(100);
    d.add('c');
    await wait(100);
    assert.deepEqual(calls, [['a', 'b'], ['c']]);
  });
  it('calls no more once it is disposed of', async () => {
    let calls = 0;
    const d = new Debounce<string>(5, () => calls++);
    d.add('a');
    d.dispose();
    await wait(50);
    assert.equal(calls, 0);
  });
});
