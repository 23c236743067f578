/** Reads lines KEY=value; a value may stand in quotes, and lines may begin with # or export. */
export function parseEnvFile(text: string): Record<string, string> {
  const env: Record<string, string> = {};
  for (const line of text.replace(/^\uFEFF/, '').split(/\r?\n/)) {
    const m = /^\s*(?:export\s+)?([\w.-]+)\s*=\s*(.*?)\s*$/.exec(line);
    const [, key, raw] = m ?? [];
    if (key === undefined || raw === undefined) {
      continue;
    }
    if (raw.length > 1 && raw.startsWith('"') && raw.endsWith('"')) {
      env[key] = raw.slice(1, -1).replace(/\\n/g, '\n').replace(/\\(["\\])/g, '$1');
    } else if (raw.length > 1 && raw.startsWith("'") && raw.endsWith("'")) {
      env[key] = raw.slice(1, -1);
    } else {
      env[key] = raw.replace(/\s+#.*$/, '');
    }
  }
  return env;
}
