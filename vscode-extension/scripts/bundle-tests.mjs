// Bundles tests: with "host" those that run in the extension host, and what
// starts them, with "ui" those that drive the workbench.
import * as esbuild from 'esbuild';
import { readdirSync } from 'node:fs';

const [, , kind] = process.argv;
const tests = readdirSync(`test/${kind}`).filter((name) => name.endsWith('.test.ts'));

/** One bundle for all files: what they share must be there once. */
const bundle = {
  stdin: { contents: tests.sort().map((name) => `import './${name}';`).join('\n'), resolveDir: `test/${kind}` },
  outfile: `dist/${kind}/tests.js`,
};
const common = {
  bundle: true,
  platform: 'node',
  target: 'node20',
  format: 'cjs',
  logLevel: 'warning',
  external: ['vscode', 'mocha', 'playwright-core'],
  sourcemap: 'inline',
};
await esbuild.build({ ...common, ...bundle });
if (kind === 'host') {
  await esbuild.build({ ...common, entryPoints: ['test/host/index.ts', 'test/host/driver.ts'], outdir: 'dist/host' });
}
