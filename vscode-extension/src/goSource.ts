/** The declaration that a symbol of the linker's comes from. */
export interface Declaration {
  /** The receiver's type, '' for a function. */
  receiver: string;
  name: string;
}

/**
 * The function or method declaration that holds a symbol's code: that of the
 * function around it for a closure. Undefined for what is not declared, such as
 * the equality of a type.
 */
export function declarationOf(symbol: string): Declaration | undefined {
  // Type arguments say nothing here, and may hold dots and slashes.
  let depth = 0;
  let plain = '';
  for (const c of symbol) {
    if (c === '[') {
      depth++;
    } else if (c === ']') {
      depth--;
    } else if (depth === 0) {
      plain += c;
    }
  }
  const local = plain.slice(plain.lastIndexOf('/') + 1);
  const dot = local.indexOf('.');
  if (dot < 0 || local.slice(0, dot).includes(':')) {
    return undefined; // assembly, or what the linker makes
  }
  const rest = local.slice(dot + 1);
  const pointer = /^\(\*([\p{L}_][\p{L}\p{N}_]*)\)\.([\p{L}_][\p{L}\p{N}_]*)/u.exec(rest);
  if (pointer) {
    return { receiver: pointer[1] ?? '', name: pointer[2] ?? '' };
  }
  const names = rest.split('.').map((n) => n.replace(/-(fm|range\d+)$/, ''));
  const generated = /^(func\d+|gowrap\d+|deferwrap\d+|\d+)$/;
  const [first, second] = names;
  if (!first || !/^[\p{L}_]/u.test(first)) {
    return undefined;
  }
  if (second && /^[\p{L}_]/u.test(second) && !generated.test(second)) {
    return { receiver: first, name: second };
  }
  return { receiver: '', name: first };
}

/**
 * The line, from 0, on which a declaration is in a text of Go, the one nearest to
 * near if there are several; -1 if there is none.
 */
export function lineOf(declaration: Declaration, text: string, near: number): number {
  const receiver = declaration.receiver === ''
    ? ''
    : `\\(\\s*(?:[\\p{L}_][\\p{L}\\p{N}_]*\\s+)?\\*?\\s*${declaration.receiver}\\b[^)]*\\)\\s*`;
  const func = new RegExp(`^func\\s+${receiver}${declaration.name}\\s*[([]`, 'u');
  let best = -1;
  text.split('\n').forEach((line, i) => {
    if (func.test(line) && (best < 0 || Math.abs(i - near) < Math.abs(best - near))) {
      best = i;
    }
  });
  return best;
}
