import * as path from 'node:path';
import { t } from './l10n';

/** A launch configuration's attributes that Darn reads; the rest is Delve's. */
export interface Attributes {
  name: string;
  type: string;
  request: string;
  mode?: string;
  program?: string;
  cwd?: string;
  dlvCwd?: string;
  env?: Record<string, string | null>;
  envFile?: string | string[];
  processId?: number | string;
  base?: string;
  compileCommands?: string;
  [other: string]: unknown;
}

/** What the editor shows while a program is to be started. */
export interface Surroundings {
  /** The workspace folder, undefined if there is none. */
  folder?: string | undefined;
  /** The file in the active editor, if that is Go. */
  activeFile?: string | undefined;
}

/** What is debugged if nothing is configured. Undefined if there is no Go to debug. */
export function defaultAttributes(s: Surroundings): Attributes | undefined {
  const program = s.activeFile ? path.dirname(s.activeFile) : s.folder;
  return program === undefined
    ? undefined
    : { name: 'Darn: Debug', type: 'darn', request: 'launch', mode: 'auto', program };
}

/** Fills in what may be left out. Variables may still be in it. */
export function completeAttributes(given: Attributes, s: Surroundings): Attributes {
  const a = { ...given };
  if (a.request === 'attach') {
    a.mode ??= 'local';
    a.processId ??= 0;
    return a;
  }
  if (a.mode === undefined || a.mode === 'auto') {
    a.mode = (a.program?.endsWith('_test.go') ?? s.activeFile?.endsWith('_test.go')) ? 'test' : 'debug';
  }
  a.program ??= s.activeFile && a.mode !== 'exec' ? path.dirname(s.activeFile) : s.folder ?? '';
  return a;
}

/**
 * Makes paths absolute, once variables are replaced, and merges the variables of
 * the files. Throws what is wrong, in words.
 */
export function resolveAttributes(given: Attributes, s: Surroundings, files: readonly Record<string, string>[]): Attributes {
  const a = { ...given };
  const absolute = (file: string) => path.resolve(s.folder ?? '/', file.replace(/^~(?=\/|$)/, process.env.HOME ?? '~'));
  if (a.request === 'attach') {
    return a;
  }
  if (!['debug', 'test', 'exec'].includes(a.mode ?? '')) {
    throw new Error(t('mode is "{0}". Darn launches with mode debug, test or exec; for another, use the Go extension.', String(a.mode)));
  }
  if (!a.program) {
    throw new Error(a.mode === 'exec'
      ? t('program is missing: give the path of the executable to run.')
      : t('There is no program to debug. Open a Go file, or set program in launch.json.'));
  }
  a.program = absolute(a.program);
  if (a.mode !== 'exec' && a.program.endsWith('.go')) {
    a.program = path.dirname(a.program);
  }
  // The go command has to run in the program's module.
  a.dlvCwd = a.dlvCwd ? absolute(a.dlvCwd) : a.mode === 'exec' ? path.dirname(a.program) : a.program;
  if (a.mode === 'exec') {
    a.rebuild ??= false; // a restart passes this on: Delve would try to, which fails and ends the session
  }
  if (a.cwd) {
    a.cwd = absolute(a.cwd);
  } else {
    delete a.cwd;
  }
  const merged = Object.assign({}, ...files, a.env) as Record<string, string | null>;
  if (Object.keys(merged).length > 0) {
    a.env = merged;
  }
  delete a.envFile;
  return a;
}

/**
 * The folder of the package that is built at a launch; undefined if none is built.
 * The Go extension's programs are relative to the folder that it builds in.
 */
export function builtFolder(a: Attributes, workspace = '/'): string | undefined {
  if (a.request !== 'launch' || (a.mode !== 'debug' && a.mode !== 'test') || !a.program) {
    return undefined;
  }
  const from = a.__buildDir ?? a.dlvCwd ?? workspace;
  const program = path.resolve(workspace, typeof from === 'string' ? from : '', a.program);
  return program.endsWith('.go') ? path.dirname(program) : program;
}

/** The variables that a configuration sets for its program and its build. */
export function environment(a: Attributes): Record<string, string> {
  return Object.fromEntries(Object.entries(a.env ?? {}).filter((e): e is [string, string] => e[1] !== null));
}

/** Where to build a patch, and of which package. */
export interface BuildPlace {
  cwd: string;
  /** Undefined: what the program's build information names. */
  package: string | undefined;
}

/** Where the source of a program is that was launched so; undefined if that says nothing. */
export function buildPlace(a: Attributes): BuildPlace | undefined {
  const cwd = builtFolder(a);
  return cwd === undefined ? undefined : { cwd, package: undefined };
}
