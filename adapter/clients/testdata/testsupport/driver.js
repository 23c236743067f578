// Drives @vscode/debugadapter-testsupport as the test says: a line of JSON on
// standard input, [method, ...arguments], gives one on standard output,
// {result} or {error}. "request" makes any request, "events" returns those of a
// kind that have come so far, and "hitBreakpoint" is the client's own.
'use strict';
const { spawn } = require('child_process');
const readline = require('readline');
const { DebugClient } = require('@vscode/debugadapter-testsupport');

const adapter = spawn('darn', ['dap'], { stdio: ['ignore', 'pipe', 'inherit'] });
const client = new DebugClient('', '', 'go');
const listening = new Promise((resolve) => {
  readline.createInterface({ input: adapter.stdout }).on('line', (line) => {
    const port = /^DAP server listening at: .*:(\d+)$/.exec(line)?.[1];
    if (port) resolve(Number(port));
  });
});

const events = [];
for (const kind of ['initialized', 'stopped', 'continued', 'terminated', 'module', 'darn/patch']) {
  client.on(kind, (event) => events.push(event));
}

const methods = {
  async request(command, args) {
    return (await client.customRequest(command, args)).body;
  },
  async events(kind) {
    return events.filter((event) => event.event === kind).map((event) => event.body ?? {});
  },
  async hitBreakpoint(launch, location) {
    const [, , stackTrace] = await client.hitBreakpoint(launch, location);
    return stackTrace.body;
  },
};

(async () => {
  await client.start(await listening);
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [method, ...args] = JSON.parse(line);
    let answer;
    try {
      answer = { result: (await methods[method](...args)) ?? null };
    } catch (error) {
      answer = { error: error.message };
    }
    process.stdout.write(JSON.stringify(answer) + '\n');
  }
  process.exit();
})();
