import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { extension } from '../workbench/folders';
import type { Workbench } from '../workbench/workbench';

const folder = resolve(extension, '../docs/images');

/**
 * Takes pictures of the window for docs/images, in a light, a dark and a high
 * contrast theme, if the environment asks for them with DARN_IMAGES.
 */
export async function picture({ page }: Workbench, name: string): Promise<void> {
  if (process.env.DARN_IMAGES === undefined) {
    return;
  }
  mkdirSync(folder, { recursive: true });
  const take = async (theme: string, css: string) => {
    await page.locator(`.monaco-workbench${css}`).waitFor();
    await page.screenshot({ path: join(folder, `${name}-${theme}.png`), animations: 'disabled' });
  };
  await take('light', '.vs');
  await page.emulateMedia({ colorScheme: 'dark' });
  await take('dark', '.vs-dark');
  await page.emulateMedia({ forcedColors: 'active' });
  await take('contrast', '.hc-black');
  await page.emulateMedia({ colorScheme: 'light', forcedColors: 'none' });
  await page.locator('.monaco-workbench.vs').waitFor();
}
