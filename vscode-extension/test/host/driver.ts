import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { newWindow, startBrowser } from '../workbench/browser';
import { extension, result, temporary } from '../workbench/folders';
import { goExtension } from '../workbench/goextension';
import { startServer, type Release } from '../workbench/server';
import { Tea } from '../workbench/tea';
import { Workbench } from '../workbench/workbench';

/** How long all tests together may take, in ms. */
const limit = 480_000;

/** Runs the tests of this folder in the extension host; the answer is the exit code. */
async function main(release: Release): Promise<number> {
  const tea = Tea.make();
  const output = join(temporary('host'), 'output');
  writeFileSync(output, '');
  const log: string[] = [];
  const [server, browser] = await Promise.all([
    startServer(release, ['--enable-smoke-test-driver'], [goExtension()]), // without the flag it ignores the payload
    startBrowser(),
  ]);
  try {
    const page = await newWindow(browser, log);
    await page.exposeFunction('codeAutomationLog', (kind: string, args: unknown[]) => {
      log.push([`${kind}:`, ...args].join(' '));
    });
    const ended = new Promise<number>((resolve) => {
      void page.exposeFunction('codeAutomationExit', resolve);
      setTimeout(() => {
        console.error(`the tests have not ended in ${limit / 1000} s`);
        resolve(1);
      }, limit).unref();
    });
    const remote = `vscode-remote://${new URL(server.url).host}`;
    await new Workbench(page).open(server.url, tea.folder, {
      payload: JSON.stringify([
        ['extensionDevelopmentPath', remote + extension],
        ['extensionTestsPath', remote + join(extension, 'dist/host/index.js')],
        ['extensionEnvironment', JSON.stringify({ DARN_TEST_FOLDER: tea.folder, DARN_TEST_OUTPUT: output, DARN_TEST_GREP: process.env.DARN_TEST_GREP })],
        ['skipWelcome', 'true'],
      ]),
    });
    const code = await ended;
    console.log(readFileSync(output, 'utf8'));
    if (code !== 0) {
      writeFileSync(result(`host-${release}.log`), [...log, ...server.output].join('\n'));
      await page.screenshot({ path: result(`host-${release}.png`) });
      console.log(`the window and its log: ${result(`host-${release}`)}.{png,log}`);
    }
    return code;
  } finally {
    await browser.close();
    await server.stop();
  }
}

main((process.env.VSCODE_RELEASE ?? 'current') as Release).then(
  (code) => process.exit(code),
  (reason: unknown) => {
    console.error(reason);
    process.exit(1);
  },
);
