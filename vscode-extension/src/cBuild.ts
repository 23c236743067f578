import { access, readFile, stat } from 'node:fs/promises';
import * as path from 'node:path';

/** What to build of a program of C or C++. */
export interface CEdit {
  /** The edited file; undefined for all that the compilation database is about. */
  file: string | undefined;
  /** The compilation database. */
  commands: string | undefined;
}

/** The name of a compilation database. */
const database = 'compile_commands.json';

/** The compilation database of a folder: the one that is named, or where build tools put it. */
export async function findCommands(folder: string, named: string | undefined): Promise<string | undefined> {
  if (named) {
    return path.resolve(folder, named);
  }
  for (const file of [path.join(folder, database), path.join(folder, 'build', database)]) {
    if (await access(file).then(() => true, () => false)) {
      return file;
    }
  }
  return undefined;
}

/** What Go's linker puts into each of its programs, before what it was built from. */
const goMark = Buffer.from('\xff Go buildinf:', 'latin1');

/** Programs above this size are not searched: who debugs them names the source they are built from. */
const largest = 512 << 20;

/** Whether a file is an executable of another language than Go, as C. */
export async function isForeign(program: string): Promise<boolean> {
  try {
    if ((await stat(program)).size > largest) {
      return false;
    }
    const data = await readFile(program);
    return data.subarray(0, 4).equals(Buffer.from('\x7fELF')) && !data.includes(goMark);
  } catch {
    return false;
  }
}
