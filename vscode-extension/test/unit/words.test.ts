import { strict as assert } from 'node:assert';
import type { Patch, Receipt } from '../../src/protocol';
import { duration, encodingWords, findingWords, framesOf, framesWords, functionWords, inspectionWords, pauseReason, pauseWords, receiptWords, shortName } from '../../src/words';

const receipt: Receipt = { operation: 'activate', durationMicros: 3550, halts: 1, haltMicros: 3340, threadsHalted: 7, encodings: { jump: 2 } };
const f = { name: 'main.total', address: 1, newAddress: 2, source: '/src/bill.go:3', encoding: 'jump', framesInOldCode: 0 };
const patch = (...frames: number[]): Patch => ({
  id: '1', name: 'fix', path: '/fix.so', module: 'ab', state: 'active', functions: frames.map((n) => ({ ...f, framesInOldCode: n })),
});

describe('words', () => {
  for (const [micros, want] of [[0, '0 µs'], [999, '999 µs'], [1000, '1 ms'], [3344, '3.34 ms'], [99_999, '100 ms'], [1_234_567, '1.23 s']] as const) {
    it(`give ${micros} microseconds three digits`, () => assert.equal(duration(micros), want));
  }

  it('say how long the program stood still', () => {
    assert.equal(pauseWords(receipt), '3.34 ms pause');
    assert.equal(pauseWords({ ...receipt, halts: 0 }), 'no pause');
  });

  it('say why it stood still, if it did', () => {
    assert.equal(pauseReason(receipt), 'paused for 3.34 ms');
    assert.equal(pauseReason({ ...receipt, haltedBecause: 'the arena is made' }), 'paused for 3.34 ms: the arena is made');
    assert.equal(pauseReason({ ...receipt, halts: 0 }), 'no pause');
  });

  it('say why the entry of a function is written under a halt, if it is', () => {
    assert.equal(encodingWords({ ...f, encodingReason: 'it begins with a branch' }), 'redirected by jump, written under a halt: it begins with a branch');
    assert.equal(encodingWords({ ...f, encoding: 'direct', encodingReason: 'it may fault' }), 'redirected by direct, without a switch: it may fault');
    assert.equal(encodingWords({ ...f, encoding: 'single' }), 'redirected by single');
  });

  it('say all that is in a receipt', () => {
    assert.equal(receiptWords({ ...receipt, replaced: ['1', '2'] }),
      'activate took 3.55 ms, the program was paused for 3.34 ms (1 halts, at most 7 threads), 2 redirects by jump, in place of patch 1, 2');
    assert.equal(receiptWords({ ...receipt, encodings: {}, haltedBecause: 'the arena is made' }),
      'activate took 3.55 ms, the program was paused for 3.34 ms (1 halts, at most 7 threads), since the arena is made');
    assert.equal(receiptWords({ ...receipt, halts: 0, encodings: {} }), 'activate took 3.55 ms, the program was not paused');
  });

  for (const [frames, want] of [[0, ''], [1, '1 call in old code'], [3, '3 calls in old code'], [-1, 'calls in old code not counted']] as const) {
    it(`count ${frames} frames`, () => assert.equal(framesWords(frames), want));
  }

  it('add up the frames of a patch, unless some were not counted', () => {
    assert.equal(framesOf(patch(1, 2)), 3);
    assert.equal(framesOf(patch(1, -1)), -1);
    assert.equal(framesOf({ ...patch(), functions: null }), 0);
  });

  it('count calls in old code only of a patch that is on, or comes on', () => {
    assert.equal(functionWords({ ...f, framesInOldCode: 2 }, 'active'), 'jump · 2 calls in old code');
    assert.equal(functionWords({ ...f, framesInOldCode: 2 }, 'loaded'), 'jump');
  });

  for (const [symbol, want] of [
    ['main.total', 'main.total'],
    ['example.com/shop/bill.(*Order).total', 'bill.(*Order).total'],
    ['example.com/a.Map[go.shape.int,example.com/b.T]', 'a.Map[go.shape.int,example.com/b.T]'],
  ] as const) {
    it(`shorten ${symbol}`, () => assert.equal(shortName(symbol), want));
  }

  it('say of a finding what, why and what to do', () => {
    assert.equal(findingWords({ code: 'type-layout-changed', severity: 'error', function: 'a/b.f', message: 'its type changed', advice: 'restart' }),
      'b.f: its type changed. What to do: restart.');
    assert.equal(findingWords({ code: 'x', severity: 'info', message: 'so it is' }), 'so it is.');
  });

  it('show an inspection before anything is loaded', () => {
    const text = inspectionWords({
      ok: false,
      module: { id: 'ab', name: 'fix', path: '/fix.so', language: 'go', base: 'git revision 1', functions: [] },
      verdicts: [{ function: 'x/main.total', outcome: 'replaced', why: 'its code differs' }],
      findings: [{ code: 'build-id-mismatch', severity: 'error', message: 'it is for another build', advice: 'build it again' }],
    });
    assert.match(text, /Built against git revision 1\.\nIt can not be loaded/);
    assert.match(text, /• main\.total: replaced \(its code differs\)/);
    assert.match(text, /• error: it is for another build\. What to do: build it again\. \[build-id-mismatch\]/);
  });
});
