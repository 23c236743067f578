import * as vscode from 'vscode';
import { t } from './l10n';
import type { Notifier } from './notify';
import { pickSession } from './pickSession';
import { Refusal } from './protocol';
import type { Sessions } from './sessions';
import { inspectionWords } from './words';

/** "Load Patch Module…": shows what a module would do, then loads it. */
export async function loadModule(file: vscode.Uri | undefined, sessions: Sessions, notifier: Notifier): Promise<void> {
  const session = await pickSession(sessions);
  if (!session) {
    return;
  }
  const uri = file ?? (await vscode.window.showOpenDialog({
    title: t('Load Patch Module'), openLabel: t('Inspect'), canSelectMany: false,
    filters: { [t('Patch modules')]: ['so'], [t('All files')]: ['*'] },
  }))?.[0];
  if (!uri) {
    return;
  }
  const title = t('{0} was not loaded', vscode.workspace.asRelativePath(uri));
  try {
    const inspection = await session.request('darn/inspect', { path: uri.fsPath });
    const both = t('Load and Activate');
    const load = t('Load');
    const choice = await vscode.window.showInformationMessage(
      t('Module {0} for {1}', inspection.module.name, session.debug.name),
      { modal: true, detail: inspectionWords(inspection) },
      ...(inspection.ok ? [both, load] : []),
    );
    if (!inspection.ok) {
      throw new Refusal(t('the module does not fit the running program'), inspection.findings.filter((f) => f.severity === 'error'));
    }
    if (choice === undefined) {
      return;
    }
    const patch = await session.load(uri.fsPath);
    if (patch && choice === both) {
      await session.activate({ id: patch.id });
    }
  } catch (error) {
    await notifier.refused(error, session, title);
  }
}
