import { strict as assert } from 'node:assert';
import { existsSync, readdirSync, readFileSync } from 'node:fs';

interface Manifest {
  contributes: {
    commands: { command: string }[];
    menus: Record<string, { command: string }[]>;
    walkthroughs: { steps: { media: { svg: string } }[] }[];
    views: { debug: { icon: string }[] };
    keybindings: { command: string }[];
    configuration: { properties: Record<string, { markdownDescription?: string }> };
  };
  icon: string;
  dependencies?: object;
}

const manifestText = readFileSync('package.json', 'utf8');
const manifest = JSON.parse(manifestText) as Manifest;
const source = readdirSync('src').map((name) => readFileSync(`src/${name}`, 'utf8')).join('\n');

describe('package.json', () => {
  it('has all its texts in package.nls.json, and no text twice', () => {
    const texts = Object.keys(JSON.parse(readFileSync('package.nls.json', 'utf8')) as object).sort();
    const used = [...new Set([...manifestText.matchAll(/"%([^%"]+)%"/g)].map((m) => m[1]))].sort();
    assert.deepEqual(used, texts);
  });
  it('contributes just the commands that there are', () => {
    const registered = [...source.matchAll(/command\('(darn\.\w+)'/g)].map((m) => m[1]).sort();
    assert.deepEqual(manifest.contributes.commands.map((c) => c.command).sort(), registered);
    for (const { command } of [...Object.values(manifest.contributes.menus).flat(), ...manifest.contributes.keybindings]) {
      assert.ok(registered.includes(command), `a menu has ${command}`);
    }
  });
  it('names files that are there', () => {
    const files = [manifest.icon, ...manifest.contributes.views.debug.map((v) => v.icon),
      ...manifest.contributes.walkthroughs.flatMap((w) => w.steps.map((s) => s.media.svg))];
    for (const file of files) {
      assert.ok(existsSync(file), file);
    }
  });
  it('describes every setting', () => {
    for (const [name, property] of Object.entries(manifest.contributes.configuration.properties)) {
      assert.match(property.markdownDescription ?? '', /^%/, name);
    }
  });
  it('needs nothing at run time', () => assert.equal(manifest.dependencies, undefined));
});

describe('l10n/bundle.l10n.json', () => {
  it('has just the messages that there are', () => {
    const messages = new Set<string>();
    for (const [, quoted] of source.matchAll(/\bt\(\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")/g)) {
      messages.add((quoted ?? '').slice(1, -1).replace(/\\(.)/g, '$1'));
    }
    const bundle = JSON.parse(readFileSync('l10n/bundle.l10n.json', 'utf8')) as Record<string, string>;
    assert.deepEqual(Object.keys(bundle).sort(), [...messages].sort());
    assert.ok(Object.entries(bundle).every(([key, text]) => key === text));
  });
});
