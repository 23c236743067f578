import * as vscode from 'vscode';
import { languages } from './cSource';
import type { Findings } from './findings';
import { t } from './l10n';
import { workspaceModules } from './modules';
import { output } from './output';
import { Refusal, type Finding } from './protocol';
import type { Session } from './session';
import { findingWords } from './words';

const silencedKey = 'darn.silencedReasons';

/** Tells the user why something was not done. */
export class Notifier {
  constructor(private readonly memory: vscode.Memento, private readonly findings: Findings) {}

  /** What was refused: squiggles, the log, and one notification. */
  async refused(error: unknown, session: Session, title: string): Promise<void> {
    const refusal = error instanceof Refusal ? error : new Refusal(error instanceof Error ? error.message : String(error));
    output().error(`${title}\n${refusal.findings.map(describe).join('\n') || refusal.message}`);
    const fallback = vscode.window.activeTextEditor?.document;
    const first = await this.findings.show(refusal.findings, session, await workspaceModules(),
      fallback && languages.includes(fallback.languageId) ? fallback.uri : undefined);
    const decisive = refusal.findings.find((f) => f.severity === 'error') ?? refusal.findings[0];
    if (decisive && this.silenced().includes(decisive.code)) {
      vscode.window.setStatusBarMessage(`$(circle-slash) ${title}`, 8000);
      return;
    }
    if (decisive?.code === 'no-change') {
      const show = t('Show');
      const choice = await vscode.window.showInformationMessage(t('Nothing was patched: {0}', findingWords(decisive)), ...(first ? [show] : []));
      if (choice === show) {
        await this.show(first);
      }
      return;
    }
    const more = refusal.findings.filter((f) => f.severity === 'error').length - 1;
    const reason = decisive ? findingWords(decisive) : refusal.message;
    const text = more > 0 ? t('{0}: {1} (and {2} more)', title, reason, more) : `${title}: ${reason}`;
    const show = t('Show');
    const restart = t('Restart Instead');
    const silence = t("Don't Show Again for This Reason");
    const launched = session.configuration.request === 'launch';
    const choice = await vscode.window.showErrorMessage(text, show, ...(launched ? [restart] : []), ...(decisive ? [silence] : []));
    switch (choice) {
      case show:
        await this.show(first);
        break;
      case restart:
        await vscode.workspace.saveAll(false);
        await vscode.commands.executeCommand('workbench.action.debug.restart');
        break;
      case silence:
        await this.memory.update(silencedKey, [...this.silenced(), decisive?.code ?? '']);
        break;
    }
  }

  /** What a patch does not do, though it is on. */
  async warned(warnings: readonly Finding[], session: Session, title: string): Promise<void> {
    const first = await this.findings.show(warnings, session, await workspaceModules());
    const [decisive] = warnings;
    output().warn(`${title}\n${warnings.map(describe).join('\n')}`);
    if (!decisive || warnings.every((f) => this.silenced().includes(f.code))) {
      return;
    }
    const more = warnings.length - 1;
    const text = more > 0
      ? t('{0}, but: {1} (and {2} more)', title, findingWords(decisive), more)
      : t('{0}, but: {1}', title, findingWords(decisive));
    const show = t('Show');
    const silence = t("Don't Show Again for This Reason");
    const choice = await vscode.window.showWarningMessage(text, show, silence);
    if (choice === show) {
      await this.show(first);
    } else if (choice === silence) {
      await this.memory.update(silencedKey, [...this.silenced(), decisive.code]);
    }
  }

  /** Shows all reasons again. */
  async unsilence(): Promise<void> {
    const n = this.silenced().length;
    await this.memory.update(silencedKey, undefined);
    void vscode.window.showInformationMessage(n === 0
      ? t('No reason was silenced: all are shown.')
      : t('All reasons are shown again; {0} were silenced.', n));
  }

  private silenced(): string[] {
    return this.memory.get<string[]>(silencedKey, []);
  }

  private async show(location: vscode.Location | undefined): Promise<void> {
    if (!location) {
      output().show();
      return;
    }
    await vscode.window.showTextDocument(location.uri, { selection: location.range });
    await vscode.commands.executeCommand('workbench.actions.view.problems');
  }
}

function describe(f: Finding): string {
  return `${f.source ? `${f.source}: ` : ''}${f.severity}: ${findingWords(f)} [${f.code}]`;
}
