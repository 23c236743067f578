import * as vscode from 'vscode';
import { languages } from './cSource';
import { t } from './l10n';
import type { Patch } from './protocol';
import { patchedFunctions } from './patchedFunctions';
import type { Sessions } from './sessions';
import { stateWord } from './words';

/** Marks patched functions in the gutter and in the overview ruler. */
export class GutterMarks implements vscode.Disposable {
  private readonly types: Record<'on' | 'off', vscode.TextEditorDecorationType>;
  private readonly subscriptions: vscode.Disposable;

  constructor(private readonly sessions: Sessions, icon: (name: string) => vscode.Uri) {
    const mark = (state: 'on' | 'off', color: string) => vscode.window.createTextEditorDecorationType({
      light: { gutterIconPath: icon(`patched-${state}-light.svg`) },
      dark: { gutterIconPath: icon(`patched-${state}-dark.svg`) },
      gutterIconSize: 'contain',
      overviewRulerLane: vscode.OverviewRulerLane.Left,
      overviewRulerColor: new vscode.ThemeColor(color),
    });
    this.types = { on: mark('on', 'darn.activePatch'), off: mark('off', 'darn.inactivePatch') };
    const all = () => vscode.window.visibleTextEditors.forEach((e) => void this.draw(e));
    this.subscriptions = vscode.Disposable.from(
      this.types.on, this.types.off,
      sessions.onDidChange(all),
      vscode.window.onDidChangeVisibleTextEditors(all),
      vscode.workspace.onDidChangeTextDocument((e) =>
        vscode.window.visibleTextEditors.filter((editor) => editor.document === e.document).forEach((editor) => void this.draw(editor))),
    );
    all();
  }

  private async draw(editor: vscode.TextEditor): Promise<void> {
    if (!languages.includes(editor.document.languageId)) {
      return;
    }
    const marks = { on: [] as vscode.DecorationOptions[], off: [] as vscode.DecorationOptions[] };
    for (const { line, patch, session } of await patchedFunctions(editor.document, this.sessions)) {
      marks[isOn(patch) ? 'on' : 'off'].push({
        range: new vscode.Range(line, 0, line, 0),
        hoverMessage: t('Patch {0} ({1}) of {2} is {3}.', patch.id, patch.name, session.debug.name, stateWord(patch.state)),
      });
    }
    // An active patch goes before one that is off.
    const taken = new Set(marks.on.map((m) => m.range.start.line));
    editor.setDecorations(this.types.on, marks.on);
    editor.setDecorations(this.types.off, marks.off.filter((m) => !taken.has(m.range.start.line)));
  }

  dispose(): void {
    this.subscriptions.dispose();
  }
}

const isOn = (patch: Patch) => patch.state === 'active';
