import { strict as assert } from 'node:assert';
import { execFileSync } from 'node:child_process';
import { accessSync, constants, readdirSync, readFileSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { vsix } from '../workbench/folders';
import { startServer, type Server } from '../workbench/server';
import { Tea } from '../workbench/tea';

describe('the package', function () {
  this.timeout(120_000);
  let server: Server;
  let installed: string;
  let files: string[];

  before(async () => {
    server = await startServer('minimum', [], [vsix]);
    const folders = readdirSync(join(server.data, 'extensions')).filter((name) => name.startsWith('darn-dev.darn-'));
    assert.equal(folders.length, 1, folders.join());
    installed = join(server.data, 'extensions', folders[0] ?? '');
    files = readdirSync(installed, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => relative(installed, join(entry.parentPath, entry.name)));
  });
  after(() => server.stop());

  it('is no larger than 15 MB', () => {
    const { size } = statSync(vsix);
    console.log(`      ${(size / 1e6).toFixed(1)} MB`);
    assert.ok(size <= 15e6, `${size} bytes`);
  });

  it('has what runs and what is shown, no sources and no tests', () => {
    const shown = files.filter((name) => !/^(l10n|media|walkthrough)\//.test(name));
    assert.deepEqual(shown.map((name) => name.toLowerCase()).sort(), [
      '.vsixmanifest', 'bin/darn', 'dist/extension.js', 'license.txt', 'package.json', 'package.nls.json', 'readme.md',
    ]);
    const pictures = files.filter((name) => !shown.includes(name));
    assert.deepEqual(pictures.filter((name) => !/\.(svg|png|md|json)$/.test(name)), []);
  });

  it('has every file that its manifest names', () => {
    const manifest = readFileSync(join(installed, 'package.json'), 'utf8');
    const named = [...manifest.matchAll(/"\.?\/?((?:media|walkthrough|dist)\/[^"$]+)"/g)].map(([, name]) => name ?? '');
    assert.ok(named.includes('dist/extension.js'));
    assert.deepEqual(named.filter((name) => !files.includes(name)), []);
  });

  it('is for linux-x64', () => {
    assert.match(readFileSync(join(installed, '.vsixmanifest'), 'utf8'), /TargetPlatform="linux-x64"/);
  });

  it('has a binary that patches a program, as installed and without the network', () => {
    const binary = join(installed, 'bin/darn');
    accessSync(binary, constants.X_OK);
    const tea = Tea.make();
    tea.edit('bill.go', '%d.%d EUR', '%d.%02d EUR');
    // The program must be in the namespace, too, for darn to trace it.
    const script = `
      set -e
      trap 'kill $program' EXIT
      "$1" version
      ./tea bill.txt & program=$!
      until grep -s 'tea: 7.5 EUR' bill.txt; do sleep 0.05; done
      "$1" build --pid $program -o fix.so .
      "$1" load --pid $program fix.so
      "$1" activate --pid $program fix.so
      until grep 'tea: 7.05 EUR' bill.txt; do sleep 0.05; done`;
    const said = execFileSync('unshare', ['--map-root-user', '--net', 'bash', '-c', script, 'script', binary], {
      cwd: tea.folder, encoding: 'utf8', stdio: 'pipe', timeout: 90_000,
    });
    assert.match(said, /Delve[^]*tea: 7\.5 EUR[^]*tea: 7\.05 EUR\n$/);
  });

  it('has a bundle that asks for no module of the network', () => {
    const bundle = readFileSync(join(installed, 'dist/extension.js'), 'utf8');
    const required = [...bundle.matchAll(/require\("([^"]+)"\)/g)].map(([, name]) => name ?? '');
    assert.ok(required.includes('vscode'), required.join());
    assert.deepEqual(required.filter((name) => /^(node:)?(https?|http2|net|tls|dgram|dns)(\/|$)/.test(name)), []);
    assert.doesNotMatch(bundle, /\bfetch\(|\bWebSocket\b|\bEventSource\b/);
  });
});
