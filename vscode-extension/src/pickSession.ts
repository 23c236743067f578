import * as vscode from 'vscode';
import { t } from './l10n';
import type { Session } from './session';
import type { Sessions } from './sessions';

/** The session to patch: the active one, the only one, or the one that the user picks. */
export async function pickSession(sessions: Sessions): Promise<Session | undefined> {
  const live = sessions.list().filter((s) => s.live);
  const { active } = sessions;
  if (active?.live) {
    return active;
  }
  if (live.length === 1) {
    return live[0];
  }
  if (live.length > 1) {
    const items = live.map((session) => ({
      label: session.debug.name, description: `pid ${session.target?.pid ?? ''}`, session,
    }));
    return (await vscode.window.showQuickPick(items, { placeHolder: t('Which program?') }))?.session;
  }
  const attach = t('Attach to a Process…');
  const start = t('Start Debugging');
  const text = sessions.list().length > 0
    ? t('Nothing was patched: the program of the debug session is not running yet, has ended, or was started without debugging.')
    : t('Nothing was patched: no debug session of Darn is running. Attach to the program, or start it here.');
  const choice = await vscode.window.showWarningMessage(text, attach, start);
  if (choice === attach) {
    await vscode.commands.executeCommand('darn.attach');
  } else if (choice === start) {
    await vscode.commands.executeCommand('workbench.action.debug.start');
  }
  return undefined;
}
