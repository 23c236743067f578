import * as path from 'node:path';
import * as vscode from 'vscode';
import { build, Cancelled, type BuildOptions } from './build';
import { findCommands } from './cBuild';
import { isC, isCSource } from './cSource';
import type { Findings } from './findings';
import { t } from './l10n';
import { buildPlace, environment, type BuildPlace } from './launch';
import { workspaceModules } from './modules';
import type { Notifier } from './notify';
import { output } from './output';
import { pickSession } from './pickSession';
import { moduleOf } from './place';
import { planActivation } from './plan';
import { Refusal, type BuildResult, type Patch } from './protocol';
import type { Session } from './session';
import type { Sessions } from './sessions';
import { setting } from './settings';
import type { Snapshots } from './snapshots';
import { sweep } from './sweep';
import { functionCount, pauseReason, receiptWords } from './words';

/** The ids of the modules that were built here, by which their patches are known again. */
const builtKey = 'darn.built';
const mostBuilt = 500;

/** What the names of modules end with that are built from one file of several. */
const aloneMark = '-alone';

/** Patches running programs from the edited workspace. */
export class Patcher {
  private running: { abort: AbortController; done: Promise<unknown> } | undefined;
  private readonly state = new vscode.EventEmitter<string | undefined>();

  /** Set while files are saved for a build. */
  saving = false;

  /** Fires with what is being done, undefined when nothing is any more. */
  readonly onDidProgress = this.state.event;

  constructor(
    private readonly sessions: Sessions,
    private readonly snapshots: Snapshots,
    private readonly findings: Findings,
    private readonly notifier: Notifier,
    private readonly memory: vscode.Memento,
    private readonly storage: string,
    private readonly binary: () => string,
  ) {}

  /** The command: builds, inspects, loads and activates. place: where progress is shown. */
  async patch(session?: Session, place = vscode.ProgressLocation.Notification): Promise<Patch | undefined> {
    session ??= await pickSession(this.sessions);
    if (!session) {
      return undefined;
    }
    const chosen = session;
    return this.work(chosen, t('Darn did not patch the program'), async (step, signal) => {
      const loaded = await this.buildAndLoad(chosen, step, signal);
      return loaded && (await this.switchOn(chosen, loaded.patch, loaded.built, step));
    }, place);
  }

  /** Builds the edit and loads it, without activating it. */
  async prepare(session: Session): Promise<Patch | undefined> {
    return this.work(session, t('Darn did not build a patch'), async (step, signal) =>
      (await this.buildAndLoad(session, step, signal))?.patch);
  }

  /** Whether a patch was built from this workspace. */
  readonly own = (patch: Patch): boolean => this.built().includes(patch.module);

  /** Runs one operation at a time, with progress and cancel; a later one ends the one under way. */
  private async work<T>(session: Session, title: string, task: (step: (text: string) => void, signal: AbortSignal) => Promise<T>, location = vscode.ProgressLocation.Notification): Promise<T | undefined> {
    this.running?.abort.abort();
    await this.running?.done;
    const abort = new AbortController();
    const done = vscode.window.withProgress(
      { location, title: t('Patching {0}', session.debug.name), cancellable: true },
      async (progress, token) => {
        token.onCancellationRequested(() => abort.abort());
        return task((message) => {
          this.state.fire(message);
          progress.report({ message });
        }, abort.signal);
      },
    );
    const running = { abort, done: Promise.resolve(done).catch(() => undefined) };
    this.running = running;
    try {
      return await done;
    } catch (error) {
      if (error instanceof Cancelled) {
        vscode.window.setStatusBarMessage(t('Patching was cancelled. The program is as it was.'), 5000);
      } else {
        void this.notifier.refused(error, session, title);
      }
      return undefined;
    } finally {
      if (this.running === running) {
        this.running = undefined;
        this.state.fire(undefined);
      }
    }
  }

