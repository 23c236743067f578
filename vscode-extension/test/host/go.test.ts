import * as vscode from 'vscode';
import { strict as assert } from 'node:assert';
import { darn } from '../workbench/folders';
import { eventually } from '../workbench/eventually';
import { edit, reset, start, stop, tea } from './editor';

describe('a session of type go whose adapter is darn', () => {
  before(async () => {
    await reset();
    await vscode.workspace.getConfiguration('go').update('alternateTools', { dlv: darn }, vscode.ConfigurationTarget.Workspace);
  });
  after(async () => {
    await stop();
    await vscode.workspace.getConfiguration('go').update('alternateTools', undefined, vscode.ConfigurationTarget.Workspace);
    await reset();
  });

  it('is patched as one of type darn', async () => {
    const session = await start({
      name: 'tea with go', type: 'go', request: 'launch', mode: 'debug', program: tea.folder, args: [tea.bills('go')],
    });
    await eventually('the bill', () => tea.bill('go'), '3 cups of tea: 7.5 EUR');
    await edit('bill.go', '%d.%d EUR', '%d.%02d EUR');
    await vscode.commands.executeCommand('darn.patch');
    await eventually('the bill', () => tea.bill('go'), '3 cups of tea: 7.05 EUR');
    assert.equal(session.debug.type, 'go');
    assert.equal(session.patches.length, 1);
  });
});
