import { spawn } from 'node:child_process';

/** How a command ended. */
export interface Ended {
  /** null if a signal ended it. */
  status: number | null;
  stdout: string;
  stderr: string;
}

/** How to run a command. */
export interface ExecOptions {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  /** Ends the command with SIGINT, so that it can clean up; after 5 s with SIGKILL. */
  signal?: AbortSignal;
  /** Gets each line of standard error, without its end, as it comes. */
  onErrorLine?: (line: string) => void;
}

/** Runs a command to its end. Rejects if it can not be started. */
export function exec(command: string, args: readonly string[], options: ExecOptions = {}): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: options.cwd, env: options.env ?? process.env, stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    let line = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
      const lines = (line + text).split('\n');
      line = lines.pop() ?? '';
      lines.forEach((l) => options.onErrorLine?.(l));
    });
    let kill: NodeJS.Timeout | undefined;
    const interrupt = () => {
      child.kill('SIGINT');
      kill = setTimeout(() => child.kill('SIGKILL'), 5000);
    };
    if (options.signal?.aborted) {
      interrupt();
    } else {
      options.signal?.addEventListener('abort', interrupt, { once: true });
    }
    const over = () => {
      options.signal?.removeEventListener('abort', interrupt);
      clearTimeout(kill);
    };
    child.on('error', (error) => {
      over();
      reject(error);
    });
    child.on('close', (status) => {
      over();
      resolve({ status, stdout, stderr });
    });
  });
}