  private async buildAndLoad(session: Session, step: (text: string) => void, signal: AbortSignal): Promise<{ patch: Patch; built: BuildResult } | undefined> {
    step(t('building…'));
    const options = await this.options(session, signal);
    output().info(`darn build --pid ${options.pid} in ${options.cwd}${options.base ? ` against ${options.base}` : ''}, ${options.buffers.size} unsaved`);
    let built: BuildResult;
    try {
      built = await build({ ...options, progress: ({ stage }) => step(stage) });
    } catch (error) {
      if (error instanceof Refusal && error.code === 'no-change' && (await this.offerToSwitchOff(session))) {
        return undefined;
      }
      throw error;
    }
    await session.refresh();
    const there = session.patches.find((p) => p.module === built.id);
    if (there) {
      return { patch: there, built };
    }
    step(t('inspecting…'));
    const inspection = await session.request('darn/inspect', { path: built.path });
    if (!inspection.ok) {
      throw new Refusal(t('the patch does not fit the running program'), inspection.findings);
    }
    if (signal.aborted) {
      throw new Cancelled();
    }
    step(t('loading…'));
    const patch = await session.load(built.path);
    if (!patch) {
      throw new Refusal(t('the module was loaded, and the adapter does not say as which patch. Look at the Patches view.'));
    }
    await this.memory.update(builtKey, [...this.built(), built.id].slice(-mostBuilt));
    return { patch, built };
  }

  private async switchOn(session: Session, patch: Patch, built: BuildResult, step: (text: string) => void): Promise<Patch> {
    if (patch.state === 'active') {
      // Never success where nothing has changed.
      this.findings.clear();
      void vscode.window.showInformationMessage(t('Nothing has changed: the program runs this very edit already, as patch {0}.', patch.name));
      return patch;
    }
    step(t('activating…'));
    // A file of C that was built alone has nothing of the other files' edits.
    const alone = session.target?.language === 'c' && built.path.endsWith(`${aloneMark}.so`);
    const plan = planActivation(session.patches, patch.id, (p) => this.own(p) && (!alone || p.name === patch.name));
    const now = (await session.activate({
      id: patch.id,
      ...(plan.replace && { replace: true }),
      ...(setting('stopOnFirstCall') && { stopOnFirstCall: true }),
    })) ?? patch;
    for (const id of plan.off) {
      await session.deactivate(id);
    }
    const receipt = session.receipts.get(patch.id);
    const done = t('Patched {0}: {1} replaced, {2}', session.debug.name,
      functionCount(now.functions?.length ?? 0), receipt ? pauseReason(receipt) : '');
    output().info(`${done}\n${receipt ? receiptWords(receipt) : ''}`);
    vscode.window.setStatusBarMessage(`$(check) ${done}`, 8000);
    const warnings = (built.findings ?? []).filter((f) => f.severity !== 'info');
    if (warnings.length > 0) {
      void this.notifier.warned(warnings, session, done);
    } else {
      this.findings.clear();
    }
    return now;
  }

  /** The source is what the program was built from: then patches of earlier edits may go. */
  private async offerToSwitchOff(session: Session): Promise<boolean> {
    await session.refresh();
    const mine = session.patches.filter((p) => p.state === 'active' && this.own(p));
    if (mine.length === 0) {
      return false;
    }
    const off = t('Turn Off');
    void vscode.window.showInformationMessage(
      t('Nothing to patch: the source is what the program was built from, but patch {0} is active.', mine.map((p) => p.name).join(', ')), off,
    ).then(async (choice) => {
      if (choice === off) {
        for (const p of mine) {
          await session.deactivate(p.id);
        }
      }
    });
    return true;
  }

