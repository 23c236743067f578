import { Tea } from '../workbench/tea';
import { eventually } from '../workbench/eventually';
import { openWindow } from './setup';

describe('debugger type darn', function () {
  this.timeout(120_000);
  it('launches a program', async () => {
    const tea = new Tea();
    const wb = await openWindow(tea.folder);
    await wb.file('bill.go', tea.line('bill.go', 'return fmt'));
    await wb.page.keyboard.press('F5');
    await eventually('the bill', () => tea.bill('launched'), '3 cups of tea: 7.5 EUR');
  });
});
