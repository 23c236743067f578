/**
 * What Darn adds to the debug adapter protocol, and what `darn … --json` prints.
 * The names are the wire's.
 */

export type State = 'unloaded' | 'loaded' | 'pending' | 'active';
export type Severity = 'error' | 'warning' | 'info';

/** One thing that Darn has to say about one construct. */
export interface Finding {
  code: string;
  severity: Severity;
  function?: string;
  /** file:line */
  source?: string;
  /** What, and why. */
  message: string;
  /** What to do. */
  advice?: string;
}

export interface PatchedFunction {
  name: string;
  address: number;
  newAddress: number;
  /** file:line of the new code */
  source?: string;
  encoding: string;
  /** Why the entry can't be written while threads run, if so. */
  encodingReason?: string;
  /** The entry leads past the stub, as long as nothing is switched. */
  straight?: boolean;
  /** -1 if nobody has counted them. */
  framesInOldCode: number;
}

export interface Patch {
  id: string;
  name: string;
  path: string;
  /** sha256 of the module file */
  module: string;
  state: State;
  functions: PatchedFunction[] | null;
  findings?: Finding[];
}

/** What an operation did to the program's time. */
export interface Receipt {
  operation: string;
  durationMicros: number;
  halts: number;
  haltMicros: number;
  threadsHalted: number;
  /** Why there were halts. */
  haltedBecause?: string;
  encodings?: Record<string, number>;
  /** Ids of the patches that were deactivated at the same instant. */
  replaced?: string[];
  looks?: number;
}

export interface Target {
  pid: number;
  language: string;
  version?: string;
  buildId?: string;
  /** Import path of the main package, as the build information has it. */
  package?: string;
}

/** What becomes of one function that an edit touches. */
export interface Verdict {
  function: string;
  source?: string;
  outcome: 'replaced' | 'new' | 'refused' | 'keeps old code';
  why?: string;
}

export interface Inspection {
  module: {
    id: string;
    name: string;
    description?: string;
    path: string;
    language: string;
    buildId?: string;
    functions: PatchedFunction[] | null;
    base?: string;
  };
  verdicts: Verdict[] | null;
  findings: Finding[];
  ok: boolean;
}

/** Where a patch is to be activated. */
export interface Point {
  path: string;
  line: number;
  hitCondition?: string;
}

export interface ActivateArguments {
  id: string;
  replace?: boolean;
  at?: Point;
  stopOnFirstCall?: boolean;
}

export interface Listing {
  patches: Patch[];
  target: Target;
}

/** The answer to load, activate and deactivate; unload has no patch. */
export interface Outcome {
  patch?: Patch;
  receipt: Receipt;
}

/** The requests: their arguments and answers. */
export interface Requests {
  'darn/inspect': [{ path: string }, Inspection];
  'darn/load': [{ path: string }, Outcome];
  'darn/activate': [ActivateArguments, Outcome];
  'darn/deactivate': [{ id: string }, Outcome];
  'darn/unload': [{ id: string }, Outcome];
  'darn/list': [Record<string, never>, Listing];
}

/** The body of the event darn/patch. */
export interface PatchEvent {
  reason: 'loaded' | 'activated' | 'deactivated' | 'unloaded' | 'pending' | 'failed';
  patch: Patch;
  receipt?: Receipt;
  findings?: Finding[];
}

/** What `darn build --json` prints of a module that was built. */
export interface BuildResult {
  path: string;
  id: string;
  name: string;
  base: string;
  requires?: string[];
  functions: { name: string; source?: string; why?: string }[];
  verdicts: Verdict[] | null;
  findings?: Finding[];
}

/** An operation that was refused, or that failed: then without findings. */
export class Refusal extends Error {
  constructor(message: string, readonly findings: readonly Finding[] = []) {
    super(message);
  }

  /** The reason's code, '' if it has none. */
  get code(): string {
    return this.findings[0]?.code ?? '';
  }
}
