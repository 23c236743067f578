import { strict as assert } from 'node:assert';
import { eventually } from '../workbench/eventually';
import { Tea } from '../workbench/tea';
import type { Workbench } from '../workbench/workbench';
import { picture } from './pictures';
import { openWindow } from './setup';

const wrong = '3 cups of tea: 7.5 EUR';
const right = '3 cups of tea: 7.05 EUR';

describe('a program that is launched', () => {
  const tea = Tea.make();
  let wb: Workbench;
  const bill = (expected: string) => eventually('the bill', () => tea.bill('launched'), expected);
  before(async () => {
    wb = await openWindow(tea.folder);
  });

  it('is started from the walkthrough', async () => {
    await wb.command('Darn: Open the Walkthrough');
    const walkthrough = wb.page.locator('.gettingStartedContainer');
    await walkthrough.getByText('Patch a Running Go Program').first().waitFor();
    await walkthrough.getByText('Fix it and patch').waitFor();
    await picture(wb, 'walkthrough');
    await walkthrough.getByRole('button', { name: 'Start Debugging' }).click();
    await bill(wrong);
    await wb.status('no active patch').waitFor();
  });

  it('has no patches at first, and the view says what to do', async () => {
    await wb.showPatches();
    await wb.file('bill.go', 1);
    await wb.pane('Patches').getByRole('button', { name: 'Patch Running Program' }).first().waitFor();
    await picture(wb, 'empty');
  });

  it('is patched from an edit that is not saved', async () => {
    const line = tea.line('bill.go', 'fmt.Sprintf');
    await wb.file('bill.go');
    await wb.typeLine(line, '\treturn fmt.Sprintf("%d cups of tea: %d.%02d EUR", o.cups, cents/100, cents%100)');
    await wb.toolbar('Patch Running Program').click();
    await bill(right);
    await wb.status(/1 patch active · .*pause/).waitFor();
    await wb.codeLens('patched · active · turn off').waitFor();
    await wb.row('Patches', /active/).waitFor();
    await wb.row('Patches', 'main.bill').waitFor();
    await wb.page.locator('.tab.active.dirty').waitFor();
    await picture(wb, 'patched');
  });

  it('says so when nothing has changed', async () => {
    await wb.page.keyboard.press('Alt+F10');
    await wb.toast('Nothing has changed').waitFor();
    await wb.clearToasts();
  });

  it('has its patch turned off above the function, and on in the view', async () => {
    await wb.codeLens('turn off').click();
    await bill(wrong);
    await wb.codeLens('patched · off · turn on').waitFor();
    await wb.status('no active patch').waitFor();
    await picture(wb, 'off');
    await wb.inline(wb.row('Patches', /#\d+ · off/), 'Activate Patch');
    await bill(right);
    await wb.row('Patches', /#\d+ · active/).waitFor();
  });

  it('shows the old and the new source side by side', async () => {
    await wb.codeLens('compare with the old source').click();
    await wb.tab('old ↔ patch').waitFor();
    const sides = wb.page.locator('.monaco-diff-editor');
    await sides.locator('.original .view-line', { hasText: '%d.%d' }).waitFor();
    await sides.locator('.modified .view-line', { hasText: '%d.%02d' }).waitFor();
    await picture(wb, 'diff');
    await wb.command('View: Close Editor');
    await wb.tab('old ↔ patch').waitFor({ state: 'hidden' });
  });

  it('keeps its code when an edit is refused, and the window says why', async () => {
    const line = tea.line('bill.go', '\tcups int');
    await wb.file('bill.go');
    await wb.typeLine(line, '\tcups, milk int');
    await wb.toolbar('Patch Running Program').click();
    const toast = /did not patch the program.*What to do/;
    await wb.toast(toast).waitFor();
    for (const button of ['Show', 'Restart Instead', "Don't Show Again for This Reason"]) {
      await wb.toastButton(toast, button).waitFor();
    }
    await wb.page.locator('.squiggly-error').first().waitFor();
    await picture(wb, 'refused');
    await wb.toastButton(toast, 'Show').click();
    await wb.page.locator('.markers-panel .monaco-list-row', { hasText: 'type-layout-changed' }).first().waitFor();
    assert.equal(tea.bill('launched'), right);
    await picture(wb, 'problems');
    await wb.typeLine(line, '\tcups int');
  });

  it('has its patch unloaded', async () => {
    await wb.inline(wb.row('Patches', /#\d+ · active/), 'Unload Patch');
    await bill(wrong);
    await wb.pane('Patches').getByRole('button', { name: 'Patch Running Program' }).first().waitFor();
  });

  it('ends with its session', async () => {
    await wb.page.keyboard.press('Shift+F5');
    await wb.page.locator('.debug-toolbar').waitFor({ state: 'hidden' });
    await wb.status('no active patch').waitFor({ state: 'hidden' });
  });
});
