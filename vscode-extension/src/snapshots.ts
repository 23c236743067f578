import { rm, stat } from 'node:fs/promises';
import * as path from 'node:path';
import { isForeign } from './cBuild';
import { builtFolder, type Attributes } from './launch';
import { output } from './output';
import { takeSnapshot, type Snapshot } from './snapshot';
import { sweep } from './sweep';

/** The attribute of a configuration that names the snapshot of its source. */
const attribute = '__darnSnapshot';

/** The attribute of a configuration that names the folder with the source of a program of C. */
const folderAttribute = '__darnSource';

/** What the programs were built from that were launched from here. */
export class Snapshots {
  private readonly kept = new Map<string, Promise<Snapshot | undefined>>();
  /** When the program was built that a snapshot is of, if it was not built here. */
  private readonly builds = new Map<string, number>();
  private readonly folder: string;
  private readonly swept: Promise<void>;
  private n = 0;

  constructor(storage: string) {
    this.folder = path.join(storage, 'snapshots');
    this.swept = sweep(this.folder);
  }

  /** Keeps the source of a program that is about to be built; resolves when it is kept. */
  async take(a: Attributes, workspace?: string): Promise<void> {
    const foreign = await foreignFolder(a, workspace);
    const dir = foreign?.folder ?? builtFolder(a, workspace);
    if (dir === undefined) {
      return;
    }
    const id = (a[attribute] as string | undefined) ?? `${process.pid}-${this.n++}`;
    a[attribute] = id;
    if (foreign) {
      if (this.builds.get(id) === foreign.built) {
        return; // the source may have changed since, the program has not
      }
      this.builds.set(id, foreign.built);
    }
    const store = path.join(this.folder, id);
    const snapshot = this.swept
      .then(() => rm(store, { recursive: true, force: true }))
      .then(() => takeSnapshot(dir, store, foreign !== undefined))
      .catch((error: unknown) => {
        output().warn(`the source of ${dir} was not kept: ${String(error)}`);
        return undefined;
      });
    this.kept.set(id, snapshot);
    await snapshot;
  }

  /** What a program was built from; undefined if that is not known here. */
  async of(a: Attributes): Promise<Snapshot | undefined> {
    return this.kept.get(String(a[attribute]));
  }

  /** Forgets what a program was built from that has ended. */
  async drop(a: Attributes): Promise<void> {
    const id = a[attribute];
    if (typeof id === 'string' && this.kept.delete(id)) {
      this.builds.delete(id);
      await rm(path.join(this.folder, id), { recursive: true, force: true });
    }
  }
}

/**
 * Where the source of a program is that is run and not built here, if that is not Go,
 * which names its source itself; and when it was built.
 */
async function foreignFolder(a: Attributes, workspace: string | undefined): Promise<{ folder: string; built: number } | undefined> {
  if (a.request !== 'launch' || a.mode !== 'exec' || !a.program) {
    return undefined;
  }
  const folder = (a[folderAttribute] ??= workspace);
  if (typeof folder !== 'string' || !(await isForeign(a.program))) {
    return undefined;
  }
  return { folder, built: (await stat(a.program)).mtimeMs };
}
