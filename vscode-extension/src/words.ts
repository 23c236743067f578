import { t } from './l10n';
import type { Finding, Inspection, Patch, PatchedFunction, Receipt, State } from './protocol';

/** Microseconds with three digits that count. */
export function duration(micros: number): string {
  if (micros < 1000) {
    return `${Math.round(micros)} µs`;
  }
  if (micros < 1_000_000) {
    return `${Number((micros / 1000).toPrecision(3))} ms`;
  }
  return `${Number((micros / 1_000_000).toPrecision(3))} s`;
}

export function stateWord(state: State): string {
  switch (state) {
    case 'active':
      return t('active');
    case 'pending':
      return t('pending');
    case 'loaded':
      return t('off');
    case 'unloaded':
      return t('unloaded');
  }
}

export function functionCount(n: number): string {
  return n === 1 ? t('1 function') : t('{0} functions', n);
}

export function patchCount(n: number): string {
  return n === 1 ? t('1 patch') : t('{0} patches', n);
}

/** How many calls of a function still run its old code, '' if none do. */
export function framesWords(frames: number): string {
  if (frames < 0) {
    return t('calls in old code not counted');
  }
  if (frames === 0) {
    return '';
  }
  return frames === 1 ? t('1 call in old code') : t('{0} calls in old code', frames);
}

/** All frames in the code that a patch replaces; -1 if some were not counted. */
export function framesOf(patch: Patch): number {
  let sum = 0;
  for (const f of patch.functions ?? []) {
    if (f.framesInOldCode < 0) {
      return -1;
    }
    sum += f.framesInOldCode;
  }
  return sum;
}

/** For how long the program stood still. */
export function pauseWords(receipt: Receipt): string {
  return receipt.halts === 0 ? t('no pause') : t('{0} pause', duration(receipt.haltMicros));
}

/** For how long the program stood still, and why. */
export function pauseReason(receipt: Receipt): string {
  if (receipt.halts === 0) {
    return t('no pause');
  }
  const paused = t('paused for {0}', duration(receipt.haltMicros));
  return receipt.haltedBecause ? `${paused}: ${receipt.haltedBecause}` : paused;
}

/** A receipt in one line. */
export function receiptWords(receipt: Receipt): string {
  const parts = [t('{0} took {1}', receipt.operation, duration(receipt.durationMicros))];
  if (receipt.halts === 0) {
    parts.push(t('the program was not paused'));
  } else {
    parts.push(
      t('the program was paused for {0} ({1} halts, at most {2} threads)',
        duration(receipt.haltMicros), receipt.halts, receipt.threadsHalted),
    );
    if (receipt.haltedBecause) {
      parts.push(t('since {0}', receipt.haltedBecause));
    }
  }
  for (const [encoding, n] of Object.entries(receipt.encodings ?? {}).sort()) {
    parts.push(t('{0} redirects by {1}', n, encoding));
  }
  if (receipt.replaced?.length) {
    parts.push(t('in place of patch {0}', receipt.replaced.join(', ')));
  }
  return parts.join(', ');
}

/** A function's name without the folders of its package: main.(*Shop).total. */
export function shortName(symbol: string): string {
  // Brackets may hold import paths too.
  const bracket = symbol.search(/[[(]/);
  const head = bracket < 0 ? symbol : symbol.slice(0, bracket);
  return symbol.slice(head.lastIndexOf('/') + 1);
}

/** A finding in words: what, why and what to do. */
export function findingWords(f: Finding): string {
  const what = f.function ? `${shortName(f.function)}: ${f.message}` : f.message;
  return f.advice ? t('{0}. What to do: {1}.', what, f.advice) : `${what}.`;
}

/** How calls of a function get to its new code. */
export function encodingWords(f: PatchedFunction): string {
  const how = t('redirected by {0}', f.encoding);
  if (!f.encodingReason) {
    return how;
  }
  return f.encoding === 'direct' ? t('{0}, without a switch: {1}', how, f.encodingReason) : t('{0}, written under a halt: {1}', how, f.encodingReason);
}

/** What there is to say of a function in the view. */
export function functionWords(f: PatchedFunction, state: State): string {
  const frames = state === 'active' || state === 'pending' ? framesWords(f.framesInOldCode) : '';
  return [f.encoding, frames].filter((s) => s !== '').join(' · ');
}

/** An inspection, some lines. */
export function inspectionWords(i: Inspection): string {
  const m = i.module;
  const lines: string[] = [];
  if (m.description) {
    lines.push(m.description, '');
  }
  if (m.base) {
    lines.push(t('Built against {0}.', m.base));
  }
  if (i.ok) {
    lines.push(t('It fits the running program.'));
  } else {
    lines.push(t('It can not be loaded into the running program.'));
  }
  const verdicts = i.verdicts ?? [];
  lines.push('', t('What becomes of each function:'));
  for (const v of verdicts) {
    lines.push(`• ${shortName(v.function)}: ${v.outcome}${v.why ? ` (${v.why})` : ''}`);
  }
  if (verdicts.length === 0) {
    for (const f of m.functions ?? []) {
      lines.push(`• ${shortName(f.name)}`);
    }
  }
  if (i.findings.length > 0) {
    lines.push('', t('Findings:'));
    for (const f of i.findings) {
      lines.push(`• ${f.severity}: ${findingWords(f)} [${f.code}]`);
    }
  }
  return lines.join('\n');
}
