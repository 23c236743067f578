import { chromium, type Browser, type Page } from 'playwright-core';

/** Debian's Chromium, unless the environment names another. */
const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';

/** Starts Chromium. It ends with this process: they are joined by a pipe. */
export function startBrowser(): Promise<Browser> {
  return chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'],
  });
}

/** A window that reaches this machine only; what is logged in it goes to log. */
export async function newWindow(browser: Browser, log: string[]): Promise<Page> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, colorScheme: 'light' });
  await context.route((url) => url.hostname !== '127.0.0.1', (route) => route.abort());
  const page = await context.newPage();
  page.on('console', (message) => log.push(`${message.type()}: ${message.text()}`));
  page.on('pageerror', (error) => log.push(`page error: ${error.stack ?? error.message}`));
  return page;
}
