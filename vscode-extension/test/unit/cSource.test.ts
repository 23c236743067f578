import { strict as assert } from 'node:assert';
import { cLineOf, cName, isCSource } from '../../src/cSource';

describe('cName', () => {
  for (const [symbol, want] of [
    ['total', 'total'],
    ['_Z5checki', 'check'],
    ['_ZN4shop5checkEi', 'check'],
    ['_ZNK4shop4Cart5totalEi', 'total'],
    ['_ZN4shop5twiceIiEET_S1_', 'twice'],
    ['shop::Cart::total(int) const', 'total'],
    ['int shop::twice<int>(int)', 'twice'],
    ['_ZN4ShapD1Ev', 'Shap'],
  ] as const) {
    it(`of ${symbol} is ${want}`, () => assert.equal(cName(symbol), want));
  }
});

describe('cLineOf', () => {
  const text = [
    'int total(int n);', //            0
    '', //                             1
    'static int', //                   2
    'price(const struct item *item)', // 3
    '{', //                            4
    '\treturn total(item->price);', // 5
    '}', //                            6
    'int total(int n)', //             7
    '{', //                            8
    '\ttotal(', //                     9
    '\t\tn);', //                      10
    '}', //                            11
    'int Cart::total(int n) const { return n; }', // 12
    'const char *name(void) {', //     13
  ].join('\n');
  for (const [name, near, want] of [['total', 0, 7], ['total', 30, 12], ['price', 0, 3], ['name', 0, 13], ['otal', 0, -1], ['item', 0, -1]] as const) {
    it(`of ${name} near line ${near} is ${want}`, () => assert.equal(cLineOf(name, text, near), want));
  }
});

describe('isCSource', () => {
  for (const [file, want] of [['/a/b.c', true], ['/a/b.cc', true], ['/a/b.C', true], ['/a/b.h', false], ['/a/b.go', false]] as const) {
    it(`of ${file} is ${want}`, () => assert.equal(isCSource(file), want));
  }
});
