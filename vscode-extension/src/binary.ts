import { existsSync } from 'node:fs';

/**
 * The darn binary to run: what the setting darn.path says, or else the one that
 * came with the extension, or else the one in PATH.
 */
export function darnBinary(setting: string, bundled: string): string {
  if (setting !== '') {
    return setting;
  }
  return existsSync(bundled) ? bundled : 'darn';
}
