import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { eventually } from '../workbench/eventually';
import { Tea } from '../workbench/tea';
import type { Workbench } from '../workbench/workbench';
import { openWindow } from './setup';

describe('the Go extension with darn as its dlv', () => {
  const tea = Tea.make();
  let wb: Workbench;
  const bill = (expected: string) => eventually('the bill', () => tea.bill('go'), expected);

  before(async () => {
    tea.configure([{ name: 'Tea with Go', type: 'go', request: 'launch', mode: 'debug', program: '${workspaceFolder}', args: [tea.bills('go')] }]);
    wb = await openWindow(tea.folder);
  });

  it('is set up by a command', async () => {
    await wb.command('Darn: Use Darn with the Go Extension');
    await wb.pick('For This Workspace');
    await wb.toast('now starts Darn in place of Delve').waitFor();
    const settings = readFileSync(join(tea.folder, '.vscode/settings.json'), 'utf8');
    const { dlv } = (JSON.parse(settings) as Record<string, Record<string, string>>)['go.alternateTools'] ?? {};
    await eventually('the tool', () => dlv?.endsWith('darn'), true);
    await wb.clearToasts();
  });

  it('patches the program of a session', async () => {
    await wb.file('bill.go', tea.line('bill.go', 'fmt.Sprintf'));
    await wb.page.keyboard.press('F5');
    await bill('3 cups of tea: 7.5 EUR');
    await wb.status('no active patch').waitFor();
    await wb.typeLine(tea.line('bill.go', 'fmt.Sprintf'), '\treturn fmt.Sprintf("%d cups of tea: %d.%02d EUR", o.cups, cents/100, cents%100)');
    await wb.toolbar('Patch Running Program').click();
    await bill('3 cups of tea: 7.05 EUR');
    await wb.status(/1 patch active/).waitFor();
    await wb.page.keyboard.press('Shift+F5');
    await wb.page.locator('.debug-toolbar').waitFor({ state: 'hidden' });
  });
});
