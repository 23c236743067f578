import { readFile } from 'node:fs/promises';
import * as path from 'node:path';
import * as vscode from 'vscode';
import { modulePath, type Module } from './place';

/** The Go modules of the workspace. */
export async function workspaceModules(): Promise<Module[]> {
  const files = await vscode.workspace.findFiles('**/go.mod', '**/{node_modules,vendor}/**', 200);
  const found = await Promise.all(files.map(async (uri) => ({
    path: modulePath(await readFile(uri.fsPath, 'utf8').catch(() => '')),
    dir: path.dirname(uri.fsPath),
  })));
  return found.filter((m) => m.path !== '');
}
