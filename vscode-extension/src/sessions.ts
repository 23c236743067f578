import * as vscode from 'vscode';
import { Session } from './session';
import type { PatchEvent } from './protocol';
import { hear, restarts } from './wire';

/** The types of session that an adapter of Darn's may serve. */
export const debugTypes = ['darn', 'go'];

/** All sessions whose adapter is Darn. */
export class Sessions implements vscode.DebugAdapterTrackerFactory, vscode.Disposable {
  private readonly all = new Map<string, Session>();
  private readonly change = new vscode.EventEmitter<void>();
  private readonly patch = new vscode.EventEmitter<{ session: Session; event: PatchEvent }>();
  private readonly restart = new vscode.EventEmitter<Session>();
  private readonly lost = new vscode.EventEmitter<Session>();
  private readonly subscriptions: vscode.Disposable;

  /** Fires whenever a session, or a patch in one, has changed. */
  readonly onDidChange = this.change.event;
  readonly onDidPatch = this.patch.event;
  /** Fires when a program is about to be built and started anew. */
  readonly onWillRestart = this.restart.event;
  /** Fires when a restarted program has lost the patches of the one before. */
  readonly onDidLosePatches = this.lost.event;

  constructor() {
    this.subscriptions = vscode.Disposable.from(
      ...debugTypes.map((type) => vscode.debug.registerDebugAdapterTrackerFactory(type, this)),
      vscode.debug.onDidChangeActiveDebugSession(() => this.changed()),
      vscode.debug.onDidTerminateDebugSession((s) => {
        if (this.all.delete(s.id)) {
          this.changed();
        }
      }),
      this.change, this.patch, this.restart, this.lost,
    );
  }

  list(): Session[] {
    return [...this.all.values()];
  }

  get(id: string): Session | undefined {
    return this.all.get(id);
  }

  /** The session that the user works with, if that is Darn's. */
  get active(): Session | undefined {
    const active = vscode.debug.activeDebugSession;
    return active && this.all.get(active.id);
  }

  createDebugAdapterTracker(debug: vscode.DebugSession): vscode.DebugAdapterTracker {
    let hadPatches = false;
    return {
      onWillReceiveMessage: (message) => {
        const session = this.all.get(debug.id);
        if (session && restarts(message)) {
          hadPatches = session.patches.length > 0;
          session.end();
          this.restart.fire(session);
        }
      },
      onDidSendMessage: (message) => {
        const heard = hear(message);
        const session = this.all.get(debug.id);
        switch (heard?.kind) {
          case 'capabilities':
            if (heard.darn && !session) {
              this.all.set(debug.id, new Session(debug, () => this.changed()));
              this.changed();
            }
            break;
          case 'ready':
            // It is only answered once the program runs.
            session?.refresh().then(() => {
              if (hadPatches && session.patches.length === 0) {
                this.lost.fire(session);
              }
              hadPatches = false;
            }, () => undefined); // without a program, as with noDebug, there are no patches
            break;
          case 'listed':
            session?.onList(heard.listing);
            break;
          case 'patch':
            if (session) {
              session.onPatch(heard.event);
              this.patch.fire({ session, event: heard.event });
            }
            break;
          case 'refused':
            session?.noteRefusal(heard.findings);
            break;
          case 'ended':
            session?.end();
            break;
        }
      },
      onWillStopSession: () => {
        if (this.all.delete(debug.id)) {
          this.changed();
        }
      },
    };
  }

  private changed(): void {
    this.change.fire();
  }

  dispose(): void {
    this.subscriptions.dispose();
  }
}
