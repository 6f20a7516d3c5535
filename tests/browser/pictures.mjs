// Makes a picture of every page, light and dark, phone and desk: `make pictures`. They are for looking
// at; the best of them are in the README.

import fs from 'node:fs';
import path from 'node:path';
import { Client, DESK, Device, launch, open, PHONE, portrait, project, signIn } from './harness.mjs';
import { PAGES, PUBLIC_PAGES, settled } from './pages.mjs';

const folder = path.resolve(project, process.argv[2] ?? 'target/pictures');
fs.mkdirSync(folder, { recursive: true });

const device = await Device.start({ settings: { 'sightings.keep': true, 'events.keep_crops': true } });
const browser = await launch();
const variants = [PHONE, DESK].flatMap((viewport) => [false, true].map((dark) => ({ viewport, dark })));
const shoot = async (tab, name, { viewport, dark }) => {
  await settled(tab);
  // Long enough for the live picture and charts to be drawn.
  await tab.waitForTimeout(1_000);
  const file = `${name}-${viewport === PHONE ? 'phone' : 'desk'}-${dark ? 'dark' : 'light'}.png`;
  await tab.screenshot({ path: path.join(folder, file) });
};

for (const variant of variants) {
  const tab = await open(browser, device, { ...variant, where: '/setup' });
  await shoot(tab, 'setup', variant);
  await tab.context().close();
}
const owner = await Client.owner(device);
const subject = await owner.enrol('Grace Hopper', portrait('grace_hopper_1'));
// Visits of the built-in scene, so that lists and charts have something to show.
await new Promise((resolve) => setTimeout(resolve, Number(process.env.VISITS_MS ?? 45_000)));
for (const variant of variants) {
  const tab = await open(browser, device, { ...variant, where: '/sign-in' });
  for (const page of PUBLIC_PAGES) {
    await tab.goto(device.origin + page.where);
    await shoot(tab, page.name, variant);
  }
  await signIn(tab);
  for (const page of PAGES) {
    await tab.goto(device.origin + page.where.replace('SUBJECT', subject));
    await shoot(tab, page.name, variant);
  }
  await tab.context().close();
}
await browser.close();
await device.stop();
console.log(`pictures are in ${folder}`);
