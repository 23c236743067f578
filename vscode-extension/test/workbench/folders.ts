import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

/** The folder of the extension; tests are bundled into two folders of it. */
export const extension = resolve(__dirname, '../..');

/** The darn binary that comes with the extension; "make vsix" builds it. */
export const darn = join(extension, 'bin/darn');

/** The package that "make vsix" builds. */
export const vsix = resolve(extension, '../bin/darn-linux-x64.vsix');

/** A new folder that is removed when this process ends. */
export function temporary(name: string): string {
  const folder = mkdtempSync(join(tmpdir(), `darn-${name}-`));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
  return folder;
}

/** The file of this name in test-results, which git ignores: what failed tests leave. */
export function result(name: string): string {
  const folder = join(extension, 'test-results');
  mkdirSync(folder, { recursive: true });
  return join(folder, name);
}
