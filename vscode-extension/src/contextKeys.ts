import * as vscode from 'vscode';
import type { Sessions } from './sessions';

/** Keeps the context keys that menus and the empty view look at. */
export function keepContextKeys(sessions: Sessions): vscode.Disposable {
  const last = new Map<string, unknown>();
  const set = (key: string, value: unknown) => {
    if (last.get(key) !== value) {
      last.set(key, value);
      void vscode.commands.executeCommand('setContext', key, value);
    }
  };
  const update = () => {
    const all = sessions.list();
    set('darn.active', sessions.active !== undefined);
    set('darn.sessions', all.length);
    set('darn.live', all.some((s) => s.live));
    set('darn.patches', all.reduce((n, s) => n + s.patches.length, 0));
  };
  update();
  return sessions.onDidChange(update);
}
