import * as vscode from 'vscode';

/** When a saved edit is patched into the running program. */
export type ApplyOnSave = 'never' | 'ask' | 'always';

/** The settings, by name. */
export interface Settings {
  path: string;
  applyOnSave: ApplyOnSave;
  base: string;
  partial: boolean;
  stopOnFirstCall: boolean;
  codeLens: boolean;
}

/** The value of a setting, whose default is in package.json. */
export function setting<K extends keyof Settings>(name: K, scope?: vscode.ConfigurationScope): Settings[K] {
  return vscode.workspace.getConfiguration('darn', scope ?? null).get(name) as Settings[K];
}
