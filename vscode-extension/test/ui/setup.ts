import { writeFileSync } from 'node:fs';
import type { Browser } from 'playwright-core';
import { newWindow, startBrowser } from '../workbench/browser';
import { result, vsix } from '../workbench/folders';
import { goExtension } from '../workbench/goextension';
import { startServer, type Release, type Server } from '../workbench/server';
import { Workbench } from '../workbench/workbench';

const release = (process.env.VSCODE_RELEASE ?? 'current') as Release;

let server: Server | undefined;
let browser: Browser | undefined;
let workbench: Workbench | undefined;
const log: string[] = [];

before(async () => {
  [server, browser] = await Promise.all([startServer(release, [], [vsix, goExtension()]), startBrowser()]);
});

afterEach(async function () {
  const test = this.currentTest;
  if (test?.state === 'failed') {
    const name = `${release} ${test.fullTitle()}`.replace(/\W+/g, '-');
    writeFileSync(result(`${name}.log`), [...log, ...server?.output ?? []].join('\n'));
    await workbench?.page.screenshot({ path: result(`${name}.png`) });
    console.log(`      the window and its log: ${result(name)}.{png,log}`);
  }
  log.length = 0;
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

/** Opens the folder in a new window, in place of the one before. */
export async function openWindow(folder: string): Promise<Workbench> {
  if (server === undefined || browser === undefined) {
    throw new Error('the server does not run');
  }
  await workbench?.page.context().close();
  workbench = new Workbench(await newWindow(browser, log));
  await workbench.open(server.url, folder);
  return workbench;
}
