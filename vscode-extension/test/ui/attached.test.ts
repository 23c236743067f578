import { eventually } from '../workbench/eventually';
import { Tea } from '../workbench/tea';
import type { Workbench } from '../workbench/workbench';
import { picture } from './pictures';
import { openWindow } from './setup';

const wrong = '3 cups of tea: 7.5 EUR';
const right = '3 cups of tea: 7.05 EUR';

describe('a program that is attached to', () => {
  const tea = Tea.make();
  let program: ReturnType<Tea['run']>;
  let wb: Workbench;
  const bill = (expected: string) => eventually('the bill', () => tea.bill('attached'), expected);

  before(async () => {
    tea.module('zeros', '%d.%d EUR', '%d.%02d EUR');
    program = tea.run('attached');
    await bill(wrong);
    tea.configure([{ name: 'Attach to tea', type: 'darn', request: 'attach', mode: 'local', processId: program.pid }]);
    wb = await openWindow(tea.folder);
    await wb.file('bill.go', 1);
    await wb.page.keyboard.press('F5');
    await wb.status('no active patch').waitFor();
    await wb.showPatches();
  });
  after(() => program.stop());

  it('takes a module from a file, after showing what it does', async () => {
    await wb.command('Darn: Load Patch Module…');
    await wb.pick('zeros.so');
    const dialog = wb.page.locator('.monaco-dialog-box');
    await dialog.getByText('It fits the running program').waitFor();
    await dialog.getByText('main.bill').first().waitFor();
    await picture(wb, 'inspection');
    await dialog.getByRole('button', { name: 'Load and Activate' }).click();
    await bill(right);
    await wb.row('Patches', /zeros.*#1 · active/).waitFor();
  });

  it('keeps its patch without a debugger, and the next session shows it', async () => {
    await wb.page.keyboard.press('Shift+F5');
    await wb.page.locator('.debug-toolbar').waitFor({ state: 'hidden' });
    await bill(right);
    await wb.page.keyboard.press('F5');
    await wb.row('Patches', /zeros.*#1 · active/).waitFor();
    await wb.status('1 patch active').waitFor();
    await picture(wb, 'attached');
    await wb.inline(wb.row('Patches', /zeros/), 'Turn Off Patch');
    await bill(wrong);
  });

  it('is patched where the developer says, and stops at the first call', async () => {
    const line = tea.line('main.go', 'write(os.Args[1], text)');
    await wb.file('main.go', line);
    await wb.lineMenu(line, 'Activate Patch Here…');
    await wb.pick('zeros');
    const stop = 'Stop on the first patched call';
    await wb.quickRow(stop).waitFor();
    await picture(wb, 'here');
    await wb.check(stop);
    await wb.page.keyboard.press('Enter');
    await wb.page.locator('.debug-call-stack .stack-frame', { hasText: 'main.bill' }).first().waitFor();
    await wb.tab('bill.go').waitFor();
    await wb.page.locator('.debug-top-stack-frame-line').first().waitFor();
    await picture(wb, 'stopped');
    await wb.page.keyboard.press('F5');
    await bill(right);
    await wb.row('Patches', /zeros.*active/).waitFor();
  });
});
