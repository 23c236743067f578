import * as vscode from 'vscode';
import { t } from './l10n';
import type { Notifier } from './notify';
import type { Session } from './session';
import { output } from './output';

/** Offers to apply again what a restarted program has lost. */
export async function offerAgain(session: Session, notifier: Notifier): Promise<void> {
  const again = t('Apply Again');
  const choice = await vscode.window.showInformationMessage(
    t('{0} was restarted, and its patches are gone with the old process. What was rebuilt from the edited source has the edit anyway.', session.debug.name), again);
  if (choice !== again) {
    return;
  }
  try {
    const { result } = (await session.debug.customRequest('evaluate', { expression: 'darn again', context: 'repl' })) as { result: string };
    output().info(result);
    void vscode.window.showInformationMessage(result);
    await session.refresh();
  } catch (error) {
    await notifier.refused(error, session, t('The patches were not applied again'));
  }
}
