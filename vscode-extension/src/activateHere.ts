import * as vscode from 'vscode';
import { t } from './l10n';
import type { Notifier } from './notify';
import type { Patcher } from './patch';
import { pickSession } from './pickSession';
import type { Patch, Point } from './protocol';
import type { Sessions } from './sessions';
import { setting } from './settings';
import { until } from './until';

/** What the menu of a line number passes. */
export interface Line {
  uri?: vscode.Uri;
  lineNumber?: number;
}

/** "Activate Patch Here…": activates a patch when the program reaches a line. */
export async function activateHere(line: Line | undefined, sessions: Sessions, patcher: Patcher, notifier: Notifier): Promise<void> {
  const editor = vscode.window.activeTextEditor;
  const uri = line?.uri ?? editor?.document.uri;
  const number = line?.lineNumber ?? (editor && editor.selection.active.line + 1);
  const session = await pickSession(sessions);
  if (!uri || number === undefined || !session) {
    return;
  }
  const where = `${vscode.workspace.asRelativePath(uri)}:${number}`;

  interface Item extends vscode.QuickPickItem { patch?: Patch }
  const items: Item[] = session.patches.filter((p) => p.state === 'loaded')
    .map((patch) => ({ label: patch.name, description: `#${patch.id}`, patch }));
  items.push({ label: t('$(tools) Build It from the Edit'), alwaysShow: true });
  const picked = await vscode.window.showQuickPick(items, { title: t('Activate at {0}', where), placeHolder: t('Which patch?') });
  if (!picked) {
    return;
  }
  const stop = { label: t('Stop on the first patched call'), picked: setting('stopOnFirstCall') };
  const count = { label: t('Only when the line has been reached some number of times…') };
  const options = await vscode.window.showQuickPick([stop, count], {
    title: t('Activate at {0}', where), placeHolder: t('Options; Enter goes on'), canPickMany: true,
  });
  if (!options) {
    return;
  }
  const at: Point = { path: uri.fsPath, line: number };
  if (options.includes(count)) {
    const hits = await vscode.window.showInputBox({
      title: t('Activate at {0}', where), prompt: t('A number, or a comparison such as >= 3 or % 10'), value: '3',
      validateInput: (text) => /^\s*(?:[<>=!]=?|%)?\s*\d+\s*$/.test(text) ? undefined : t('Give a number, or a comparison such as >= 3 or % 10.'),
    });
    if (hits === undefined) {
      return;
    }
    at.hitCondition = hits.trim();
  }
  const patch = picked.patch ?? (await patcher.prepare(session));
  if (!patch) {
    return;
  }
  try {
    await session.activate({ id: patch.id, at, ...(options.includes(stop) && { stopOnFirstCall: true }) });
    const waits = () => session.patch(patch.id)?.state === 'pending';
    if (waits()) {
      vscode.window.setStatusBarMessage(`$(watch) ${t('Patch {0} waits for {1}', patch.name, where)}`, until(sessions.onDidChange, () => !waits()));
    }
  } catch (error) {
    await notifier.refused(error, session, t('Patch {0} was not activated', patch.name));
  }
}
