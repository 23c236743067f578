import { strict as assert } from 'node:assert';
import { declarationOf, lineOf } from '../../src/goSource';

describe('declarationOf', () => {
  for (const [symbol, receiver, name] of [
    ['main.total', '', 'total'],
    ['example.com/a.b/shop.total', '', 'total'],
    ['main.(*Order).total', 'Order', 'total'],
    ['main.Order.total', 'Order', 'total'],
    ['main.main.func1', '', 'main'],
    ['main.main.func2.1', '', 'main'],
    ['main.(*Order).total.func1', 'Order', 'total'],
    ['main.Order.total-fm', 'Order', 'total'],
    ['main.walk-range1', '', 'walk'],
    ['main.main.gowrap1', '', 'main'],
    ['main.Map[go.shape.int,example.com/b.T]', '', 'Map'],
    ['main.(*List[go.shape.string]).Push', 'List', 'Push'],
    ['main.größe', '', 'größe'],
  ] as const) {
    it(`finds the declaration of ${symbol}`, () => assert.deepEqual(declarationOf(symbol), { receiver, name }));
  }
  for (const symbol of ['type:.eq.main.T', 'memmove', 'main.']) {
    it(`finds none for ${symbol}`, () => assert.equal(declarationOf(symbol), undefined));
  }
});

describe('lineOf', () => {
  const text = [
    'package main', // 0
    '',
    'func total(n int) int {', // 2
    'func (o *Order) total() int {', // 3
    'func (Order) print() {', // 4
    'func (l *List[T]) Push(v T) {', // 5
    'func Map[T any](f func(T)) {', // 6
    'func init() {', // 7
    '// func later() {',
    'func init() {', // 9
  ].join('\n');
  for (const [receiver, name, near, want] of [
    ['', 'total', 0, 2],
    ['Order', 'total', 0, 3],
    ['Order', 'print', 0, 4],
    ['List', 'Push', 0, 5],
    ['', 'Map', 0, 6],
    ['', 'init', 9, 9],
    ['', 'init', 6, 7],
    ['', 'later', 0, -1],
    ['Ord', 'total', 0, -1],
  ] as const) {
    it(`finds ${receiver}.${name} near line ${near}`, () => assert.equal(lineOf({ receiver, name }, text, near), want));
  }
});
