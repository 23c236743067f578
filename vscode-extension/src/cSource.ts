import * as path from 'node:path';

/** What the editor calls the languages whose files a patch can come of. */
export const languages = ['go', 'c', 'cpp'];

/** Whether the editor's name of a language is that of C or C++. */
export const isC = (languageId: string): boolean => languageId === 'c' || languageId === 'cpp';

/** Whether a file is one that a compiler of C or C++ is given: not a header. */
export const isCSource = (file: string): boolean => ['.c', '.cc', '.cpp', '.cxx', '.C'].includes(path.extname(file));

/**
 * The name by which a function is declared, without what it is in, from the
 * linker's symbol or the name in words; '' for what has none, as operators.
 */
export function cName(symbol: string): string {
  if (!symbol.startsWith('_Z')) {
    const plain = symbol.replace(/\(.*$/s, '').replace(/<.*>$/s, '');
    return /(~?\w+)$/.exec(plain)?.[1] ?? '';
  }
  // Each name goes after its length; a nested one is a row of them between N and E.
  let name = '';
  let rest = symbol.slice(2).replace(/^NK?/, '');
  for (let m = /^(\d+)/.exec(rest); m; m = /^(\d+)/.exec(rest)) {
    const begin = m[0].length;
    name = rest.slice(begin, begin + Number(m[0]));
    rest = rest.slice(begin + Number(m[0]));
    rest = rest.replace(/^I[^E]*E/, ''); // template arguments
    if (!symbol.startsWith('_ZN')) {
      break;
    }
  }
  return name;
}

/**
 * The line, from 0, on which a function is defined in a text of C or C++, the one
 * nearest to near if there are several; -1 if there is none.
 */
export function cLineOf(name: string, text: string, near: number): number {
  const call = new RegExp(`(?:^|[\\s*&:])${name.replace(/[^\w]/g, '\\$&')}\\s*\\(`);
  const lines = text.split('\n');
  let best = -1;
  lines.forEach((line, i) => {
    if (call.test(line) && defines(lines, i) && (best < 0 || Math.abs(i - near) < Math.abs(best - near))) {
      best = i;
    }
  });
  return best;
}

/** Whether what begins on a line has a body, and is no call. */
function defines(lines: readonly string[], from: number): boolean {
  if (/^\s*(?:return|else|if|while|for|switch|case|#|\/\/|\*)/.test(lines[from] ?? '') || (lines[from] ?? '').includes('=')) {
    return false;
  }
  for (const line of lines.slice(from, from + 12)) {
    const end = /[{;]/.exec(line)?.[0];
    if (end) {
      return end === '{';
    }
  }
  return false;
}
