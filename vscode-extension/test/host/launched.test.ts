import * as vscode from 'vscode';
import { strict as assert } from 'node:assert';
import { readFileSync } from 'node:fs';
import type { Session } from '../../src/session';
import { eventually } from '../workbench/eventually';
import { answers, darnExtension, diagnostics, edit, heard, reset, start, stop, tea } from './editor';

const wrong = '3 cups of tea: 7.5 EUR';
const right = '3 cups of tea: 7.05 EUR';
const fix = ['bill.go', '%d.%d EUR', '%d.%02d EUR'] as const;

describe('a program launched with type darn', () => {
  let session: Session;
  const bill = (expected: string) => eventually('the bill', () => tea.bill('launched'), expected);
  const patch = () => vscode.commands.executeCommand('darn.patch');
  const node = () => ({ kind: 'patch', session, patch: session.patches[0] });
  const states = () => session.patches.map((p) => p.state).join();

  before(async () => {
    await reset();
    session = await start({
      name: 'tea', type: 'darn', request: 'launch', mode: 'debug', program: tea.folder, args: [tea.bills('launched')],
    });
    await bill(wrong);
  });
  after(async () => {
    await stop();
    await reset();
  });

  it('is not patched without an edit, and says so', async () => {
    await patch();
    await eventually('what was said', () => heard.join('\n'), (said) => said.includes('no source file of the program differs'));
    assert.equal(states(), '');
  });

  it('is patched from a buffer that is not saved', async () => {
    const document = await edit(...fix);
    await patch();
    await bill(right);
    assert.ok(document.isDirty);
    assert.ok(readFileSync(document.fileName, 'utf8').includes(fix[1]), 'the file was saved');
    assert.equal(states(), 'active');
    assert.deepEqual(session.patches[0]?.functions?.map((f) => f.name), ['main.bill']);
    assert.ok(session.lastReceipt?.operation, 'no receipt');
  });

  it('is not patched twice with the same edit, and says so', async () => {
    await patch();
    await eventually('what was said', () => heard.join('\n'), (said) => said.includes('Nothing has changed'));
    assert.ok(!heard.some((message) => message.startsWith('$(check)')), heard.join('\n'));
    assert.equal(states(), 'active');
  });

  it('has its patch turned off and on', async () => {
    await vscode.commands.executeCommand('darn.deactivatePatch', node());
    await bill(wrong);
    assert.equal(states(), 'loaded');
    await vscode.commands.executeCommand('darn.activatePatch', node());
    await bill(right);
    assert.equal(states(), 'active');
  });

  it('shows that its functions are patched', async () => {
    const document = await vscode.workspace.openTextDocument(`${tea.folder}/bill.go`);
    const line = document.getText().split('\n').findIndex((text) => text.startsWith('func bill('));
    const lenses = await eventually('lenses',
      async () => vscode.commands.executeCommand<vscode.CodeLens[]>('vscode.executeCodeLensProvider', document.uri, 100),
      (found) => found.length > 0);
    assert.deepEqual(lenses.map((l) => [l.range.start.line, l.command?.title]), [
      [line, 'patched · active · turn off'], [line, 'compare with the old source'],
    ]);
  });

  it('keeps its code when an edit is refused, and the reason stands at the line', async () => {
    await edit('bill.go', 'cups int\n', 'cups int\n\tmilk bool\n');
    await patch();
    const found = await eventually('diagnostics', () => diagnostics('bill.go'), (all) => all.length > 0);
    assert.match(found.join('\n'), /^\d+: type-layout-changed: .*What to do: /m);
    const links = vscode.languages.getDiagnostics(vscode.Uri.file(`${tea.folder}/bill.go`))
      .map(({ code }) => typeof code === 'object' ? code.target.toString() : '').filter((link) => link !== '');
    assert.match(links.join(), /\/refusals\.md#type-layout-changed/);
    await eventually('what was said', () => heard.join('\n'), (said) => /did not patch the program: .*What to do: /.test(said));
    assert.equal(tea.bill('launched'), right);
    assert.equal(states(), 'active');
    await edit('bill.go', 'cups int\n\tmilk bool\n', 'cups int\n');
  });

  it('keeps its code when an edit does not compile, and the error stands at the line', async () => {
    await edit('bill.go', 'total(o)', 'totals(o)');
    await patch();
    const found = await eventually('diagnostics', () => diagnostics('bill.go'), (all) => all.some((d) => d.includes('totals')));
    assert.match(found.join('\n'), new RegExp(`^${tea.line('bill.go', 'total(o)')}: .*undefined: totals`, 'm'));
    assert.equal(tea.bill('launched'), right);
    await edit('bill.go', 'totals(o)', 'total(o)');
  });

  it('keeps its code when the build is cancelled', async () => {
    await edit('bill.go', 'cups of tea', 'pots of tea');
    const { window } = vscode;
    const real = window.withProgress.bind(window);
    const cancel = new vscode.CancellationTokenSource();
    // The editor's own token comes from a button that only a person presses.
    window.withProgress = (options, task) => real(options, (progress) => {
      setTimeout(() => cancel.cancel(), 20);
      return task(progress, cancel.token);
    });
    try {
      await patch();
    } finally {
      window.withProgress = real;
    }
    assert.ok(heard.some((message) => message.includes('cancelled')), heard.join('\n'));
    assert.equal(session.patches.length, 1);
    assert.equal(tea.bill('launched'), right);
    await edit('bill.go', 'pots of tea', 'cups of tea');
  });

  it('has its patch, what that replaces and what it took in the view', async () => {
    const { patches } = (await darnExtension().activate());
    const [row] = await patches.getChildren() ?? [];
    const [patchRow] = await patches.getChildren(row) ?? [];
    const [functionRow] = await patches.getChildren(patchRow) ?? [];
    assert.ok(row && patchRow && functionRow);
    const tip = async (of: typeof row) => {
      const { tooltip } = await patches.getTreeItem(of);
      return typeof tooltip === 'object' ? tooltip.value : tooltip ?? '';
    };
    assert.match(await tip(row), /^tea\npid \d+\ngo1\./);
    assert.match((await tip(patchRow)).replaceAll('&nbsp;', ' '), /is active; it replaces 1 function.*activate took .* [mµ]s/s);
    assert.match(await tip(functionRow), /^main\.bill\n.*bill\.go:\d+\nredirected by .*0x[0-9a-f]+ → 0x/s);
  });

  it('has its patch unloaded', async () => {
    await vscode.commands.executeCommand('darn.unloadPatch', node());
    await bill(wrong);
    assert.equal(states(), '');
  });

  describe('with applyOnSave', () => {
    const set = (value: string | undefined) =>
      vscode.workspace.getConfiguration('darn').update('applyOnSave', value, vscode.ConfigurationTarget.Workspace);
    let broken: vscode.DiagnosticCollection;
    before(async () => {
      broken = vscode.languages.createDiagnosticCollection('another');
      await set('always');
    });
    after(async () => {
      broken.dispose();
      await set(undefined);
    });

    it('is not patched from a file with errors, and says so', async () => {
      const document = await edit('bill.go', 'cups of tea', 'mugs of tea');
      broken.set(document.uri, [new vscode.Diagnostic(new vscode.Range(0, 0, 0, 1), 'an error')]);
      await document.save();
      await eventually('what was said', () => heard.join('\n'), (said) => /Not patched: .*has errors/.test(said));
      assert.equal(states(), '');
      broken.clear();
    });

    it('is patched when a file is saved and the user says so, if that is to be asked', async () => {
      await set('ask');
      answers.push('Patch');
      const document = await edit('bill.go', 'mugs of tea', 'jugs of tea');
      await document.save();
      await bill('3 jugs of tea: 7.05 EUR');
      assert.ok(heard.includes('Patch the running program with what you saved?'), heard.join('\n'));
      await edit('bill.go', 'jugs of tea', 'mugs of tea');
      await set('always');
    });

    it('is patched when a file is saved', async () => {
      const document = await edit('bill.go', 'mugs of tea', 'pots of tea');
      await document.save();
      await bill('3 pots of tea: 7.05 EUR');
      await set(undefined);
    });
  });

  describe('when an edit is refused', () => {
    it('is restarted with it instead, if the user says so', async () => {
      answers.push('Restart Instead');
      await edit('bill.go', 'cups int\n', 'cups int\n\tmilk bool\n');
      await edit('bill.go', 'of tea: ', 'of hot tea: ');
      const { pid } = session.target ?? {};
      await patch();
      await eventually('the bill', () => tea.bill('launched'), (text) => text.includes('of hot tea'));
      await eventually('live sessions', () => session.live, true);
      assert.notEqual(session.target?.pid, pid);
      await eventually('what was said', () => heard.join('\n'), (said) => said.includes('its patches are gone with the old process'));
      assert.equal(states(), '');
    });
  });
});
