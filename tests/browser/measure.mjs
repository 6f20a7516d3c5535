// Measures every page of the admin page over loopback in headless Chromium: `make pages`. First
// contentful paint (a fresh profile, nothing cached), bytes fetched, layout shift. A benchmark: its
// figures are for docs/performance.md, and a busy machine changes them.

import { Client, DESK, Device, launch, open, OWNER, portrait, signIn } from './harness.mjs';
import { PAGES, PUBLIC_PAGES, settled } from './pages.mjs';

const ROUNDS = Number(process.env.ROUNDS ?? 5);

const device = await Device.start();
const owner = await Client.owner(device);
const subject = await owner.enrol('Grace Hopper', portrait('grace_hopper_1'));
const browser = await launch();
const rows = [];
for (const page of [...PUBLIC_PAGES, ...PAGES]) {
  const where = page.where.replace('SUBJECT', subject);
  const paints = [];
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
      return { paint: paint?.startTime, shift };
    });
    paints.push(seen.paint);
    shift = Math.max(shift, seen.shift);
    await tab.context().close();
  }
  paints.sort((a, b) => a - b);
  rows.push({ page: page.name, paint: paints[Math.floor(paints.length / 2)], most: paints.at(-1), bytes, shift });
}
await browser.close();
await device.stop();

console.log('| page | first paint, median of %d, ms | most, ms | bytes without pictures, not compressed | layout shift |', ROUNDS);
console.log('| --- | --- | --- | --- | --- |');
for (const row of rows) {
  console.log(`| ${row.page} | ${row.paint.toFixed(0)} | ${row.most.toFixed(0)} | ${row.bytes} | ${row.shift.toFixed(3)} |`);
}
