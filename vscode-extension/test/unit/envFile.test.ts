import { strict as assert } from 'node:assert';
import { parseEnvFile } from '../../src/envFile';

describe('parseEnvFile', () => {
  for (const [line, want] of [
    ['A=1', { A: '1' }],
    [' export B = two words ', { B: 'two words' }],
    ['C="a\\nb\\"c"', { C: 'a\nb"c' }],
    ["D='a\\nb'", { D: 'a\\nb' }],
    ['E=', { E: '' }],
    ['F=1 # said', { F: '1' }],
    ['G=a#b', { G: 'a#b' }],
    ['# H=1', {}],
    ['nothing', {}],
    ['\uFEFFI=1\r\nJ=2', { I: '1', J: '2' }],
  ] as const) {
    it(`reads ${JSON.stringify(line)}`, () => assert.deepEqual(parseEnvFile(line), want));
  }
});
