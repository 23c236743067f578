import { open, readdir, readFile, readlink, stat, type FileHandle } from 'node:fs/promises';
import * as path from 'node:path';

/** A process on this machine. */
export interface Process {
  pid: number;
  name: string;
  exe: string;
  command: string;
}

/** The processes that this user may debug, the latest first. go: only those of Go programs. */
export async function listProcesses(go: boolean): Promise<Process[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const found = await Promise.all(pids.map(async (pid) => {
    try {
      return await describe(pid, go);
    } catch {
      return undefined; // it has ended, or belongs to someone else
    }
  }));
  return found.filter((p) => p !== undefined).sort((a, b) => b.pid - a.pid);
}

async function describe(pid: number, go: boolean): Promise<Process | undefined> {
  if (pid === process.pid) {
    return undefined;
  }
  const owner = (await stat(`/proc/${pid}`)).uid;
  const me = process.getuid?.();
  if (me !== 0 && owner !== me) {
    return undefined;
  }
  const exe = await readlink(`/proc/${pid}/exe`);
  if (go && !(await isGoProgram(`/proc/${pid}/exe`))) {
    return undefined;
  }
  const command = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0').join(' ').trim();
  return { pid, name: path.basename(exe.replace(/ \(deleted\)$/, '')), exe, command };
}

/** The processes that a name means: a program's name, or its path. */
export function processesNamed(name: string, all: readonly Process[]): Process[] {
  return all.filter((p) => p.name === name || p.exe === name);
}

/** Whether a file is an executable that the Go linker made, stripped or not. */
export async function isGoProgram(file: string): Promise<boolean> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(file);
    const header = await bytes(handle, 0, 64);
    if (header.toString('latin1', 0, 4) !== '\x7fELF' || header[4] !== 2) {
      return false;
    }
    const size = header.readUInt16LE(0x3a);
    const count = header.readUInt16LE(0x3c);
    const table = await bytes(handle, Number(header.readBigUInt64LE(0x28)), size * count);
    const names = header.readUInt16LE(0x3e) * size;
    const strings = await bytes(handle, Number(table.readBigUInt64LE(names + 0x18)), Number(table.readBigUInt64LE(names + 0x20)));
    for (let i = 0; i < count; i++) {
      const at = table.readUInt32LE(i * size);
      if (strings.toString('latin1', at, strings.indexOf(0, at)) === '.go.buildinfo') {
        return true;
      }
    }
    return false;
  } catch {
    return false;
  } finally {
    await handle?.close();
  }
}

async function bytes(handle: FileHandle, at: number, n: number): Promise<Buffer> {
  if (n > 1 << 20) {
    throw new Error('too big for a table of sections');
  }
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(n), 0, n, at);
  if (bytesRead < n) {
    throw new Error('too short');
  }
  return buffer;
}
