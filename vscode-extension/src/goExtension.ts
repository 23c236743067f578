import { mkdir, rm, symlink } from 'node:fs/promises';
import * as path from 'node:path';
import * as vscode from 'vscode';
import { t } from './l10n';

/** Makes a link to the binary that stays when the extension is updated. Returns its path. */
export async function lastingLink(storage: string, binary: string): Promise<string> {
  if (!path.isAbsolute(binary)) {
    return binary;
  }
  const link = path.join(storage, 'bin', 'darn');
  await mkdir(path.dirname(link), { recursive: true });
  await rm(link, { force: true });
  await symlink(binary, link);
  return link;
}

/** Has the Go extension start Darn in place of Delve, by its setting go.alternateTools. */
export async function useWithGoExtension(storage: string, binary: string): Promise<void> {
  const items = [
    { label: t('For Me'), description: t('user settings'), target: vscode.ConfigurationTarget.Global },
    ...(vscode.workspace.workspaceFolders
      ? [{ label: t('For This Workspace'), description: t('workspace settings'), target: vscode.ConfigurationTarget.Workspace }]
      : []),
  ];
  const picked = await vscode.window.showQuickPick(items, { placeHolder: t('Where is Darn to take the place of Delve?') });
  if (!picked) {
    return;
  }
  const darn = await lastingLink(storage, binary);
  const go = vscode.workspace.getConfiguration('go');
  const inspected = go.inspect<Record<string, string>>('alternateTools');
  const before = picked.target === vscode.ConfigurationTarget.Global ? inspected?.globalValue : inspected?.workspaceValue;
  try {
    await go.update('alternateTools', { ...before, dlv: darn }, picked.target);
  } catch {
    void vscode.window.showErrorMessage(t('The Go extension is not installed, and so its setting go.alternateTools can not be set. Install it, or debug with the type darn.'));
    return;
  }
  const undo = t('Undo');
  const choice = await vscode.window.showInformationMessage(
    t('The Go extension now starts Darn in place of Delve: the {0} have "go.alternateTools": {"dlv": "{1}"}. The next debug session can be patched.', picked.description, darn), undo);
  if (choice === undo) {
    await go.update('alternateTools', before, picked.target);
  }
}