  private async options(session: Session, signal: AbortSignal): Promise<Omit<BuildOptions, 'progress'>> {
    const { target } = session;
    if (!target) {
      throw new Refusal(t('The program has ended. Start it again.'));
    }
    const a = session.configuration;
    if (target.language === 'c') {
      return this.cOptions(session, signal);
    }
    const place = buildPlace(a) ?? (await this.foundPlace(session));
    const snapshot = await this.snapshots.of(a);
    const scope = vscode.Uri.file(place.cwd);
    const modules = path.join(this.storage, 'modules');
    await sweep(modules);
    return {
      darn: this.binary(),
      pid: target.pid,
      cwd: place.cwd,
      package: place.package,
      base: a.base ?? snapshot?.base ?? setting('base', scope),
      // The file's name is the patch's; a module does not overwrite one that is loaded.
      output: path.join(modules, String(target.pid), Date.now().toString(36), `${path.basename(place.cwd)}.so`),
      buffers: unsaved(),
      partial: setting('partial', scope),
      env: { ...process.env, ...environment(a), ...snapshot?.env },
      signal,
    };
  }

  /** What to build of a program of C or C++. Its compiler reads files: they are saved. */
  private async cOptions(session: Session, signal: AbortSignal): Promise<Omit<BuildOptions, 'progress'>> {
    const a = session.configuration;
    const folder = (session.debug.workspaceFolder ?? vscode.workspace.workspaceFolders?.[0])?.uri.fsPath;
    const shown = vscode.window.activeTextEditor?.document;
    const edited = vscode.workspace.textDocuments.filter((d) => isC(d.languageId) && d.uri.scheme === 'file' && d.isDirty);
    const file = [shown, ...edited].find((d) => d?.uri.scheme === 'file' && isCSource(d.uri.fsPath))?.uri.fsPath;
    const cwd = folder ?? (file && path.dirname(file));
    const commands = cwd === undefined ? undefined : await findCommands(cwd, a.compileCommands);
    if (cwd === undefined || (file === undefined && !commands)) {
      throw new Refusal(t('What was edited is not known: show the edited source file in the editor, or name the compile_commands.json of the program in launch.json.'));
    }
    this.saving = true;
    try {
      for (const d of edited) {
        await d.save();
      }
    } finally {
      this.saving = false;
    }
    const snapshot = await this.snapshots.of(a);
    const modules = path.join(this.storage, 'modules');
    await sweep(modules);
    const name = commands || file === undefined ? path.basename(cwd) : `${path.basename(file, path.extname(file))}${aloneMark}`;
    return {
      darn: this.binary(),
      pid: session.target?.pid ?? 0,
      cwd,
      base: [a.base, snapshot?.base, setting('base', vscode.Uri.file(cwd))].find(Boolean) ?? 'HEAD',
      output: path.join(modules, String(session.target?.pid), Date.now().toString(36), `${name}.so`),
      buffers: new Map(),
      partial: false,
      c: { file: commands ? undefined : file, commands },
      env: { ...process.env, ...snapshot?.env },
      signal,
    };
  }

  /** Where the source of a program is that was not built here. */
  private async foundPlace(session: Session): Promise<BuildPlace> {
    const importPath = session.target?.package ?? '';
    const module = moduleOf(importPath, await workspaceModules());
    const folder = session.debug.workspaceFolder ?? vscode.workspace.workspaceFolders?.[0];
    const cwd = module?.dir ?? folder?.uri.fsPath;
    if (cwd === undefined) {
      throw new Refusal(t('No folder is open: a patch is built from the program\'s source. Open the folder with its go.mod.'));
    }
    return { cwd, package: undefined };
  }

  private built(): string[] {
    return this.memory.get<string[]>(builtKey, []);
  }

  dispose(): void {
    this.running?.abort.abort();
    this.state.dispose();
  }
}

/** The texts of the files that are edited and not saved, by path. */
function unsaved(): Map<string, string> {
  return new Map(vscode.workspace.textDocuments
    .filter((d) => d.isDirty && d.uri.scheme === 'file')
    .map((d) => [d.uri.fsPath, d.getText()]));
}
