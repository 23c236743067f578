import * as vscode from 'vscode';

let channel: vscode.LogOutputChannel | undefined;

/** The output channel "Darn"; made when first used. */
export function output(): vscode.LogOutputChannel {
  channel ??= vscode.window.createOutputChannel('Darn', { log: true });
  return channel;
}
