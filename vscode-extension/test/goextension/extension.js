// A debugger type go that starts the debug adapter as the Go extension does
// (extension/src/goDebugFactory.ts and goDebugConfiguration.ts there): the tool
// of go.alternateTools.dlv, or else dlv, as "dap --listen=HOST:PORT
// --log-dest=3" in the folder to build in; then it waits for the listening line,
// on standard output or descriptor 3, connects, and forwards all messages but
// reverse requests.
'use strict';

const { spawn } = require('node:child_process');
const net = require('node:net');
const path = require('node:path');
const vscode = require('vscode');

exports.activate = (context) => {
  context.subscriptions.push(
    vscode.debug.registerDebugConfigurationProvider('go', {
      resolveDebugConfigurationWithSubstitutedVariables(folder, configuration) {
        const root = folder?.uri.fsPath ?? process.cwd();
        configuration.dlvToolPath = vscode.workspace.getConfiguration('go', folder?.uri).get('alternateTools').dlv ?? 'dlv';
        configuration.cwd ??= configuration.request === 'launch' ? root : undefined;
        if (configuration.request === 'launch' && configuration.mode !== 'exec') {
          // Delve builds where it runs: the program becomes relative to that.
          configuration.__buildDir = path.resolve(root, configuration.program);
          configuration.program = '.';
        }
        return configuration;
      },
    }),
    vscode.debug.registerDebugAdapterDescriptorFactory('go', {
      createDebugAdapterDescriptor: (session) =>
        new vscode.DebugAdapterInlineImplementation(new Adapter(session.configuration)),
    }),
  );
};

/** Forwards between the workbench and a server that it starts. */
class Adapter {
  #configuration;
  #messages = new vscode.EventEmitter();
  #socket;
  #process;

  constructor(configuration) {
    this.#configuration = configuration;
  }

  onDidSendMessage = this.#messages.event;

  async handleMessage(message) {
    if (message.type === 'response') {
      return;
    }
    this.#socket ??= this.#start();
    try {
      const text = JSON.stringify(message);
      (await this.#socket).write(`Content-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`);
    } catch (error) {
      this.#messages.fire({
        type: 'response', seq: 0, request_seq: message.seq, command: message.command, success: false,
        message: `Couldn't start dlv dap:\n${error.message}`,
      });
    }
  }

  async #start() {
    const port = await freePort();
    const { dlvToolPath, dlvFlags = [], __buildDir, env } = this.#configuration;
    const cwd = __buildDir ?? vscode.workspace.workspaceFolders?.[0]?.uri.fsPath;
    const dlv = spawn(dlvToolPath, ['dap', ...dlvFlags, `--listen=127.0.0.1:${port}`, '--log-dest=3'], {
      cwd, env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
    });
    this.#process = dlv;
    await new Promise((resolve, reject) => {
      dlv.on('error', reject);
      dlv.on('exit', (code) => reject(new Error(`${dlvToolPath} ended with ${code}`)));
      for (const [stream, category] of [[dlv.stdout, 'stdout'], [dlv.stderr, 'stderr'], [dlv.stdio[3], 'console']]) {
        stream.on('data', (data) => {
          if (data.toString().startsWith('DAP server listening at:')) {
            resolve();
          }
          this.#messages.fire({ type: 'event', seq: 0, event: 'output', body: { category, output: data.toString() } });
        });
      }
    });
    const socket = net.createConnection(port, '127.0.0.1');
    await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
    let received = Buffer.alloc(0);
    socket.on('data', (data) => {
      received = Buffer.concat([received, data]);
      for (;;) {
        const end = received.indexOf('\r\n\r\n');
        const length = Number(/Content-Length: (\d+)/.exec(received.subarray(0, Math.max(end, 0)).toString())?.[1]);
        if (end < 0 || received.length < end + 4 + length) {
          return;
        }
        const message = JSON.parse(received.subarray(end + 4, end + 4 + length).toString());
        received = received.subarray(end + 4 + length);
        if (message.type !== 'request') {
          this.#messages.fire(message);
        }
      }
    });
    socket.on('error', () => this.#messages.fire({ type: 'event', seq: 0, event: 'terminated' }));
    return socket;
  }

  async dispose() {
    (await this.#socket?.catch(() => undefined))?.end();
    if (this.#process?.exitCode === null) {
      const late = setTimeout(() => this.#process.kill('SIGINT'), 1000);
      this.#process.on('exit', () => clearTimeout(late));
    }
  }
}

/** A port that was free a moment ago. */
function freePort() {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}
