import { appendFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { format } from 'node:util';
import MochaModule from 'mocha';

/** What the extension host calls to run the tests: those in tests.js beside this. */
export async function run(): Promise<void> {
  // The console of the extension host is full of what others say.
  const output = process.env.DARN_TEST_OUTPUT ?? '/dev/null';
  const print = (...args: unknown[]) => appendFileSync(output, `${format(...args)}\n`);
  MochaModule.reporters.Base.consoleLog = print;
  const mocha = new MochaModule({ ui: 'bdd', color: false, timeout: 120_000, reporter: 'spec', grep: process.env.DARN_TEST_GREP ?? '' });
  mocha.addFile(resolve(__dirname, 'tests.js'));
  const failures = await new Promise<number>((done) => {
    // Said at once: perhaps the tests are ended before their summary.
    mocha.run(done).on('fail', (_, reason: unknown) => print(reason));
  });
  if (failures > 0) {
    throw new Error(`${failures} tests failed`);
  }
}
