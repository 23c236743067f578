import * as vscode from 'vscode';
import type { Attributes } from './launch';

/** Starts the debug adapter, one process for each session. */
export class AdapterFactory implements vscode.DebugAdapterDescriptorFactory {
  constructor(private readonly binary: () => string) {}

  createDebugAdapterDescriptor(session: vscode.DebugSession): vscode.DebugAdapterDescriptor {
    const { dlvCwd } = session.configuration as unknown as Attributes;
    // Delve builds in its own working directory.
    const cwd = dlvCwd ?? session.workspaceFolder?.uri.fsPath;
    return new vscode.DebugAdapterExecutable(this.binary(), ['dap', '--stdio'], cwd === undefined ? {} : { cwd });
  }
}
