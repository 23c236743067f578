import { execFileSync, spawn } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { darn, extension, temporary } from './folders';
import { endWithUs } from './processes';

/** A workspace folder with the program tea of test/targets, in git. */
export class Tea {
  readonly executable: string;

  private constructor(readonly folder: string) {
    this.executable = join(folder, 'tea');
  }

  /** The workspace that another process has made. */
  static at(folder: string): Tea {
    return new Tea(folder);
  }

  /** Makes a workspace, which goes with this process. */
  static make(): Tea {
    const tea = new Tea(join(temporary('tea'), 'tea'));
    tea.commit();
    return tea;
  }

  private commit(): void {
    this.reset();
    writeFileSync(join(this.folder, '.gitignore'), 'tea\nbill*.txt*\n*.so\n__debug*\n');
    const git = (...args: string[]) => execFileSync('git', ['-C', this.folder, '-c', 'user.name=t', '-c', 'user.email=t@example.com', ...args]);
    git('init', '--quiet');
    git('add', '.');
    git('commit', '--quiet', '--message', 'tea');
    execFileSync('go', ['build', '-o', this.executable, '.'], { cwd: this.folder, stdio: 'pipe' });
  }

  /** Makes the source and the launch configurations what they were at first. */
  reset(): void {
    cpSync(join(extension, 'test/targets/tea'), this.folder, { recursive: true });
    mkdirSync(join(this.folder, '.vscode'), { recursive: true });
    rmSync(join(this.folder, '.vscode/settings.json'), { force: true });
    this.configure([{ name: 'Launch tea', type: 'darn', request: 'launch', mode: 'debug', program: '${workspaceFolder}', args: [this.bills('launched')] }]);
  }

  /** Writes launch.json. */
  configure(configurations: object[]): void {
    writeFileSync(join(this.folder, '.vscode/launch.json'), JSON.stringify({ version: '0.2.0', configurations }, null, 2));
  }

  /** Replaces text in a source file, which must hold it. */
  edit(file: string, from: string, to: string): void {
    const path = join(this.folder, file);
    const text = readFileSync(path, 'utf8');
    if (!text.includes(from)) {
      throw new Error(`${file} has no ${from}`);
    }
    writeFileSync(path, text.replace(from, to));
  }

  /** The number of the first line that holds the text, from 1. */
  line(file: string, text: string): number {
    const index = readFileSync(join(this.folder, file), 'utf8').split('\n').findIndex((line) => line.includes(text));
    if (index < 0) {
      throw new Error(`${file} has no ${text}`);
    }
    return index + 1;
  }

  /** The file that a run with this name writes its bills to. */
  bills(name: string): string {
    return join(this.folder, `bill-${name}.txt`);
  }

  /** The last bill that a run wrote, or nothing. */
  bill(name: string): string {
    try {
      return readFileSync(this.bills(name), 'utf8');
    } catch {
      return '';
    }
  }

  /** Starts the program without a debugger. It ends with this process. */
  run(name: string): { pid: number; stop(): Promise<void> } {
    rmSync(this.bills(name), { force: true });
    const own = endWithUs(spawn('setpriv', ['--pdeathsig', 'KILL', this.executable, this.bills(name)], { detached: true, stdio: 'ignore' }));
    if (own.child.pid === undefined) {
      throw new Error('tea did not start');
    }
    return { pid: own.child.pid, stop: () => own.stop() };
  }

  /** Builds a module from an edit of bill.go, which is taken back. */
  module(name: string, from: string, to: string): string {
    const file = join(this.folder, `${name}.so`);
    this.edit('bill.go', from, to);
    try {
      execFileSync(darn, ['build', '--target', this.executable, '-o', file, '.'], { cwd: this.folder, stdio: 'pipe' });
    } finally {
      this.edit('bill.go', to, from);
    }
    return file;
  }
}
