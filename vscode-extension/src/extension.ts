import * as vscode from 'vscode';
import { AdapterFactory } from './adapterFactory';
import { darnBinary } from './binary';

export function activate(context: vscode.ExtensionContext): void {
  const bundled = context.asAbsolutePath('bin/darn');
  const binary = () => darnBinary(vscode.workspace.getConfiguration('darn').get('path', ''), bundled);
  context.subscriptions.push(
    vscode.debug.registerDebugAdapterDescriptorFactory('darn', new AdapterFactory(binary)),
  );
}
