import type { Patch } from './protocol';

/** How a new patch comes on, beside those that are in the program. */
export interface Plan {
  /** All others go off at the same instant. */
  replace: boolean;
  /** Ids of those that go off afterwards. */
  off: string[];
}

/**
 * A patch that is built from the workspace holds the whole edit, so it takes the
 * place of the earlier ones that were built from it: what was edited back is then
 * as it was. Patches from elsewhere stay on; the new one is called first.
 */
export function planActivation(patches: readonly Patch[], id: string, own: (patch: Patch) => boolean): Plan {
  const active = patches.filter((p) => p.state === 'active' && p.id !== id);
  const mine = active.filter(own);
  if (mine.length === 0) {
    return { replace: false, off: [] };
  }
  return mine.length === active.length ? { replace: true, off: [] } : { replace: false, off: mine.map((p) => p.id) };
}
