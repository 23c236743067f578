import * as vscode from 'vscode';
import { activateHere, type Line } from './activateHere';
import { AdapterFactory } from './adapterFactory';
import { offerAgain } from './again';
import { applyOnSave } from './applyOnSave';
import { darnBinary } from './binary';
import { PatchLenses } from './codelens';
import { Configurations, keepForGo } from './configuration';
import { keepContextKeys } from './contextKeys';
import { Diffs } from './diff';
import { Findings } from './findings';
import { lastingLink, useWithGoExtension } from './goExtension';
import { GutterMarks } from './gutter';
import { setTranslate, t } from './l10n';
import { loadModule } from './loadModule';
import { Notifier } from './notify';
import { output } from './output';
import { Patcher } from './patch';
import { PatchCommands } from './patchCommands';
import { watchModules } from './patchedFunctions';
import { PatchesView, type Node } from './patchesView';
import { pickProcess } from './processPicker';
import { Refusal } from './protocol';
import { Sessions } from './sessions';
import { setting } from './settings';
import { Snapshots } from './snapshots';
import { showStatus } from './statusBar';

/** What other extensions, and tests, may look at. */
export interface Api {
  sessions: Sessions;
  patches: vscode.TreeDataProvider<Node>;
}

export function activate(context: vscode.ExtensionContext): Api {
  setTranslate((message, ...values) => vscode.l10n.t(message, ...values));
  const storage = (context.storageUri ?? context.globalStorageUri).fsPath;
  const shared = context.globalStorageUri.fsPath;
  const bundled = context.asAbsolutePath('bin/darn');
  const binary = () => darnBinary(setting('path'), bundled);

  const sessions = new Sessions();
  const snapshots = new Snapshots(storage);
  const findings = new Findings();
  const notifier = new Notifier(context.globalState, findings);
  const patcher = new Patcher(sessions, snapshots, findings, notifier, context.workspaceState, storage, binary);
  const commands = new PatchCommands(sessions, findings, notifier);
  const diffs = new Diffs(commands, binary);
  const configurations = new Configurations(snapshots);
  const patches = new PatchesView(sessions);

  const command = (name: string, run: (...args: never[]) => unknown) => vscode.commands.registerCommand(name, run);
  context.subscriptions.push(
    sessions, findings, patcher, diffs,
    keepContextKeys(sessions),
    patches,
    new PatchLenses(sessions),
    new GutterMarks(sessions, (name) => vscode.Uri.joinPath(context.extensionUri, 'media', name)),
    showStatus(sessions, patcher),
    applyOnSave(sessions, patcher),
    watchModules(),
    vscode.debug.registerDebugAdapterDescriptorFactory('darn', new AdapterFactory(binary)),
    vscode.debug.registerDebugConfigurationProvider('darn', configurations),
    vscode.debug.registerDebugConfigurationProvider('darn', configurations, vscode.DebugConfigurationProviderTriggerKind.Dynamic),
    keepForGo(snapshots),
    sessions.onWillRestart((s) => void snapshots.take(s.configuration)),
    sessions.onDidLosePatches((s) => void offerAgain(s, notifier)),
    sessions.onDidPatch(({ session, event }) => {
      if (event.reason === 'failed') {
        void notifier.refused(new Refusal('', event.findings), session, t('Patch {0} was not activated', event.patch.name));
      }
    }),
    vscode.debug.onDidTerminateDebugSession((s) => {
      findings.clear();
      void snapshots.drop(s.configuration);
    }),
    command('darn.patch', () => patcher.patch()),
    command('darn.activatePatch', (node?: Node) => commands.activate(node)),
    command('darn.deactivatePatch', (node?: Node) => commands.deactivate(node)),
    command('darn.unloadPatch', (node?: Node) => commands.unload(node)),
    command('darn.goToSource', (node?: Node) => commands.goToSource(node)),
    command('darn.diff', (node?: Node) => diffs.show(node)),
    command('darn.refresh', () => commands.refresh()),
    command('darn.activateHere', (line?: Line) => activateHere(line, sessions, patcher, notifier)),
    command('darn.loadModule', (file?: vscode.Uri) => loadModule(file, sessions, notifier)),
    command('darn.pickProcess', pickProcess),
    command('darn.attach', () => vscode.debug.startDebugging(vscode.workspace.workspaceFolders?.[0],
      { type: 'darn', name: t('Darn: Attach to Process'), request: 'attach', mode: 'local', processId: 0 })),
    command('darn.useWithGoExtension', () => useWithGoExtension(shared, binary())),
    command('darn.showAllReasons', () => notifier.unsilence()),
    command('darn.showOutput', () => output().show()),
    command('darn.openWalkthrough', () => vscode.commands.executeCommand(
      'workbench.action.openWalkthrough', `${context.extension.id}#darn.firstPatch`, false)),
  );
  // An update of the extension moves the binary that the Go extension starts.
  const tools = vscode.workspace.getConfiguration('go').get<Record<string, string>>('alternateTools');
  if (tools?.dlv?.startsWith(shared)) {
    void lastingLink(shared, binary());
  }
  return { sessions, patches };
}
