import * as vscode from 'vscode';
import { languages } from './cSource';
import { Debounce } from './debounce';
import { t } from './l10n';
import type { Patcher } from './patch';
import type { Sessions } from './sessions';
import { setting } from './settings';

/** For how long files may go on being saved before a patch is built of them, ms. */
const patience = 500;

/** Patches the running program when its files are saved, as the setting says. */
export function applyOnSave(sessions: Sessions, patcher: Patcher): vscode.Disposable {
  const saved = new Debounce<vscode.TextDocument>(patience, (documents) => void apply(documents));

  const apply = async (documents: vscode.TextDocument[]) => {
    const [first] = documents;
    const mode = setting('applyOnSave', first?.uri);
    const session = sessions.active?.live ? sessions.active : sessions.list().find((s) => s.live);
    if (!session || mode === 'never') {
      return;
    }
    const broken = documents.find((d) => hasErrors(d.uri));
    if (broken) {
      vscode.window.setStatusBarMessage(
        `$(circle-slash) ${t('Not patched: {0} has errors', vscode.workspace.asRelativePath(broken.uri))}`, 5000);
      return;
    }
    if (mode === 'ask') {
      const patch = t('Patch');
      const always = t('Always');
      const never = t('Never');
      const choice = await vscode.window.showInformationMessage(t('Patch the running program with what you saved?'), patch, always, never);
      if (choice === always || choice === never) {
        await vscode.workspace.getConfiguration('darn').update('applyOnSave', choice === always ? 'always' : 'never', vscode.ConfigurationTarget.Global);
      }
      if (choice !== patch && choice !== always) {
        return;
      }
    }
    await patcher.patch(session, vscode.ProgressLocation.Window);
  };

  return vscode.Disposable.from(saved, vscode.workspace.onDidSaveTextDocument((document) => {
    if (languages.includes(document.languageId) && document.uri.scheme === 'file' && !patcher.saving) {
      saved.add(document);
    }
  }));
}

/** Whether something other than Darn finds errors in a file. */
function hasErrors(uri: vscode.Uri): boolean {
  return vscode.languages.getDiagnostics(uri)
    .some((d) => d.severity === vscode.DiagnosticSeverity.Error && d.source !== 'darn');
}
