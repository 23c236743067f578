import * as vscode from 'vscode';
import { t } from './l10n';
import { listProcesses, processesNamed, type Process } from './processes';

/** The command behind ${command:pickProcess}: the id of a process, as a string. */
export async function pickProcess(): Promise<string | undefined> {
  const go = await listProcesses(true);
  const picked = await choose(go, true);
  return picked === undefined ? undefined : String(picked);
}

/** The id that the attribute processId means: a number, a program's name, or nothing yet. */
export async function processId(given: number | string | undefined): Promise<number | undefined> {
  const text = String(given ?? 0).trim();
  if (/^\d+$/.test(text)) {
    return Number(text) > 0 ? Number(text) : choose(await listProcesses(true), true);
  }
  if (text === '') {
    return undefined;
  }
  const named = processesNamed(text, await listProcesses(false));
  if (named.length === 0) {
    throw new Error(t('no process runs a program named {0}. Start it, or give its id as processId.', text));
  }
  return named.length === 1 ? named[0]?.pid : choose(named, false);
}

async function choose(processes: readonly Process[], others: boolean): Promise<number | undefined> {
  interface Item extends vscode.QuickPickItem { pid?: number }
  const items: Item[] = processes.map((p) => ({ label: p.name, description: String(p.pid), detail: p.command, pid: p.pid }));
  if (others) {
    items.push({ label: t('$(list-unordered) Show All Processes…'), alwaysShow: true });
  }
  const picked = await vscode.window.showQuickPick(items, {
    placeHolder: processes.length > 0 ? t('Which program?') : t('No Go program of yours is running'),
    matchOnDescription: true, matchOnDetail: true,
  });
  return picked && others && picked.pid === undefined ? choose(await listProcesses(false), false) : picked?.pid;
}
