// Measures the admin page over loopback in headless Chromium: `make pages`. Of every page: first
// contentful paint (a fresh profile, nothing cached), when its own heading was painted, bytes fetched,
// layout shift. Of the live view: frames drawn a second, their age when drawn, processor time and heap,
// with one page and with several. A benchmark: its figures are for docs/performance.md, and a busy
// machine changes them.

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Client, DESK, Device, launch, open, OWNER, portrait, recording, signIn, until } from './harness.mjs';
import { PAGES, PUBLIC_PAGES, settled } from './pages.mjs';

const ROUNDS = Number(process.env.ROUNDS ?? 5);
// How long a live view is watched, and by how many pages at once.
const LIVE_S = Number(process.env.LIVE_S ?? 10);
const VIEWERS = [1, 4];

// Asks the browser to note when the page's own heading is painted (Element Timing): the heading is there
// only when the script of the page has made it.
function watchHeading() {
  new MutationObserver((_, observer) => {
    const heading = document.querySelector('main h1');
    if (!heading) return;
    heading.setAttribute('elementtiming', 'heading');
    observer.disconnect();
  }).observe(document, { subtree: true, childList: true });
}

const median = (sorted) => sorted[Math.floor(sorted.length / 2)];

const device = await Device.start();
const owner = await Client.owner(device);
const subject = await owner.enrol('Grace Hopper', portrait('grace_hopper_1'));
const browser = await launch();
const rows = [];
for (const page of [...PUBLIC_PAGES, ...PAGES]) {
  const where = page.where.replace('SUBJECT', subject);
  const paints = [];
  const headings = [];
  let bytes = 0;
  let shift = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    // A new context has an empty cache.
    const tab = await open(browser, device, { viewport: DESK, where: '/sign-in' });
    if (PAGES.includes(page)) await signIn(tab);
    const session = await tab.context().newCDPSession(tab);
    await session.send('Network.enable');
    await session.send('Network.clearBrowserCache');
    await session.send('Network.setCacheDisabled', { cacheDisabled: true });
    bytes = 0;
    const pictures = new Set();
    session.on('Network.responseReceived', ({ requestId, type }) => {
      if (type === 'Image') pictures.add(requestId);
    });
    session.on('Network.dataReceived', ({ requestId, dataLength }) => {
      if (!pictures.has(requestId)) bytes += dataLength;
    });
    await tab.addInitScript(watchHeading);
    await tab.goto(device.origin + where);
    await settled(tab);
    const seen = await tab.evaluate(async () => {
      const paint = performance.getEntriesByType('paint').find((entry) => entry.name === 'first-contentful-paint');
      const shift = await new Promise((resolve) => {
        let sum = 0;
        new PerformanceObserver((list) => {
          for (const entry of list.getEntries()) if (!entry.hadRecentInput) sum += entry.value;
        }).observe({ type: 'layout-shift', buffered: true });
        setTimeout(() => resolve(sum), 300);
      });
      const heading = await new Promise((resolve) => {
        new PerformanceObserver((list) => resolve(list.getEntries()[0].renderTime)).observe({ type: 'element', buffered: true });
        setTimeout(() => resolve(NaN), 1000);
      });
      return { paint: paint?.startTime, shift, heading };
    });
    paints.push(seen.paint);
    headings.push(seen.heading);
    shift = Math.max(shift, seen.shift);
    await tab.context().close();
  }
  for (const list of [paints, headings]) list.sort((a, b) => a - b);
  rows.push({ page: page.name, paint: median(paints), most: paints.at(-1), heading: median(headings), bytes, shift });
}
await browser.close();

// Watches the live view with so many pages; what each of them came to.
async function live(watching, viewers, where) {
  const tabs = [];
  for (let n = 0; n < viewers; n += 1) {
    const tab = await open(watching, device, { viewport: DESK, where: '/sign-in' });
    await tab.context().grantPermissions(['camera'], { origin: device.origin });
    await signIn(tab);
    await tab.goto(device.origin + where);
    const start = tab.getByRole('button', { name: 'Start the camera' });
    if (where.includes('browser')) await start.click();
    tabs.push(tab);
  }
  const seen = await Promise.all(tabs.map(async (tab) => {
    const facts = () => tab.locator('main').getByText(/frames a second/).first().innerText();
    await until('frames', async () => Number.parseFloat(await facts()) > 0);
    const session = await tab.context().newCDPSession(tab);
    await session.send('Performance.enable');
    const measure = async () => {
      await session.send('HeapProfiler.collectGarbage');
      const { metrics } = await session.send('Performance.getMetrics');
      return Object.fromEntries(metrics.map(({ name, value }) => [name, value]));
    };
    const before = await measure();
    const rates = [];
    const ages = [];
    for (let second = 0; second < LIVE_S; second += 1) {
      await tab.waitForTimeout(1000);
      const [, rate, age] = /([\d.]+) frames a second, (\d+) ms/.exec(await facts());
      rates.push(Number(rate));
      ages.push(Number(age));
    }
    const after = await measure();
    const seconds = after.Timestamp - before.Timestamp;
    for (const list of [rates, ages]) list.sort((a, b) => a - b);
    return {
      rate: median(rates), slowest: rates[0], age: median(ages), oldest: ages.at(-1),
      processor: (after.TaskDuration - before.TaskDuration) / seconds * 100,
      heap: (after.JSHeapUsedSize - before.JSHeapUsedSize) / 1024,
    };
  }));
  for (const tab of tabs) await tab.context().close();
  return seen;
}

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'limen-measure-'));
const watching = await launch({ camera: await recording(folder, [portrait('barack_obama_1'), portrait('barack_obama_3')], 25) });
const views = [];
for (const [what, where] of [['device', '/live'], ['this browser', '/live?camera=browser']]) {
  for (const viewers of VIEWERS) views.push({ what, viewers, seen: await live(watching, viewers, where) });
}
await watching.close();
fs.rmSync(folder, { recursive: true, force: true });
await device.stop();

console.log('| page | first paint, median of %d, ms | most, ms | own heading painted, median, ms | bytes without pictures, not compressed | layout shift |', ROUNDS);
console.log('| --- | --- | --- | --- | --- | --- |');
for (const row of rows) {
  console.log(`| ${row.page} | ${row.paint.toFixed(0)} | ${row.most.toFixed(0)} | ${row.heading.toFixed(0)} | ${row.bytes} | ${row.shift.toFixed(3)} |`);
}

// The worst of the pages that watched at once. Processor: of the page's own main thread; the drawing of
// the browser itself comes on top.
console.log('\n| live view of %d s, camera of | pages | frames a second, median (least) | ms from lens to screen, median (most) | main thread, %% | heap growth, KiB |', LIVE_S);
console.log('| --- | --- | --- | --- | --- | --- |');
for (const { what, viewers, seen } of views) {
  const most = (key) => Math.max(...seen.map((one) => one[key]));
  const least = (key) => Math.min(...seen.map((one) => one[key]));
  console.log(`| ${what} | ${viewers} | ${least('rate').toFixed(1)} (${least('slowest').toFixed(1)}) | ${most('age')} (${most('oldest')}) | ${most('processor').toFixed(1)} | ${most('heap').toFixed(0)} |`);
}
