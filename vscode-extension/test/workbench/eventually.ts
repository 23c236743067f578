import { strict as assert } from 'node:assert';

/** How long tests wait for what must come, in ms: machines may be slow. */
export const patience = Number(process.env.DARN_TEST_PATIENCE ?? 60_000);

/** Polls until the value is as expected; then, or at last, asserts that. */
export async function eventually<T>(what: string, get: () => T | Promise<T>, expected: T | ((value: T) => boolean)): Promise<T> {
  const fits = (value: T) =>
    typeof expected === 'function' ? (expected as (value: T) => boolean)(value) : Object.is(value, expected);
  const end = Date.now() + patience;
  for (;;) {
    const value = await get();
    if (fits(value)) {
      return value;
    }
    if (Date.now() > end) {
      assert.fail(`${what}: still ${JSON.stringify(value)}, not ${typeof expected === 'function' ? expected.toString() : JSON.stringify(expected)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
