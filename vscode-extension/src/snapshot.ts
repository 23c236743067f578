import { constants } from 'node:fs';
import { copyFile, cp, mkdir, readdir, readFile, stat } from 'node:fs/promises';
import * as path from 'node:path';
import { exec } from './exec';

/**
 * The source as it was when a program was built from it. Programs that an editor
 * builds are mostly built from source that is not committed; so it is kept.
 */
export interface Snapshot {
  /** For `darn build --base`. */
  base: string;
  /** For the environment of `darn build`. */
  env: Record<string, string>;
}

/** Untracked files above this size are no source. */
const largest = 4 << 20;

/** The most files that are copied where there is no git repository. */
const most = 20_000;

/**
 * Keeps the source around dir in the folder store, which must not exist yet: that
 * of the git repository, or else of the workspace or the module. Nothing is
 * written anywhere else. Undefined if there is too much of it, or no module; with
 * whole dir itself is taken where there is no repository.
 */
export async function takeSnapshot(dir: string, store: string, whole = false): Promise<Snapshot | undefined> {
  return (await gitSnapshot(dir, store)) ?? (await copySnapshot(dir, store, whole));
}

/** A commit of the working tree whose objects lie in store. */
async function gitSnapshot(dir: string, store: string): Promise<Snapshot | undefined> {
  const run = async (args: string[], cwd: string, env: Record<string, string> = {}) => {
    const ended = await exec('git', args, { cwd, env: { ...process.env, ...env, GIT_OPTIONAL_LOCKS: '0', LC_ALL: 'C' } });
    if (ended.status !== 0) {
      throw new Error(ended.stderr);
    }
    return ended.stdout;
  };
  try {
    const top = (await run(['rev-parse', '--show-toplevel'], dir)).trim();
    const head = (await run(['rev-parse', '--verify', '--quiet', 'HEAD'], dir)).trim();
    const changed = await run(['status', '--porcelain', '--untracked-files=all', '-z'], top);
    if (changed === '') {
      return { base: head, env: {} };
    }
    const objects = path.resolve(top, (await run(['rev-parse', '--git-path', 'objects'], top)).trim());
    const index = path.resolve(top, (await run(['rev-parse', '--git-path', 'index'], top)).trim());
    await mkdir(path.join(store, 'objects'), { recursive: true });
    await copyFile(index, path.join(store, 'index'));
    const alternates = [objects, process.env.GIT_ALTERNATE_OBJECT_DIRECTORIES].filter(Boolean).join(':');
    const own = {
      GIT_INDEX_FILE: path.join(store, 'index'),
      GIT_OBJECT_DIRECTORY: path.join(store, 'objects'),
      GIT_ALTERNATE_OBJECT_DIRECTORIES: alternates,
      GIT_AUTHOR_NAME: 'darn', GIT_AUTHOR_EMAIL: 'darn@localhost',
      GIT_COMMITTER_NAME: 'darn', GIT_COMMITTER_EMAIL: 'darn@localhost',
    };
    await run(['add', '--update'], top, own);
    const others = (await run(['ls-files', '--others', '--exclude-standard', '-z'], top)).split('\0');
    const source: string[] = [];
    for (const file of others) {
      const st = file === '' ? undefined : await stat(path.join(top, file)).catch(() => undefined);
      if (st?.isFile() && st.size <= largest) {
        source.push(file);
      }
    }
    for (let i = 0; i < source.length; i += 500) {
      await run(['add', '--', ...source.slice(i, i + 500).map((f) => `:(literal)${f}`)], top, own);
    }
    const tree = (await run(['write-tree'], top, own)).trim();
    const commit = (await run(['commit-tree', tree, '-p', head, '-m', 'as it was built'], top, own)).trim();
    const lent = process.env.GIT_ALTERNATE_OBJECT_DIRECTORIES;
    return {
      base: commit,
      env: { GIT_ALTERNATE_OBJECT_DIRECTORIES: [own.GIT_OBJECT_DIRECTORY, lent].filter(Boolean).join(':') },
    };
  } catch {
    return undefined; // no git, no repository, or no commit in it
  }
}

/** A copy of the workspace's or the module's folder. */
async function copySnapshot(dir: string, store: string, whole: boolean): Promise<Snapshot | undefined> {
  const root = whole ? dir : (await above(dir, 'go.work')) ?? (await above(dir, 'go.mod'));
  if (!root || (await countFiles(root, most)) >= most) {
    return undefined;
  }
  const folder = path.join(store, 'tree');
  await mkdir(folder, { recursive: true });
  await cp(root, folder, {
    recursive: true,
    mode: constants.COPYFILE_FICLONE,
    filter: async (file) => !skipped.has(path.basename(file)) && !file.startsWith(store) && (await isSource(file)),
  });
  return { base: folder, env: {} };
}

const skipped = new Set(['.git', 'node_modules']);

async function isSource(file: string): Promise<boolean> {
  const st = await stat(file).catch(() => undefined);
  return st !== undefined && (st.isDirectory() || (st.isFile() && st.size <= largest));
}

async function countFiles(dir: string, limit: number): Promise<number> {
  let n = 0;
  for (const entry of await readdir(dir, { withFileTypes: true }).catch(() => [])) {
    if (n >= limit) {
      break;
    }
    n += entry.isDirectory() && !skipped.has(entry.name) ? await countFiles(path.join(dir, entry.name), limit - n) : 1;
  }
  return n;
}

/** The next folder above dir, or dir itself, that holds a file. */
export async function above(dir: string, name: string): Promise<string | undefined> {
  for (let d = path.resolve(dir); ; d = path.dirname(d)) {
    if ((await readFile(path.join(d, name)).catch(() => undefined)) !== undefined) {
      return d;
    }
    if (d === path.dirname(d)) {
      return undefined;
    }
  }
}
