import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import * as os from 'node:os';
import * as path from 'node:path';
import type { CEdit } from './cBuild';
import { exec } from './exec';
import { t } from './l10n';
import { parsePlace } from './place';
import { Refusal, type BuildResult, type Finding } from './protocol';

/** What to build a module from. */
export interface BuildOptions {
  darn: string;
  pid: number;
  /** The folder to build in. */
  cwd: string;
  /** The main package, undefined for what the program's build information names. */
  package?: string | undefined;
  /** A revision or a folder with the source that the program was built from. */
  base?: string | undefined;
  /** The file to write the module to. */
  output: string;
  /** Texts that stand for files, by path: buffers that are not saved. */
  buffers: ReadonlyMap<string, string>;
  partial: boolean;
  /** Of a program of C or C++: what was edited. Its files must be saved. */
  c?: CEdit | undefined;
  env?: NodeJS.ProcessEnv;
  signal: AbortSignal;
  progress: (step: Step) => void;
}

/** How far a build is. */
export interface Step {
  stage: string;
  done: number;
  /** 0 if it is not known. */
  total: number;
}

/** A build that was given up by its caller. */
export class Cancelled extends Error {}

/** Makes a module of the edit. Rejects with a Refusal, or Cancelled. */
export async function build(o: BuildOptions): Promise<BuildResult> {
  const scratch = await mkdtemp(path.join(os.tmpdir(), 'darn-overlay-'));
  try {
    const args = ['build', '--json', '--progress', '--pid', String(o.pid), '--output', o.output];
    const copies = new Map<string, string>();
    if (o.buffers.size > 0 && !o.c) {
      args.push('--overlay', await writeOverlay(scratch, o.buffers, copies));
    }
    if (o.base) {
      args.push('--base', o.base);
    }
    if (o.c?.commands) {
      args.push('--compile-commands', o.c.commands);
    }
    if (o.partial && !o.c) {
      args.push('--partial');
    }
    const what = o.c ? o.c.file : o.package;
    if (what) {
      args.push(what);
    }
    await mkdir(path.dirname(o.output), { recursive: true });
    const ended = await exec(o.darn, args, {
      cwd: o.cwd,
      ...(o.env && { env: o.env }),
      signal: o.signal,
      onErrorLine: (line) => {
        const step = parseStep(line);
        if (step) {
          o.progress(step);
        }
      },
    }).catch((error: unknown) => {
      throw new Refusal(t('{0} could not be started: {1}. Look at the setting darn.path.', o.darn, String(error)));
    });
    if (o.signal.aborted) {
      throw new Cancelled();
    }
    return await identify(parseBuild(ended.stdout, ended.stderr, o.cwd, copies));
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** A module of C has no other id than the sum of its file, by which its patch is known too. */
async function identify(built: BuildResult): Promise<BuildResult> {
  if (!built.id) {
    built.id = createHash('sha256').update(await readFile(built.path)).digest('hex');
    built.name = path.basename(built.path, '.so');
  }
  return built;
}

/**
 * Writes texts to a folder, and the overlay of the go command that names them.
 * Notes in copies which file each of them stands for.
 */
export async function writeOverlay(dir: string, buffers: ReadonlyMap<string, string>, copies = new Map<string, string>()): Promise<string> {
  const replace: Record<string, string> = {};
  let n = 0;
  for (const [file, text] of buffers) {
    const copy = path.join(dir, `${n++}-${path.basename(file)}`);
    await writeFile(copy, text);
    replace[file] = copy;
    copies.set(copy, file);
  }
  const overlay = path.join(dir, 'overlay.json');
  await writeFile(overlay, JSON.stringify({ Replace: replace }));
  return overlay;
}

/** Reads a line of `darn build --progress`. */
export function parseStep(line: string): Step | undefined {
  if (!line.startsWith('{')) {
    return undefined;
  }
  try {
    const step = JSON.parse(line) as Partial<Step>;
    return typeof step.stage === 'string'
      ? { stage: step.stage, done: step.done ?? 0, total: step.total ?? 0 }
      : undefined;
  } catch {
    return undefined;
  }
}

/** Reads what `darn build --json` printed; throws a Refusal if it built nothing. */
export function parseBuild(stdout: string, stderr: string, cwd: string, copies?: ReadonlyMap<string, string>): BuildResult {
  let answer: (BuildResult & { error?: undefined }) | { error: string; findings?: Finding[] };
  try {
    answer = JSON.parse(stdout) as typeof answer;
  } catch {
    const said = stderr.split('\n').filter((line) => line !== '' && !parseStep(line)).join('\n');
    throw new Refusal(said || t('darn build ended without a word. Run it in a terminal to see why.'));
  }
  if (answer.error !== undefined) {
    const findings = answer.findings ?? compilerErrors(answer.error, cwd, copies);
    throw new Refusal(answer.error, findings);
  }
  return answer;
}

/** The code of what the compiler refuses. */
export const compileError = 'compile-error';

/**
 * The errors in what the go command or a compiler of C printed. Relative paths start
 * at cwd. Of files in an overlay the former names the copies.
 */
export function compilerErrors(text: string, cwd: string, copies: ReadonlyMap<string, string> = new Map()): Finding[] {
  const findings: Finding[] = [];
  for (const line of text.split('\n')) {
    const m = /(?:^|\s)((?:[^\s:]+)\.go:\d+(?::\d+)?): (.+)$/.exec(line)
      ?? /^([^\s:]+:\d+(?::\d+)?): (?:fatal )?error: (.+)$/.exec(line);
    const place = parsePlace(m?.[1]);
    if (m && place) {
      const file = path.resolve(cwd, place.file);
      findings.push({
        code: compileError,
        severity: 'error',
        source: `${copies.get(file) ?? file}:${place.line}${place.column ? `:${place.column}` : ''}`,
        message: m[2] ?? '',
        advice: t('correct it: only source that compiles can be made a patch'),
      });
    }
  }
  return findings;
}
