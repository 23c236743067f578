import { cLineOf, cName } from './cSource';
import { declarationOf, lineOf } from './goSource';
import { parsePlace } from './place';
import type { Patch } from './protocol';

/** A declaration in a file whose code a patch replaces. */
export interface Patched<S> {
  /** From 0. */
  line: number;
  symbol: string;
  patch: Patch;
  session: S;
}

/** The line, from 0, of the declaration in a text that a symbol's code comes from; -1 if there is none. */
export type LineOf = (symbol: string, text: string, near: number) => number;

export const goLine: LineOf = (symbol, text, near) => {
  const declaration = declarationOf(symbol);
  return declaration ? lineOf(declaration, text, near) : -1;
};

export const cLine: LineOf = (symbol, text, near) => {
  const name = cName(symbol);
  return name === '' ? -1 : cLineOf(name, text, near);
};

/** What patches replace, as far as it is declared in a text. isFile tells whether a name of the program's means this file. */
export function patchedIn<S>(text: string, patches: readonly { session: S; patch: Patch }[], isFile: (name: string, session: S) => boolean, lineIn: LineOf = goLine): Patched<S>[] {
  const found: Patched<S>[] = [];
  for (const { session, patch } of patches) {
    const lines = new Set<number>();
    for (const f of patch.functions ?? []) {
      const place = parsePlace(f.source);
      if (!place || !isFile(place.file, session)) {
        continue;
      }
      const line = lineIn(f.name, text, place.line - 1);
      if (line >= 0 && !lines.has(line)) {
        lines.add(line); // once for a function and its closures
        found.push({ line, symbol: f.name, patch, session });
      }
    }
  }
  return found.sort((a, b) => a.line - b.line);
}
