import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { extension, temporary } from './folders';

/** Packages test/goextension, which stands in for the Go extension. */
export function goExtension(): string {
  const file = join(temporary('go'), 'go.vsix');
  execFileSync(join(extension, 'node_modules/.bin/vsce'), [
    'package', '--no-dependencies', '--allow-missing-repository', '--skip-license', '--out', file,
  ], { cwd: join(extension, 'test/goextension'), stdio: 'pipe' });
  return file;
}
