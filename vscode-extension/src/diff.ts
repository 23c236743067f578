import { readFile } from 'node:fs/promises';
import * as path from 'node:path';
import * as vscode from 'vscode';
import { t } from './l10n';
import type { Node } from './patchesView';
import { parsePlace } from './place';
import type { Chosen, PatchCommands } from './patchCommands';
import { changedFiles } from './sources';

const scheme = 'darn-source';

/** Shows the old and the new source of patches beside each other. */
export class Diffs implements vscode.TextDocumentContentProvider, vscode.Disposable {
  private readonly registration = vscode.workspace.registerTextDocumentContentProvider(scheme, this);

  constructor(private readonly commands: PatchCommands, private readonly binary: () => string) {}

  async provideTextDocumentContent(uri: vscode.Uri): Promise<string> {
    return uri.query === '' ? '' : readFile(uri.query, 'utf8');
  }

  /** file: the one to show; without it, that of the function, or the one that the user picks. */
  async show(node?: Node & { file?: string }): Promise<void> {
    const chosen: Chosen | undefined = await this.commands.choose(node, ['loaded', 'active', 'pending']);
    if (!chosen) {
      return;
    }
    try {
      const files = await changedFiles(this.binary(), chosen.patch.module);
      const wanted = node?.file ?? (node?.kind === 'function' ? parsePlace(node.function.source)?.file : undefined);
      const file = files.find((f) => f.path === wanted) ?? (files.length === 1 ? files[0] : (await vscode.window.showQuickPick(
        files.map((f) => ({ label: path.basename(f.path), description: vscode.workspace.asRelativePath(f.path), file: f })),
        { placeHolder: t('Which file?') }))?.file);
      if (!file) {
        return;
      }
      const copy = (of: string, side: string) => vscode.Uri.from({ scheme, path: `/${side}/${path.basename(file.path)}`, query: of });
      await vscode.commands.executeCommand('vscode.diff', copy(file.old, t('old')), copy(file.new, t('new')),
        t('{0}: old ↔ patch {1}', path.basename(file.path), chosen.patch.name));
    } catch (error) {
      void vscode.window.showErrorMessage(t('The sources of patch {0} can not be compared: {1}', chosen.patch.name,
        error instanceof Error ? error.message : String(error)));
    }
  }

  dispose(): void {
    this.registration.dispose();
  }
}
