import * as path from 'node:path';

/** A line of a file; lines count from 1. */
export interface Place {
  file: string;
  line: number;
  /** 0 if it is not known */
  column: number;
}

/** Reads "file:line" or "file:line:column". */
export function parsePlace(source: string | undefined): Place | undefined {
  const m = /^(.+?):(\d+)(?::(\d+))?$/.exec(source ?? '');
  return m ? { file: m[1] ?? '', line: Number(m[2]), column: Number(m[3] ?? 0) } : undefined;
}

/** A rule of substitutePath: the editor's path and the program's. */
export interface Substitution {
  from: string;
  to: string;
}

/** A Go module: its path and its folder. */
export interface Module {
  path: string;
  dir: string;
}

const under = (file: string, dir: string, sep: string) =>
  dir !== '' && (file === dir || file.startsWith(dir.endsWith(sep) ? dir : dir + sep));

/**
 * The file in the editor that the program names so. Programs that were built
 * with -trimpath name files by import path: those are looked for in modules.
 */
export function localFile(file: string, rules: readonly Substitution[], modules: readonly Module[]): string | undefined {
  for (const { from, to } of rules) {
    if (under(file, to, '/') || (to === '' && !path.isAbsolute(file))) {
      return path.join(from, file.slice(to.length));
    }
  }
  if (path.isAbsolute(file)) {
    return file;
  }
  for (const m of modules) {
    const trimmed = file.replace(/^([^@]+)@[^/]+/, '$1');
    if (under(trimmed, m.path, '/')) {
      return path.join(m.dir, trimmed.slice(m.path.length));
    }
  }
  return undefined;
}

/** The path of the module that a go.mod declares, '' if it declares none. */
export function modulePath(goMod: string): string {
  return /^\s*module\s+"?([^\s"]+)"?/m.exec(goMod)?.[1] ?? '';
}

/** The module with a package, the one with the longest path if there are several. */
export function moduleOf(importPath: string, modules: readonly Module[]): Module | undefined {
  return modules
    .filter((m) => under(importPath, m.path, '/'))
    .sort((a, b) => b.path.length - a.path.length)[0];
}
