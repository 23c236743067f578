import type { Finding, Listing, PatchEvent } from './protocol';

/** A message of the debug adapter protocol, as far as Darn looks at it. */
interface Message {
  type?: string;
  command?: string;
  event?: string;
  success?: boolean;
  message?: string;
  body?: {
    supportsDarn?: boolean;
    findings?: Finding[];
  };
}

/** What a message says that matters here. */
export type Heard =
  | { kind: 'capabilities'; darn: boolean }
  | { kind: 'ready' }
  | { kind: 'refused'; command: string; findings: Finding[] }
  | { kind: 'listed'; listing: Listing }
  | { kind: 'patch'; event: PatchEvent }
  | { kind: 'ended' }
  | undefined;

/** Reads a message from the adapter. */
export function hear(raw: unknown): Heard {
  const m = raw as Message;
  if (m.type === 'event') {
    if (m.event === 'darn/patch') {
      return { kind: 'patch', event: m.body as unknown as PatchEvent };
    }
    return m.event === 'exited' || m.event === 'terminated' ? { kind: 'ended' } : undefined;
  }
  if (m.type !== 'response') {
    return undefined;
  }
  if (m.command === 'initialize' && m.success) {
    return { kind: 'capabilities', darn: m.body?.supportsDarn === true };
  }
  if (m.command === 'configurationDone' && m.success) {
    return { kind: 'ready' };
  }
  if (m.command === 'darn/list' && m.success) {
    return { kind: 'listed', listing: m.body as unknown as Listing };
  }
  if (m.command?.startsWith('darn/') && m.success === false) {
    return { kind: 'refused', command: m.command, findings: m.body?.findings ?? [] };
  }
  return undefined;
}

/** Whether a message to the adapter makes it build and start the program anew. */
export function restarts(raw: unknown): boolean {
  const m = raw as Message;
  return m.type === 'request' && m.command === 'restart';
}
