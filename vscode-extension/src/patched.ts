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

/** What patches replace, as far as it is declared in a text. isFile tells whether a name of the program's means this file. */
export function patchedIn<S>(text: string, patches: readonly { session: S; patch: Patch }[], isFile: (name: string, session: S) => boolean): Patched<S>[] {
  const found: Patched<S>[] = [];
  for (const { session, patch } of patches) {
    const lines = new Set<number>();
    for (const f of patch.functions ?? []) {
      const place = parsePlace(f.source);
      const declaration = declarationOf(f.name);
      if (!place || !declaration || !isFile(place.file, session)) {
        continue;
      }
      const line = lineOf(declaration, text, place.line - 1);
      if (line >= 0 && !lines.has(line)) {
        lines.add(line); // once for a function and its closures
        found.push({ line, symbol: f.name, patch, session });
      }
    }
  }
  return found.sort((a, b) => a.line - b.line);
}
