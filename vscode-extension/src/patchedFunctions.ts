import * as vscode from 'vscode';
import { workspaceModules } from './modules';
import { isC, languages } from './cSource';
import { cLine, goLine, patchedIn, type Patched } from './patched';
import { localFile, type Module } from './place';
import type { Session } from './session';
import type { Sessions } from './sessions';

let modules: Module[] | undefined;

/** What the patches of all sessions replace in a document. */
export async function patchedFunctions(document: vscode.TextDocument, sessions: Sessions): Promise<Patched<Session>[]> {
  const patches = sessions.list().flatMap((session) => session.patches.map((patch) => ({ session, patch })));
  if (!languages.includes(document.languageId) || document.uri.scheme !== 'file' || patches.length === 0) {
    return [];
  }
  modules ??= await workspaceModules();
  const known = modules;
  return patchedIn(document.getText(), patches, (name, session) =>
    localFile(name, session.substitutions, known) === document.uri.fsPath, isC(document.languageId) ? cLine : goLine);
}

/** Forgets the workspace's modules when its folders change. */
export function watchModules(): vscode.Disposable {
  return vscode.workspace.onDidChangeWorkspaceFolders(() => {
    modules = undefined;
  });
}
