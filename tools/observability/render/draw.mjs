// node draw.mjs INPUT.json PICTURE.png ...: bundles the page, opens it in Chromium, keeps a small picture of each.
import { build } from 'esbuild';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import puppeteer from 'puppeteer-core';
import UPNG from 'upng-js';

const here = dirname(fileURLToPath(import.meta.url));
const COLORS = 64;
const jobs = process.argv.slice(2);
const directory = await mkdtemp(join(tmpdir(), 'citadel-pictures-'));
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--force-color-profile=srgb'],
});
let failed = false;
try {
  const script = join(directory, 'page.js');
  await build({
    entryPoints: [join(here, 'page.jsx')],
    bundle: true,
    outfile: script,
    format: 'iife',
    // Their CommonJS builds: in the others esbuild takes the default exports of older packages for modules.
    alias: Object.fromEntries(['data', 'ui'].map((name) => [`@grafana/${name}`, join(here, `node_modules/@grafana/${name}/dist/cjs/index.cjs`)])),
    loader: { '.svg': 'dataurl', '.png': 'dataurl', '.woff': 'empty', '.woff2': 'empty', '.ttf': 'empty' },
    define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
    logLevel: 'error',
  });
  for (let index = 0; index < jobs.length; index += 2) {
    const html = join(directory, 'page.html');
    const input = await readFile(jobs[index], 'utf8');
    await writeFile(html, `<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="page.css"><div id="root"></div><script>window.INPUT=${input.replaceAll('<', '\\u003c')}</script><script src="page.js"></script>`);
    const page = await browser.newPage();
    page.on('pageerror', (error) => { console.error(`${jobs[index]}: ${error.message}`); });
    page.on('console', (message) => {
      if (message.text().startsWith('PANEL')) {
        failed = true;
        console.error(message.text());
      }
    });
    await page.setViewport({ width: 1448, height: 900 });
    await page.goto(`file://${html}`);
    await page.waitForFunction('window.DRAWN === true', { timeout: 30000 });
    const root = await page.$('#root');
    const picture = UPNG.decode(await root.screenshot());
    const small = UPNG.encode(UPNG.toRGBA8(picture), picture.width, picture.height, COLORS);
    await writeFile(jobs[index + 1], Buffer.from(small));
    await page.close();
  }
} finally {
  await browser.close();
  await rm(directory, { recursive: true, force: true });
}
process.exit(failed ? 1 : 0);
