import { rm } from 'node:fs/promises';
import * as path from 'node:path';
import { builtFolder, type Attributes } from './launch';
import { output } from './output';
import { takeSnapshot, type Snapshot } from './snapshot';
import { sweep } from './sweep';

/** The attribute of a configuration that names the snapshot of its source. */
const attribute = '__darnSnapshot';

/** What the programs were built from that were launched from here. */
export class Snapshots {
  private readonly kept = new Map<string, Promise<Snapshot | undefined>>();
  private readonly folder: string;
  private readonly swept: Promise<void>;
  private n = 0;

  constructor(storage: string) {
    this.folder = path.join(storage, 'snapshots');
    this.swept = sweep(this.folder);
  }

  /** Keeps the source of a program that is about to be built; resolves when it is kept. */
  async take(a: Attributes, workspace?: string): Promise<void> {
    const dir = builtFolder(a, workspace);
    if (dir === undefined) {
      return;
    }
    const id = (a[attribute] as string | undefined) ?? `${process.pid}-${this.n++}`;
    a[attribute] = id;
    const store = path.join(this.folder, id);
    const snapshot = this.swept
      .then(() => rm(store, { recursive: true, force: true }))
      .then(() => takeSnapshot(dir, store))
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
      await rm(path.join(this.folder, id), { recursive: true, force: true });
    }
  }
}
