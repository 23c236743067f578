import { appendFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { format } from 'node:util';
import MochaModule from 'mocha';

/** What the extension host calls to run the tests: those in tests.js beside this. */
export async function run(): Promise<void> {
  // The console of the extension host is full of what others say.
  const output = process.env.DARN_TEST_OUTPUT ?? '/dev/null';
  MochaModule.reporters.Base.consoleLog = (...args: unknown[]) => appendFileSync(output, `${format(...args)}\n`);
  const mocha = new MochaModule({ ui: 'bdd', color: false, timeout: 60_000, reporter: 'spec' });
  mocha.addFile(resolve(__dirname, 'tests.js'));
  const failures = await new Promise<number>((done) => {
    mocha.run(done);
  });
  if (failures > 0) {
    throw new Error(`${failures} tests failed`);
  }
}
