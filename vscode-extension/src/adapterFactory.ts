import * as vscode from 'vscode';

/** Starts the debug adapter, one process for each session. */
export class AdapterFactory implements vscode.DebugAdapterDescriptorFactory {
  constructor(private readonly binary: () => string) {}

  createDebugAdapterDescriptor(): vscode.DebugAdapterDescriptor {
    return new vscode.DebugAdapterExecutable(this.binary(), ['dap', '--stdio']);
  }
}
