import type { ChildProcess } from 'node:child_process';

/** A child process that leads a process group, and ends with this process. */
export interface OwnProcess {
  readonly child: ChildProcess;
  /** Ends the whole group, and waits for the child's end. */
  stop(): Promise<void>;
}

/**
 * Has the process group of a child that was started detached end with this
 * process. If this process is killed, it is setpriv --pdeathsig that ends the
 * child: start it so.
 */
export function endWithUs(child: ChildProcess): OwnProcess {
  const kill = (signal: NodeJS.Signals) => {
    try {
      if (child.pid !== undefined) {
        process.kill(-child.pid, signal);
      }
    } catch {
      // The group has ended.
    }
  };
  const atExit = () => kill('SIGKILL');
  process.on('exit', atExit);
  const ended = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', () => resolve());
  });
  return {
    child,
    async stop() {
      kill('SIGTERM');
      const late = setTimeout(() => kill('SIGKILL'), 5000);
      await ended;
      clearTimeout(late);
      kill('SIGKILL'); // what the child has left behind
      process.off('exit', atExit);
    },
  };
}
