import * as vscode from 'vscode';
import { languages } from './cSource';
import { t } from './l10n';
import { patchedFunctions } from './patchedFunctions';
import type { Sessions } from './sessions';
import { setting } from './settings';
import { stateWord } from './words';

/** Says above each function that it is patched, and switches that. */
export class PatchLenses implements vscode.CodeLensProvider, vscode.Disposable {
  private readonly change = new vscode.EventEmitter<void>();
  private readonly subscriptions: vscode.Disposable;

  readonly onDidChangeCodeLenses = this.change.event;

  constructor(private readonly sessions: Sessions) {
    this.subscriptions = vscode.Disposable.from(
      this.change,
      sessions.onDidChange(() => this.change.fire()),
      vscode.workspace.onDidChangeConfiguration((e) => {
        if (e.affectsConfiguration('darn.codeLens')) {
          this.change.fire();
        }
      }),
      vscode.languages.registerCodeLensProvider(languages.map((language) => ({ language, scheme: 'file' })), this),
    );
  }

  async provideCodeLenses(document: vscode.TextDocument): Promise<vscode.CodeLens[]> {
    if (!setting('codeLens', document.uri)) {
      return [];
    }
    const patched = await patchedFunctions(document, this.sessions);
    return patched.flatMap(({ line, patch, session }) => {
      const range = new vscode.Range(line, 0, line, 0);
      const node = { kind: 'patch' as const, session, patch };
      const on = patch.state === 'loaded';
      return [
        new vscode.CodeLens(range, {
          title: t('patched · {0} · {1}', stateWord(patch.state), on ? t('turn on') : t('turn off')),
          tooltip: t('Patch {0} ({1}) of {2}', patch.id, patch.name, session.debug.name),
          command: on ? 'darn.activatePatch' : 'darn.deactivatePatch',
          arguments: [node],
        }),
        new vscode.CodeLens(range, {
          title: t('compare with the old source'), command: 'darn.diff', arguments: [{ ...node, file: document.uri.fsPath }],
        }),
      ];
    });
  }

  dispose(): void {
    this.subscriptions.dispose();
  }
}
