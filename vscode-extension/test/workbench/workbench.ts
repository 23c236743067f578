import type { Locator, Page } from 'playwright-core';
import { eventually, patience } from './eventually';

/** The workbench in a browser's page, and what a person does in it. */
export class Workbench {
  constructor(readonly page: Page) {
    page.setDefaultTimeout(patience);
  }

  /** Opens a folder, and waits until the workbench is there. */
  async open(url: string, folder: string, query: Record<string, string> = {}): Promise<void> {
    await this.page.goto(`${url}?${new URLSearchParams({ folder, ...query }).toString()}`);
    await this.page.locator('.monaco-workbench .statusbar-item').first().waitFor();
    await this.page.locator('.explorer-viewlet .monaco-list-row').first().waitFor();
  }

  /** Runs the command with this title in the palette, once the palette has it. */
  async command(title: string): Promise<void> {
    await eventually(`the command ${title}`, async () => {
      await this.page.keyboard.press('F1');
      try {
        await this.quickInput.fill(`>${title}`, { timeout: 5000 });
        await this.quickRow(title).waitFor({ timeout: 2000 });
      } catch {
        // A window has its extensions' commands a little after it has opened.
        if (await this.quickInput.isVisible()) {
          await this.page.keyboard.press('Escape');
        }
        return false;
      }
      return true;
    }, true);
    const row = this.quickRow(title);
    // Another list may follow, but not with this.
    await this.press(row, async () => !(await row.isVisible()));
  }

  /**
   * Clicks until that had its effect, as a person does. The workbench ignores
   * some clicks: a menu's entry listens from a tenth of a second after it was
   * drawn, and what is drawn anew between the mouse's down and up is not clicked
   * at all.
   */
  async press(what: Locator, done: () => Promise<boolean>, button: 'left' | 'right' = 'left'): Promise<void> {
    const end = Date.now() + patience;
    await what.click({ button });
    for (let wait = 500; ; wait *= 2) {
      const late = Date.now() + wait;
      while (Date.now() < late) {
        if (await done()) {
          return;
        }
        await this.page.waitForTimeout(20);
      }
      if (Date.now() > end) {
        throw new Error(`clicking ${String(what)} has no effect`);
      }
      await what.click({ button, timeout: wait }).catch(() => undefined); // it had its effect just now
    }
  }

  /** Picks a row of an open list, which goes with that. */
  async pick(text: string): Promise<void> {
    const row = this.quickRow(text);
    await this.press(row, async () => !(await row.isVisible()));
  }

  /** Checks a row of an open list of options. */
  async check(text: string): Promise<void> {
    const row = this.quickRow(text);
    await row.waitFor();
    if (!(await row.isChecked())) {
      await this.press(row, () => row.isChecked());
    }
  }

  /** Answers an open input box. */
  async answer(text: string): Promise<void> {
    await this.quickInput.waitFor();
    await this.quickInput.fill(text);
    await this.page.keyboard.press('Enter');
  }

  get quickInput(): Locator {
    return this.page.locator('.quick-input-widget:visible input.input');
  }

  quickRow(text: string): Locator {
    return this.page.locator('.quick-input-widget:visible .monaco-list-row', { hasText: text }).first();
  }

  /** Opens a file of the workspace, at a line if one is given. */
  async file(name: string, line?: number): Promise<void> {
    await this.page.keyboard.press('Control+p');
    await this.quickInput.waitFor();
    await this.quickInput.fill(name);
    await this.pick(name);
    await this.tab(name).waitFor();
    await this.page.locator('.quick-input-widget').waitFor({ state: 'hidden' });
    if (line !== undefined) {
      await this.goTo(line);
    }
  }

  /** Puts the cursor at the start of a line of the active editor. */
  async goTo(line: number): Promise<void> {
    await this.page.keyboard.press('Control+g');
    await this.answer(`:${line}:1`);
    await this.status(`Ln ${line},`).waitFor();
  }

  /** Replaces a line of the active editor as typing does; nothing is saved. */
  async typeLine(line: number, text: string): Promise<void> {
    await this.goTo(line);
    await this.page.keyboard.press('Shift+End');
    await this.status('selected').waitFor();
    await this.page.keyboard.insertText(text);
    await this.page.locator('.tab.active.dirty').waitFor();
  }

  /** The active tab, named so. */
  tab(name: string): Locator {
    return this.page.locator('.tabs-container .tab.active', { hasText: name });
  }

  status(text: string | RegExp): Locator {
    return this.page.locator('.statusbar-item', { hasText: text }).first();
  }

  toast(text: string | RegExp): Locator {
    return this.page.locator('.notifications-toasts .notification-list-item', { hasText: text }).first();
  }

  /** A button of a toast. */
  toastButton(text: string | RegExp, name: string): Locator {
    return this.toast(text).getByRole('button', { name, exact: true });
  }

  codeLens(text: string | RegExp): Locator {
    return this.page.locator('.codelens-decoration a', { hasText: text }).first();
  }

  /** The pane with this title in the side bar. */
  pane(title: string): Locator {
    return this.page.locator('.pane', { has: this.page.locator('.pane-header', { hasText: title }) });
  }

  /** Opens the debugger's side bar, with room for the patches. */
  async showPatches(): Promise<void> {
    await this.command('Focus on Patches View');
    for (const title of ['Variables', 'Watch', 'Breakpoints']) {
      const header = this.pane(title).locator('.pane-header');
      if (await header.getAttribute('aria-expanded') === 'true') {
        await header.click();
      }
    }
  }

  /** The first row of a pane that has the text. */
  row(pane: string, text: string | RegExp): Locator {
    return this.pane(pane).locator('.monaco-list-row', { hasText: text }).first();
  }

  /** Presses the inline action of a row, which shows while the mouse is over it. */
  async inline(row: Locator, action: string): Promise<void> {
    await row.hover();
    await row.getByRole('button', { name: action }).click();
  }

  /** The button of this name in the toolbar of the debugger. */
  toolbar(name: string): Locator {
    return this.page.locator('.debug-toolbar').getByRole('button', { name }).first();
  }

  /** Picks from the menu of a line's number. */
  async lineMenu(line: number, item: string): Promise<void> {
    const number = this.page.locator('.editor-instance .margin-view-overlays .line-numbers', { hasText: new RegExp(`^${line}$`) });
    const entry = this.page.locator('.monaco-menu .action-item', { hasText: item });
    await this.press(number, () => entry.isVisible(), 'right');
    await this.press(entry, async () => !(await entry.isVisible()));
  }

  /** Closes every toast. */
  async clearToasts(): Promise<void> {
    await this.command('Notifications: Clear All Notifications');
  }
}
