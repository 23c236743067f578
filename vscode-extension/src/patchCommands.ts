import * as vscode from 'vscode';
import type { Findings } from './findings';
import { t } from './l10n';
import { workspaceModules } from './modules';
import type { Notifier } from './notify';
import { output } from './output';
import type { Node } from './patchesView';
import type { Patch, State } from './protocol';
import type { Session } from './session';
import type { Sessions } from './sessions';
import { receiptWords, stateWord } from './words';

/** A patch of a session. */
export interface Chosen {
  session: Session;
  patch: Patch;
}

/** What commands do with a patch that is there. */
export class PatchCommands {
  constructor(
    private readonly sessions: Sessions,
    private readonly findings: Findings,
    private readonly notifier: Notifier,
  ) {}

  async activate(node?: Node): Promise<void> {
    const chosen = await this.choose(node, ['loaded']);
    if (chosen) {
      await this.run(chosen, t('Patch {0} was not activated', chosen.patch.name), () => chosen.session.activate({ id: chosen.patch.id }));
    }
  }

  async deactivate(node?: Node): Promise<void> {
    const chosen = await this.choose(node, ['active', 'pending']);
    if (chosen) {
      await this.run(chosen, t('Patch {0} was not turned off', chosen.patch.name), () => chosen.session.deactivate(chosen.patch.id));
    }
  }

  async unload(node?: Node): Promise<void> {
    const chosen = await this.choose(node, ['loaded', 'active']);
    if (chosen) {
      await this.run(chosen, t('Patch {0} was not unloaded', chosen.patch.name), async () => {
        if (chosen.session.patch(chosen.patch.id)?.state === 'active') {
          await chosen.session.deactivate(chosen.patch.id);
        }
        await chosen.session.unload(chosen.patch.id);
      });
    }
  }

  async goToSource(node?: Node): Promise<void> {
    const chosen = await this.choose(node, ['loaded', 'active', 'pending']);
    if (!chosen) {
      return;
    }
    const source = (node?.kind === 'function' ? node.function : chosen.patch.functions?.[0])?.source;
    const location = await this.findings.locate(source, chosen.session, await workspaceModules());
    if (location) {
      await vscode.window.showTextDocument(location.uri, { selection: location.range });
      return;
    }
    void vscode.window.showInformationMessage(t(
      'The source {0} is not here. If the program was built elsewhere, say with substitutePath in launch.json where it is.', source ?? ''));
  }

  async refresh(): Promise<void> {
    for (const session of this.sessions.list().filter((s) => s.live)) {
      await session.refresh().catch((error: unknown) => this.notifier.refused(error, session, t('The patches could not be listed')));
    }
  }

  /** The patch that a command means: the node's, the only one in such a state, or the one that the user picks. */
  async choose(node: Node | Chosen | undefined, states: readonly State[]): Promise<Chosen | undefined> {
    if (node && 'patch' in node) {
      return node;
    }
    const all = this.sessions.list().flatMap((session) =>
      session.patches.filter((p) => states.includes(p.state)).map((patch) => ({ session, patch })));
    if (all.length === 0) {
      void vscode.window.showInformationMessage(t('There is no patch that is {0}.', states.map(stateWord).join(t(' or '))));
      return undefined;
    }
    const items = all.map((chosen) => ({
      label: chosen.patch.name, description: `#${chosen.patch.id} · ${stateWord(chosen.patch.state)}`, detail: chosen.session.debug.name, chosen,
    }));
    return (await vscode.window.showQuickPick(items, { placeHolder: t('Which patch?') }))?.chosen;
  }

  private async run({ session }: Chosen, title: string, operation: () => Promise<unknown>): Promise<void> {
    try {
      await operation();
    } catch (error) {
      await this.notifier.refused(error, session, title);
      return;
    }
    if (session.lastReceipt) {
      const words = receiptWords(session.lastReceipt);
      output().info(words);
      vscode.window.setStatusBarMessage(`$(check) ${words}`, 8000);
    }
  }
}
