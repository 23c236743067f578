// Bundles the extension into dist/extension.js; with --unit the unit tests
// into dist/unit, one file each.
import * as esbuild from 'esbuild';
import { readdirSync } from 'node:fs';

const common = {
  bundle: true,
  platform: 'node',
  target: 'node20',
  format: 'cjs',
  logLevel: 'warning',
};

if (process.argv.includes('--unit')) {
  const tests = readdirSync('test/unit').filter((name) => name.endsWith('.test.ts'));
  await esbuild.build({
    ...common,
    entryPoints: tests.map((name) => `test/unit/${name}`),
    outdir: 'dist/unit',
    // What a unit test reaches must not need the editor.
    external: ['mocha'],
    sourcemap: 'inline',
  });
} else {
  const options = {
    ...common,
    entryPoints: ['src/extension.ts'],
    outfile: 'dist/extension.js',
    external: ['vscode'],
    minify: true,
    sourcemap: true,
    sourcesContent: false,
  };
  if (process.argv.includes('--watch')) {
    await (await esbuild.context(options)).watch();
  } else {
    await esbuild.build(options);
  }
}
