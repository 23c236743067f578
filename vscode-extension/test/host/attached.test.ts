import * as vscode from 'vscode';
import { strict as assert } from 'node:assert';
import type { Session } from '../../src/session';
import { eventually } from '../workbench/eventually';
import { answers, edit, heard, reset, start, stop, tea } from './editor';

const wrong = '3 cups of tea: 7.5 EUR';
const right = '3 cups of tea: 7.05 EUR';

/** The module of a fix, built once. */
let zeros: string | undefined;
const module = () => zeros ??= tea.module('zeros', '%d.%d EUR', '%d.%02d EUR');

describe('a program that runs already', () => {
  let program: ReturnType<typeof tea.run>;
  let session: Session;
  const bill = (expected: string) => eventually('the bill', () => tea.bill('attached'), expected);
  const attach = () => start({ name: 'running tea', type: 'darn', request: 'attach', mode: 'local', processId: program.pid });
  const first = () => {
    const [patch] = session.patches;
    assert.ok(patch, 'there is no patch');
    return patch;
  };
  const states = () => session.patches.map((p) => p.state).join();

  before(async () => {
    await reset();
    module();
    program = tea.run('attached');
    await bill(wrong);
    session = await attach();
  });
  after(async () => {
    await stop();
    await program.stop();
    await reset();
  });

  it('takes a module that was built before', async () => {
    const patch = await session.load(module());
    assert.equal(patch?.name, 'zeros');
    assert.equal(states(), 'loaded');
    await session.activate({ id: patch.id });
    await bill(right);
  });

  it('keeps its patch when the session ends, and the next session finds it', async () => {
    await stop();
    await bill(right);
    session = await attach();
    await eventually('patches', states, 'active');
    assert.equal(first().name, 'zeros');
    await session.deactivate(first().id);
    await bill(wrong);
  });

  it('is patched when it reaches a line, without a stop', async () => {
    const id = first().id;
    await session.activate({ id, at: { path: `${tea.folder}/main.go`, line: tea.line('main.go', 'write(os.Args[1], text)') } });
    await bill(right);
    await eventually('patches', states, 'active');
    assert.equal(vscode.debug.activeStackItem instanceof vscode.DebugStackFrame, false);
    await session.deactivate(id);
    await bill(wrong);
  });

  it('waits for a line, which is shown until that is over', async () => {
    const line = tea.line('main.go', 'write(os.Args[1], text)');
    const { window } = vscode;
    const real = { showQuickPick: window.showQuickPick.bind(window), showInputBox: window.showInputBox.bind(window) };
    const show = window.setStatusBarMessage.bind(window);
    const shown: { text: string; ended: boolean }[] = [];
    // A person's choices: the patch, the option that counts hits, and how many.
    const picks = [(items: { label: string }[]) => items[0], (items: { label: string }[]) => items.slice(1)];
    Object.assign(window, {
      showQuickPick: (items: { label: string }[]) => Promise.resolve(picks.shift()?.(items)),
      showInputBox: () => Promise.resolve('> 1000000'),
      setStatusBarMessage: (text: string, over: unknown) => {
        const message = { text, ended: false };
        shown.push(message);
        assert.ok(over instanceof Promise, 'the message is not to end with the waiting');
        void over.then(() => {
          message.ended = true;
        });
        return show(text, over);
      },
    });
    try {
      await vscode.commands.executeCommand('darn.activateHere', { uri: vscode.Uri.file(`${tea.folder}/main.go`), lineNumber: line });
    } finally {
      Object.assign(window, { ...real, setStatusBarMessage: show });
    }
    assert.equal(states(), 'pending');
    assert.deepEqual(shown, [{ text: `$(watch) Patch zeros waits for main.go:${line}`, ended: false }]);
    await vscode.commands.executeCommand('darn.deactivatePatch', { kind: 'patch', session, patch: first() });
    assert.equal(states(), 'loaded');
    await eventually('the message', () => shown[0]?.ended, true);
  });

  it('stops at the first call of the new code', async () => {
    const id = first().id;
    await session.activate({ id, stopOnFirstCall: true });
    const frame = await eventually('the active frame', () => vscode.debug.activeStackItem,
      (item) => item instanceof vscode.DebugStackFrame) as vscode.DebugStackFrame;
    const { stackFrames } = await frame.session.customRequest('stackTrace', { threadId: frame.threadId }) as { stackFrames: { name: string }[] };
    assert.equal(stackFrames[0]?.name, 'main.bill');
    await vscode.commands.executeCommand('workbench.action.debug.continue');
    await bill(right);
  });

  it('is patched from the source of git\'s revision', async () => {
    await edit('bill.go', 'cups of tea', 'pots of tea');
    await vscode.commands.executeCommand('darn.patch');
    await bill('3 pots of tea: 7.5 EUR');
  });
});

describe('a program that no thread of Darn\'s may be in', () => {
  const bill = (expected: string) => eventually('the bill', () => tea.bill('again'), expected);
  let session: Session;
  before(async () => {
    await reset();
    session = await start({
      name: 'old tea', type: 'darn', request: 'launch', mode: 'exec', program: tea.executable, args: [tea.bills('again')], darnResident: 'never',
    });
  });
  after(async () => {
    await stop();
    await reset();
  });

  it('is paused for its first patch, which the receipt gives the reason of', async () => {
    const patch = await session.load(module());
    assert.ok(patch);
    await session.activate({ id: patch.id });
    await bill(right);
    assert.match(session.lastReceipt?.haltedBecause ?? '', /resident/);
  });

  it('has its patches applied again when it is restarted, if the user says so', async () => {
    answers.push('Apply Again');
    await vscode.commands.executeCommand('workbench.action.debug.restart');
    await eventually('what was said', () => heard.join('\n'), (said) => said.includes('its patches are gone with the old process'));
    await eventually('patches', () => session.patches.map((p) => `${p.name} ${p.state}`).join(), 'zeros active');
    await bill(right);
  });
});
