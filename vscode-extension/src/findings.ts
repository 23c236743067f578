import * as vscode from 'vscode';
import { compileError } from './build';
import { localFile, parsePlace, type Module } from './place';
import type { Finding, Severity } from './protocol';
import type { Session } from './session';
import { findingWords } from './words';

/** Where every reason is explained, in an anchor of its own. */
const reasons = vscode.Uri.parse('https://github.com/darn-dev/darn/blob/main/docs/refusals.md');

const severities: Record<Severity, vscode.DiagnosticSeverity> = {
  error: vscode.DiagnosticSeverity.Error,
  warning: vscode.DiagnosticSeverity.Warning,
  info: vscode.DiagnosticSeverity.Information,
};

/** Shows findings as diagnostics, at their lines. */
export class Findings implements vscode.Disposable {
  private readonly collection = vscode.languages.createDiagnosticCollection('darn');

  clear(): void {
    this.collection.clear();
  }

  /**
   * Shows these in place of all earlier ones. Those without a line go to the
   * first line of fallback. Returns the place of the first, if it has one.
   */
  async show(findings: readonly Finding[], session: Session, modules: readonly Module[], fallback?: vscode.Uri): Promise<vscode.Location | undefined> {
    this.collection.clear();
    const byFile = new Map<string, vscode.Diagnostic[]>();
    let first: vscode.Location | undefined;
    for (const f of findings) {
      const location = (await this.locate(f.source, session, modules)) ?? (fallback && new vscode.Location(fallback, new vscode.Range(0, 0, 0, 0)));
      if (!location) {
        continue;
      }
      first ??= location;
      const diagnostic = new vscode.Diagnostic(location.range, findingWords(f), severities[f.severity]);
      diagnostic.source = 'darn';
      diagnostic.code = f.code === compileError ? f.code : { value: f.code, target: reasons.with({ fragment: f.code }) };
      const key = location.uri.toString();
      byFile.set(key, [...(byFile.get(key) ?? []), diagnostic]);
    }
    this.collection.set([...byFile].map(([uri, list]) => [vscode.Uri.parse(uri), list]));
    return first;
  }

  /** The text of a line that the program names as file:line. */
  async locate(source: string | undefined, session: Session, modules: readonly Module[]): Promise<vscode.Location | undefined> {
    const place = parsePlace(source);
    const file = place && localFile(place.file, session.substitutions, modules);
    if (!file) {
      return undefined;
    }
    const uri = vscode.Uri.file(file);
    try {
      const document = await vscode.workspace.openTextDocument(uri);
      const line = document.lineAt(Math.min(Math.max(place.line - 1, 0), document.lineCount - 1));
      return new vscode.Location(uri, new vscode.Range(
        line.lineNumber, line.firstNonWhitespaceCharacterIndex, line.lineNumber, line.range.end.character));
    } catch {
      return undefined; // the file is not here
    }
  }

  dispose(): void {
    this.collection.dispose();
  }
}
