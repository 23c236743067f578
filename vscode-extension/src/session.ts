import * as vscode from 'vscode';
import type { Attributes } from './launch';
import type { Substitution } from './place';
import { Refusal, type Finding, type Listing, type Patch, type PatchEvent, type Receipt, type Requests, type Target } from './protocol';

/**
 * One debug session whose adapter is Darn, and the patches in its program. What is
 * known of them comes from the messages as they are sent, in their order: the
 * editor may pass on an answer after the event that has followed it.
 */
export class Session {
  patches: Patch[] = [];
  target: Target | undefined;
  lastReceipt: Receipt | undefined;
  /** The last receipt of each patch, by its id. */
  readonly receipts = new Map<string, Receipt>();
  private refused: Finding[] = [];
  private queue: Promise<unknown> = Promise.resolve();

  constructor(readonly debug: vscode.DebugSession, private readonly changed: () => void) {}

  get configuration(): Attributes {
    return this.debug.configuration;
  }

  get substitutions(): Substitution[] {
    const rules = this.configuration.substitutePath;
    return Array.isArray(rules) ? (rules as Substitution[]) : [];
  }

  /** Whether the program is there: requests before would be refused. */
  get live(): boolean {
    return this.target !== undefined;
  }

  patch(id: string): Patch | undefined {
    return this.patches.find((p) => p.id === id);
  }

  /** Makes a request of Darn's, after those under way. Rejects with a Refusal. */
  request<C extends keyof Requests>(command: C, args: Requests[C][0]): Promise<Requests[C][1]> {
    const answer = this.queue.then(async () => {
      this.refused = [];
      try {
        return (await this.debug.customRequest(command, args)) as Requests[C][1];
      } catch (error) {
        throw new Refusal(error instanceof Error ? error.message : String(error), this.refused);
      }
    });
    this.queue = answer.catch(() => undefined);
    return answer;
  }

  /** Notes the findings of a request that is about to be rejected: the editor drops them. */
  noteRefusal(findings: Finding[]): void {
    this.refused = findings;
  }

  /** Asks the program for its patches. Rejects with a Refusal if it has ended, or is not there yet. */
  async refresh(): Promise<void> {
    await this.request('darn/list', {});
  }

  async load(path: string): Promise<Patch | undefined> {
    return (await this.request('darn/load', { path })).patch;
  }

  async activate(args: Requests['darn/activate'][0]): Promise<Patch | undefined> {
    return (await this.request('darn/activate', args)).patch;
  }

  async deactivate(id: string): Promise<Patch | undefined> {
    return (await this.request('darn/deactivate', { id })).patch;
  }

  async unload(id: string): Promise<void> {
    await this.request('darn/unload', { id });
  }

  /** Takes in the answer to darn/list. */
  onList({ patches, target }: Listing): void {
    this.patches = patches;
    this.target = target;
    this.changed();
  }

  /** Takes in what the event says. */
  onPatch({ reason, patch, receipt }: PatchEvent): void {
    if (receipt) {
      this.lastReceipt = receipt;
      this.receipts.set(patch.id, receipt);
    }
    const at = this.patches.findIndex((p) => p.id === patch.id);
    if (reason === 'unloaded') {
      this.patches = this.patches.filter((p) => p.id !== patch.id);
      this.receipts.delete(patch.id);
    } else if (at < 0) {
      this.patches.push(patch);
    } else {
      this.patches[at] = patch;
    }
    this.changed();
  }

  /** Forgets the program: it has ended. */
  end(): void {
    this.patches = [];
    this.target = undefined;
    this.receipts.clear();
    this.changed();
  }
}
