// Every page, light and dark, phone and desk: it opens, is accessible by axe-core's rules, fits, weighs
// little, does not jump, and takes nothing from anywhere else.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { Client, DESK, Device, launch, open, PHONE, portrait, signIn } from './harness.mjs';
import { PAGES, PUBLIC_PAGES, settled } from './pages.mjs';

const axe = fs.readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const MOST_BYTES = 150_000;

let device;
let browser;
let subject;
before(async () => {
  device = await Device.start();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await device?.stop();
});

// What axe-core calls serious or worse, as lines.
async function issues(page) {
  await page.evaluate(axe);
  const found = await page.evaluate(() => globalThis.axe.run({ resultTypes: ['violations'] }));
  return found.violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.target.join(' ')}: ${node.failureSummary}`));
}

async function look(page, name, { viewport, dark }) {
  const label = `${name}, ${viewport.width} px, ${dark ? 'dark' : 'light'}`;
  await settled(page);
  assert.deepEqual(await issues(page), [], label);
  const width = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(width <= viewport.width, `${label}: the page is ${width} px wide`);
  assert.deepEqual(page.faults, [], label);
}

const variants = [PHONE, DESK].flatMap((viewport) => [false, true].map((dark) => ({ viewport, dark })));

// axe-core runs inside the page, which the page's own policy would forbid; it is lifted for this alone.
async function opened(variant, where) {
  const context = await browser.newContext({
    viewport: variant.viewport, colorScheme: variant.dark ? 'dark' : 'light', locale: 'en-GB', bypassCSP: true,
  });
  const page = await context.newPage();
  page.faults = [];
  page.on('pageerror', (error) => page.faults.push(String(error)));
  await page.goto(device.origin + where);
  return page;
}

test('axe-core finds what is wrong with a page that is', async () => {
  const page = await opened({ viewport: DESK, dark: false }, '/sign-in');
  await settled(page);
  await page.evaluate(() => {
    const field = document.createElement('input');
    document.querySelector('main').append(field);
  });
  assert.match((await issues(page)).join('\n'), /^label: /m);
  await page.context().close();
});

test('set-up page is accessible and fits', async () => {
  for (const variant of variants) {
    const page = await opened(variant, '/setup');
    await look(page, 'setup', variant);
    await page.context().close();
  }
});

test('every page is accessible and fits', async () => {
  const owner = await Client.owner(device);
  subject = await owner.enrol('Grace Hopper', portrait('grace_hopper_1'));
  let looked = 0;
  for (const variant of variants) {
    const page = await opened(variant, '/sign-in');
    for (const { name, where } of PUBLIC_PAGES) {
      await page.goto(device.origin + where);
      await look(page, name, variant);
      looked += 1;
    }
    await signIn(page);
    for (const { name, where } of PAGES) {
      await page.goto(device.origin + where.replace('SUBJECT', subject));
      await look(page, name, variant);
      looked += 1;
    }
    await page.context().close();
  }
  assert.equal(looked, variants.length * (PAGES.length + PUBLIC_PAGES.length));
});

test('every page is light, still, and of this device alone', async () => {
  const page = await open(browser, device, { where: '/sign-in' });
  await signIn(page);
  const session = await page.context().newCDPSession(page);
  await session.send('Network.enable');
  await session.send('Network.setCacheDisabled', { cacheDisabled: true });
  const foreign = [];
  const pictures = new Set();
  let bytes = 0;
  session.on('Network.requestWillBeSent', ({ request }) => {
    if (!/^(blob|data):/.test(request.url) && new URL(request.url).host !== new URL(device.origin).host) {
      foreign.push(request.url);
    }
  });
  session.on('Network.responseReceived', ({ requestId, type }) => {
    if (type === 'Image') pictures.add(requestId);
  });
  session.on('Network.dataReceived', ({ requestId, dataLength }) => {
    if (!pictures.has(requestId)) bytes += dataLength;
  });
  for (const { name, where } of PAGES) {
    bytes = 0;
    await page.goto(device.origin + where.replace('SUBJECT', subject));
    await settled(page);
    assert.ok(bytes > 1_000 && bytes < MOST_BYTES, `${name} fetched ${bytes} bytes`);
    const shift = await page.evaluate(() => new Promise((resolve) => {
      let sum = 0;
      new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) if (!entry.hadRecentInput) sum += entry.value;
      }).observe({ type: 'layout-shift', buffered: true });
      setTimeout(() => resolve(sum), 300);
    }));
    assert.ok(shift < 0.02, `${name} jumped by ${shift}`);
  }
  assert.deepEqual(foreign, []);
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test('a dialog ends with the page it was opened on', async () => {
  const page = await open(browser, device, { where: '/sign-in' });
  await signIn(page);
  await page.goto(`${device.origin}/events?kind=identified`);
  await page.getByRole('region', { name: 'Events' }).getByText('Barack Obama').first().click();
  await page.getByRole('dialog').getByRole('link', { name: 'Open this person' }).click();
  await page.waitForURL((url) => url.pathname.startsWith('/faces/'));
  await page.getByRole('heading', { name: 'Barack Obama' }).waitFor();
  assert.equal(await page.locator('dialog').count(), 0);
  assert.deepEqual(page.faults, []);
  await page.context().close();
});
