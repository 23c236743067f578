import * as vscode from 'vscode';
import { t } from './l10n';
import type { Patcher } from './patch';
import type { Sessions } from './sessions';
import { patchCount, pauseWords, receiptWords } from './words';

/** Shows in the status bar how many patches are active, and the last pause. */
export function showStatus(sessions: Sessions, patcher: Patcher): vscode.Disposable {
  const item = vscode.window.createStatusBarItem('darn.status', vscode.StatusBarAlignment.Left, 50);
  item.name = t('Darn Patches');
  item.command = 'darn.patches.focus';
  let doing: string | undefined;

  const update = () => {
    const live = sessions.list().filter((s) => s.live);
    if (live.length === 0) {
      item.hide();
      return;
    }
    const active = live.flatMap((s) => s.patches).filter((p) => p.state === 'active').length;
    const session = sessions.active?.live ? sessions.active : live[0];
    const receipt = session?.lastReceipt;
    const count = active === 0 ? t('no active patch') : t('{0} active', patchCount(active));
    const text = [count, receipt ? pauseWords(receipt) : ''].filter((s) => s !== '').join(' · ');
    item.text = doing === undefined ? `$(zap) ${text}` : `$(loading~spin) ${doing}`;
    item.tooltip = receipt ? receiptWords(receipt) : t('Show the patches');
    item.accessibilityInformation = { label: t('Darn: {0}', doing ?? text), role: 'button' };
    item.show();
  };
  update();
  return vscode.Disposable.from(item, sessions.onDidChange(update), patcher.onDidProgress((text) => {
    doing = text;
    update();
  }));
}
