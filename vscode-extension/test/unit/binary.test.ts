import { strict as assert } from 'node:assert';
import { darnBinary } from '../../src/binary';

describe('darnBinary', () => {
  it('prefers the setting', () => {
    assert.equal(darnBinary('/opt/darn', process.execPath), '/opt/darn');
  });
  it('takes the bundled one if it is there', () => {
    assert.equal(darnBinary('', process.execPath), process.execPath);
  });
  it('falls back to PATH', () => {
    assert.equal(darnBinary('', '/no/such/file'), 'darn');
  });
});
