import * as vscode from 'vscode';
import { strict as assert } from 'node:assert';
import { appendFileSync } from 'node:fs';
import type { Api } from '../../src/extension';
import type { Session } from '../../src/session';
import { eventually } from '../workbench/eventually';
import { Tea } from '../workbench/tea';

/** The workspace that the driver has made. */
export const tea = Tea.at(process.env.DARN_TEST_FOLDER ?? '');

const id = 'darn-dev.darn';

/** The extension, as the editor knows it. */
export function darnExtension(): vscode.Extension<Api> {
  const found = vscode.extensions.getExtension<Api>(id);
  assert.ok(found, `${id} is not installed`);
  return found;
}

/** Starts a session of the workspace's folder, and waits until its program is there. */
export async function start(configuration: vscode.DebugConfiguration): Promise<Session> {
  const folder = vscode.workspace.workspaceFolders?.[0];
  assert.ok(await vscode.debug.startDebugging(folder, configuration), 'debugging did not start');
  const api = await darnExtension().activate();
  await eventually('live sessions', () => api.sessions.list().filter((s) => s.live).length, 1);
  const [session] = api.sessions.list();
  assert.ok(session);
  return session;
}

/** Ends all sessions. */
export async function stop(): Promise<void> {
  // A person's button stops what was launched, and leaves what was attached to.
  const attached = vscode.debug.activeDebugSession?.configuration.request === 'attach';
  await vscode.commands.executeCommand(`workbench.action.debug.${attached ? 'disconnect' : 'stop'}`);
  await eventually('the active session', () => vscode.debug.activeDebugSession?.name, undefined);
}

/** Replaces text in the editor of a file; nothing is saved. */
export async function edit(file: string, from: string, to: string): Promise<vscode.TextDocument> {
  const document = await open(file);
  const at = document.getText().indexOf(from);
  assert.ok(at >= 0, `${file} has no ${from}`);
  const change = new vscode.WorkspaceEdit();
  change.replace(document.uri, new vscode.Range(document.positionAt(at), document.positionAt(at + from.length)), to);
  assert.ok(await vscode.workspace.applyEdit(change));
  return document;
}

export async function open(file: string): Promise<vscode.TextDocument> {
  const document = await vscode.workspace.openTextDocument(`${tea.folder}/${file}`);
  await vscode.window.showTextDocument(document);
  return document;
}

/** Makes the files and editors what they were at first. */
export async function reset(): Promise<void> {
  for (const document of vscode.workspace.textDocuments.filter((d) => d.isDirty)) {
    await vscode.window.showTextDocument(document);
    await vscode.commands.executeCommand('workbench.action.files.revert');
  }
  tea.reset();
  for (const document of vscode.workspace.textDocuments.filter((d) => d.uri.scheme === 'file')) {
    await vscode.window.showTextDocument(document);
    await vscode.commands.executeCommand('workbench.action.files.revert');
  }
}

/** Darn's diagnostics of a file, as LINE: CODE: MESSAGE. */
export function diagnostics(file: string): string[] {
  return vscode.languages.getDiagnostics(vscode.Uri.file(`${tea.folder}/${file}`))
    .filter((d) => d.source === 'darn')
    .map((d) => `${d.range.start.line + 1}: ${codeOf(d)}: ${d.message}`);
}

function codeOf({ code }: vscode.Diagnostic): string {
  return String(typeof code === 'object' ? code.value : code);
}

type Show = (message: string, ...rest: unknown[]) => unknown;

/**
 * What the extension told the user since the test began. It has the same API
 * object as its tests; the messages are shown all the same.
 */
export const heard: string[] = [];

/** Which buttons of messages the user presses, in this order, each as soon as it is there. */
export const answers: string[] = [];

const window = vscode.window as unknown as Record<string, Show>;
for (const [name, show] of Object.entries(window).filter(([key]) => /^show\w+Message$|^setStatusBarMessage$/.test(key))) {
  window[name] = (message, ...rest) => {
    heard.push(message);
    const [answer] = answers;
    if (answer !== undefined && rest.includes(answer)) {
      answers.shift();
      return Promise.resolve(answer);
    }
    return show(message, ...rest);
  };
}
beforeEach(() => {
  heard.length = 0;
  answers.length = 0;
});
afterEach(function () {
  if (this.currentTest?.state === 'failed') {
    appendFileSync(process.env.DARN_TEST_OUTPUT ?? '', `what Darn said: ${heard.join(' | ')}\n`);
  }
});
