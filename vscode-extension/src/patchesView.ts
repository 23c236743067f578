import * as vscode from 'vscode';
import { t } from './l10n';
import type { Patch, PatchedFunction } from './protocol';
import type { Session } from './session';
import type { Sessions } from './sessions';
import { encodingWords, findingWords, framesOf, framesWords, functionCount, functionWords, patchCount, receiptWords, shortName, stateWord } from './words';

/** What a row of the view stands for; commands of the view get one. */
export type Node =
  | { kind: 'session'; session: Session }
  | { kind: 'patch'; session: Session; patch: Patch }
  | { kind: 'function'; session: Session; patch: Patch; function: PatchedFunction };

const icons: Record<Patch['state'], vscode.ThemeIcon> = {
  active: new vscode.ThemeIcon('pass-filled', new vscode.ThemeColor('darn.activePatch')),
  pending: new vscode.ThemeIcon('watch', new vscode.ThemeColor('darn.pendingPatch')),
  loaded: new vscode.ThemeIcon('circle-outline'),
  unloaded: new vscode.ThemeIcon('circle-slash'),
};

/** How often calls in old code are counted again, ms: less and less often. */
const looks = [1000, 2000, 4000, 8000, 16000, 30000];

/** The view Patches: sessions, their patches, and the functions that these replace. */
export class PatchesView implements vscode.TreeDataProvider<Node>, vscode.Disposable {
  private readonly change = new vscode.EventEmitter<undefined>();
  private readonly view: vscode.TreeView<Node>;
  private readonly subscriptions: vscode.Disposable;
  private timer: NodeJS.Timeout | undefined;
  private look = 0;

  readonly onDidChangeTreeData = this.change.event;

  constructor(private readonly sessions: Sessions) {
    this.view = vscode.window.createTreeView('darn.patches', { treeDataProvider: this, showCollapseAll: true });
    this.subscriptions = vscode.Disposable.from(
      this.view, this.change,
      sessions.onDidChange(() => {
        this.change.fire(undefined);
        this.watch();
      }),
      sessions.onDidPatch(() => {
        this.look = 0;
      }),
      this.view.onDidChangeVisibility(() => this.watch()),
    );
  }

  getChildren(node?: Node): Node[] {
    if (!node) {
      const all = this.sessions.list().filter((s) => s.live);
      // Without patches there is a text that says what to do.
      return all.some((s) => s.patches.length > 0) ? all.map((session) => ({ kind: 'session', session })) : [];
    }
    switch (node.kind) {
      case 'session':
        return node.session.patches.map((patch) => ({ kind: 'patch', session: node.session, patch }));
      case 'patch':
        return (node.patch.functions ?? []).map((f) => ({ kind: 'function', session: node.session, patch: node.patch, function: f }));
      case 'function':
        return [];
    }
  }

  getTreeItem(node: Node): vscode.TreeItem {
    switch (node.kind) {
      case 'session':
        return sessionItem(node.session);
      case 'patch':
        return patchItem(node.session, node.patch);
      case 'function':
        return functionItem(node);
    }
  }

  /** Counts calls in old code again, as long as the view is seen and there are any. */
  private watch(): void {
    clearTimeout(this.timer);
    const watched = this.sessions.list().filter((s) => s.patches.some((p) => p.state === 'active' && framesOf(p) !== 0));
    if (!this.view.visible || watched.length === 0) {
      return;
    }
    this.timer = setTimeout(() => {
      this.look++;
      watched.forEach((s) => void s.refresh().catch(() => undefined));
    }, looks[Math.min(this.look, looks.length - 1)]);
  }

  dispose(): void {
    clearTimeout(this.timer);
    this.subscriptions.dispose();
  }
}

function sessionItem(session: Session): vscode.TreeItem {
  const item = new vscode.TreeItem(session.debug.name, vscode.TreeItemCollapsibleState.Expanded);
  const count = session.patches.length === 0 ? t('no patches') : patchCount(session.patches.length);
  item.id = session.debug.id;
  item.contextValue = 'session';
  item.iconPath = new vscode.ThemeIcon('server-process');
  item.description = `pid ${session.target?.pid ?? '?'} · ${count}`;
  item.tooltip = [session.debug.name, `pid ${session.target?.pid ?? '?'}`, session.target?.version, session.target?.package]
    .filter(Boolean).join('\n');
  item.accessibilityInformation = { label: t('Program {0}, process {1}, {2}', session.debug.name, session.target?.pid ?? '?', count), role: 'treeitem' };
  return item;
}

function patchItem(session: Session, patch: Patch): vscode.TreeItem {
  const item = new vscode.TreeItem(patch.name, vscode.TreeItemCollapsibleState.Expanded);
  const frames = patch.state === 'active' ? framesWords(framesOf(patch)) : '';
  const functions = functionCount(patch.functions?.length ?? 0);
  item.id = `${session.debug.id}/${patch.id}`;
  item.contextValue = `patch.${patch.state}`;
  item.iconPath = icons[patch.state];
  item.description = [`#${patch.id}`, stateWord(patch.state), frames].filter((s) => s !== '').join(' · ');
  const receipt = session.receipts.get(patch.id);
  const tooltip = new vscode.MarkdownString();
  tooltip.appendText(t('Patch {0} ({1}) is {2}; it replaces {3}.', patch.id, patch.name, stateWord(patch.state), functions));
  if (receipt) {
    tooltip.appendMarkdown('\n\n').appendText(receiptWords(receipt));
  }
  tooltip.appendMarkdown('\n\n').appendText(patch.path);
  for (const f of patch.findings ?? []) {
    tooltip.appendMarkdown('\n\n').appendText(findingWords(f));
  }
  item.tooltip = tooltip;
  item.accessibilityInformation = {
    label: [t('Patch {0} {1}', patch.id, patch.name), stateWord(patch.state), functions, frames].filter((s) => s !== '').join(', '),
    role: 'treeitem',
  };
  return item;
}

function functionItem(node: Node & { kind: 'function' }): vscode.TreeItem {
  const { function: f, patch } = node;
  const item = new vscode.TreeItem(shortName(f.name));
  item.id = `${node.session.debug.id}/${patch.id}/${f.name}`;
  item.contextValue = 'function';
  item.iconPath = new vscode.ThemeIcon('symbol-function');
  item.description = functionWords(f, patch.state);
  item.tooltip = [
    f.name, f.source,
    encodingWords(f),
    framesWords(f.framesInOldCode),
    `0x${f.address.toString(16)} → 0x${f.newAddress.toString(16)}`,
  ].filter(Boolean).join('\n');
  item.command = { command: 'darn.goToSource', title: t('Go to Source'), arguments: [node] };
  item.accessibilityInformation = {
    label: [t('Function {0}', shortName(f.name)), functionWords(f, patch.state)].filter((s) => s !== '').join(', '),
    role: 'treeitem',
  };
  return item;
}
