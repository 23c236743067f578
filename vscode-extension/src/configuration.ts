import { readFile } from 'node:fs/promises';
import * as path from 'node:path';
import * as vscode from 'vscode';
import { parseEnvFile } from './envFile';
import { t } from './l10n';
import { completeAttributes, defaultAttributes, resolveAttributes, type Attributes, type Surroundings } from './launch';
import { processId } from './processPicker';
import type { Snapshots } from './snapshots';

/** Completes launch configurations, and makes one where there is none. */
export class Configurations implements vscode.DebugConfigurationProvider {
  constructor(private readonly snapshots: Snapshots) {}

  provideDebugConfigurations(): vscode.DebugConfiguration[] {
    return [
      { name: t('Darn: Debug Package'), type: 'darn', request: 'launch', mode: 'auto', program: '${fileDirname}' },
      { name: t('Darn: Launch C or C++ Program'), type: 'darn', request: 'launch', mode: 'exec', program: '${workspaceFolder}/program' },
      { name: t('Darn: Attach to Process'), type: 'darn', request: 'attach', mode: 'local', processId: '${command:pickProcess}' },
    ];
  }

  resolveDebugConfiguration(folder: vscode.WorkspaceFolder | undefined, given: vscode.DebugConfiguration): vscode.DebugConfiguration | undefined {
    const around = surroundings(folder);
    const a = given.type === '' || !given.request ? defaultAttributes(around) : (given as Attributes);
    if (!a) {
      void vscode.window.showErrorMessage(t('There is nothing to debug: no folder and no Go file is open. Open the folder of a Go program.'));
      return undefined;
    }
    return completeAttributes(a, around);
  }

  async resolveDebugConfigurationWithSubstitutedVariables(folder: vscode.WorkspaceFolder | undefined, given: vscode.DebugConfiguration): Promise<vscode.DebugConfiguration | undefined> {
    const around = surroundings(folder);
    try {
      const a = resolveAttributes(given, around, await envFiles(given.envFile, around.folder));
      if (a.request === 'attach') {
        const pid = await processId(a.processId);
        if (pid === undefined) {
          return undefined; // the user has picked none
        }
        a.processId = pid;
      }
      await this.snapshots.take(a, around.folder);
      return a;
    } catch (error) {
      const open = t('Open launch.json');
      const choice = await vscode.window.showErrorMessage(
        t('Debugging did not start: {0}', error instanceof Error ? error.message : String(error)), { modal: true }, open);
      if (choice === open) {
        await vscode.commands.executeCommand('workbench.action.debug.configure');
      }
      return undefined;
    }
  }
}

/** Keeps the source of programs that the Go extension launches with Darn as its Delve. */
export function keepForGo(snapshots: Snapshots): vscode.Disposable {
  return vscode.debug.registerDebugConfigurationProvider('go', {
    async resolveDebugConfigurationWithSubstitutedVariables(folder, given) {
      const tools = vscode.workspace.getConfiguration('go', folder).get<Record<string, string>>('alternateTools', {});
      if (path.basename(tools.dlv ?? '') === 'darn') {
        await snapshots.take(given);
      }
      return given;
    },
  });
}

function surroundings(folder: vscode.WorkspaceFolder | undefined): Surroundings {
  const document = vscode.window.activeTextEditor?.document;
  return {
    folder: (folder ?? vscode.workspace.workspaceFolders?.[0])?.uri.fsPath,
    activeFile: document?.languageId === 'go' && document.uri.scheme === 'file' ? document.uri.fsPath : undefined,
  };
}

async function envFiles(names: unknown, folder: string | undefined): Promise<Record<string, string>[]> {
  const list = typeof names === 'string' ? [names] : Array.isArray(names) ? (names as string[]) : [];
  return Promise.all(list.filter((n) => n !== '').map(async (name) => {
    const file = path.resolve(folder ?? '/', name);
    try {
      return parseEnvFile(await readFile(file, 'utf8'));
    } catch (error) {
      throw new Error(t('envFile {0} can not be read: {1}. Correct its path in launch.json.', file, String(error)), { cause: error });
    }
  }));
}
