import * as vscode from 'vscode';
import { strict as assert } from 'node:assert';
import { execFileSync } from 'node:child_process';
import { cpSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Session } from '../../src/session';
import { eventually } from '../workbench/eventually';
import { extension } from '../workbench/folders';
import { diagnostics, edit, reset, start, stop, tea } from './editor';

const source = 'brew/brew.c';
const wrong = '3 cups of tea: 7.5 EUR';
const right = '3 cups of tea: 7.05 EUR';

/** The first configuration that docs/clients.md has for programs of C. */
function documented(): vscode.DebugConfiguration {
  const text = readFileSync(join(extension, '../docs/clients.md'), 'utf8');
  const [, block] = /### C and C\+\+\n[^]*?```json\n([^]*?)```/.exec(text) ?? [];
  const [first] = (JSON.parse(block ?? '') as { configurations: vscode.DebugConfiguration[] }).configurations;
  assert.ok(first);
  return first;
}

describe('a program of C', () => {
  const folder = join(tea.folder, 'brew');
  const program = join(folder, 'brew');
  let session: Session;
  const bill = (expected: string) => eventually('the bill', () => tea.bill('brewed'), expected);
  const states = () => session.patches.map((p) => p.state).join();
  const patch = () => vscode.commands.executeCommand('darn.patch');
  const line = (text: string) => tea.line(source, text) - 1;

  before(async () => {
    await reset();
    cpSync(join(extension, 'test/targets/brew'), folder, { recursive: true });
    execFileSync('gcc', ['-g', '-O2', '-pthread', '-o', program, join(folder, 'brew.c')]);
    session = await start({ ...documented(), program, args: [tea.bills('brewed')] });
    await bill(wrong);
  });
  after(async () => {
    await stop();
    await reset();
    rmSync(folder, { recursive: true });
  });

  it('has its threads, by their names', async () => {
    const { threads } = await session.debug.customRequest('threads') as { threads: { name: string }[] };
    assert.deepEqual(threads.map((t) => t.name.replace(/ .*/, '')).sort(), ['brew', 'kettle']);
  });

  it('is patched from the file in the editor, which is saved', async () => {
    const document = await edit(source, '%d.%d EUR', '%d.%02d EUR');
    await patch();
    await bill(right);
    assert.ok(readFileSync(document.fileName, 'utf8').includes('%d.%02d EUR'), 'the file was not saved');
    assert.equal(states(), 'active');
    assert.deepEqual(session.patches[0]?.functions?.map((f) => f.name), ['bill']);
  });

  it('shows above its functions that they are patched', async () => {
    const uri = vscode.Uri.file(join(folder, 'brew.c'));
    const lenses = await eventually('lenses',
      async () => vscode.commands.executeCommand<vscode.CodeLens[]>('vscode.executeCodeLensProvider', uri, 100),
      (found) => found.length > 0);
    assert.deepEqual([...new Set(lenses.map((l) => l.range.start.line))], [line('void bill(')]);
  });

  it('has the next edit in place of the last one', async () => {
    await edit(source, 'cups of tea', 'pots of tea');
    await patch();
    await bill('3 pots of tea: 7.05 EUR');
    assert.deepEqual(session.patches.map((p) => p.state), ['loaded', 'active']);
  });

  it('has its old source beside that of a patch', async () => {
    const patch = session.patches.find((p) => p.state === 'active');
    assert.ok(patch);
    await vscode.commands.executeCommand('darn.diff', { kind: 'patch', session, patch });
    const sides = await eventually('the diff',
      () => vscode.window.tabGroups.activeTabGroup.activeTab?.input,
      (input) => input instanceof vscode.TabInputTextDiff) as vscode.TabInputTextDiff;
    const text = async (uri: vscode.Uri) => (await vscode.workspace.openTextDocument(uri)).getText();
    assert.ok((await text(sides.original)).includes('%d cups of tea: %d.%d EUR'));
    assert.ok((await text(sides.modified)).includes('%d pots of tea: %d.%02d EUR'));
  });

  it('is patched when a file is saved, if the setting says so', async () => {
    const set = (value: string | undefined) =>
      vscode.workspace.getConfiguration('darn').update('applyOnSave', value, vscode.ConfigurationTarget.Workspace);
    await set('always');
    try {
      const document = await edit(source, 'pots of tea', 'jugs of tea');
      await document.save();
      await bill('3 jugs of tea: 7.05 EUR');
    } finally {
      await set(undefined);
    }
    const document = await edit(source, 'jugs of tea', 'pots of tea');
    await document.save();
    await patch();
    await bill('3 pots of tea: 7.05 EUR');
  });

  it('is not patched where that can\'t be, and says so at the line', async () => {
    await edit(source, 'int cents; // for each', 'long cents; // for each');
    await patch();
    const said = await eventually('the diagnostics', () => diagnostics(source), (found) => found.length > 0);
    assert.match(said.join('\n'), /type-layout-changed/);
    await bill('3 pots of tea: 7.05 EUR');
  });

  it('is not patched from what does not compile, and says where', async () => {
    await edit(source, 'long cents; // for each', 'int cents; // for each');
    await edit(source, 'tables++;', 'tabels++;');
    await patch();
    const at = `${line('tabels++;') + 1}: compile-error: `;
    await eventually('the diagnostics', () => diagnostics(source), (found) => found.some((d) => d.startsWith(at)));
  });
});
