// Cameras: the device's with its overlay, this browser's through the WebSocket, guided capture with
// both, and what is said when a camera cannot be had.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { Client, Device, launch, open, portrait, recording, signIn, until } from './harness.mjs';

let device;
let browser;
let folder;
before(async () => {
  device = await Device.start();
  await Client.owner(device);
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'limen-camera-'));
  // Faces of one person in several poses, each long enough to be looked at a few times.
  const poses = ['barack_obama_1', 'barack_obama_3', 'barack_obama_2'].map(portrait);
  browser = await launch({ camera: await recording(folder, poses, 25) });
});
after(async () => {
  await browser?.close();
  await device?.stop();
  fs.rmSync(folder, { recursive: true, force: true });
});

// Whether the canvas shows a picture and not one colour.
const painted = (page) => page.locator('main canvas').first().evaluate((canvas) => {
  if (!canvas.width) return false;
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  const seen = new Set();
  for (let at = 0; at < data.length; at += 4 * 997) seen.add(`${data[at]},${data[at + 1]},${data[at + 2]}`);
  return seen.size > 50;
});

test('live view draws the device camera with names on faces', async () => {
  const page = await open(browser, device, { where: '/sign-in' });
  await signIn(page);
  await page.goto(`${device.origin}/live`);
  await until('a picture', () => painted(page));
  await page.getByRole('list', { name: 'Faces in view' }).getByText(/Barack Obama|Eileen Collins/).waitFor({ timeout: 120_000 });
  await page.getByRole('button', { name: 'Pause' }).click();
  await page.getByRole('button', { name: 'Go on' }).click();
  await until('the picture again', () => painted(page));
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test('the browser\'s own camera is compared frame by frame and released on leaving', async () => {
  const page = await open(browser, device, { where: '/sign-in' });
  await page.context().grantPermissions(['camera'], { origin: device.origin });
  await signIn(page);
  await page.goto(`${device.origin}/live?camera=browser`);
  await page.getByRole('button', { name: 'Start the camera' }).click();
  await page.getByRole('list', { name: 'Faces in view' }).getByText('Barack Obama').waitFor();
  const track = await page.evaluateHandle(() => document.querySelector('video').srcObject.getVideoTracks()[0]);
  assert.equal(await track.evaluate((it) => it.readyState), 'live');
  await page.getByRole('link', { name: 'Overview' }).first().click();
  await until('the camera to be released', () => track.evaluate((it) => it.readyState === 'ended'));
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test('a camera that is not allowed is told in words', async () => {
  const refusing = await launch({ camera: await recording(folder, [portrait('joe_biden_1')]), permissions: false });
  const page = await open(refusing, device, { where: '/sign-in' });
  await page.context().grantPermissions([], { origin: device.origin });
  await signIn(page);
  await page.goto(`${device.origin}/live?camera=browser`);
  await page.getByRole('button', { name: 'Start the camera' }).click();
  await until('words about permission', async () => /allow|permission/i.test(await page.locator('main').innerText()) && !/Waiting for the camera/.test(await page.locator('main').innerText()));
  await refusing.close();
});

test('guided capture with this camera takes pictures, warns of the likeness and adds samples', async () => {
  const page = await open(browser, device, { where: '/sign-in' });
  await page.context().grantPermissions(['camera'], { origin: device.origin });
  await signIn(page);
  await page.goto(`${device.origin}/enrol?with=browser`);
  await page.getByRole('button', { name: 'Start', exact: true }).click();
  await page.getByText(/[1-9] of \d pictures taken/).waitFor();
  await page.getByText(/already knows Barack Obama/).waitFor();
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test('guided capture with the device camera takes pictures of who stands there', async () => {
  const page = await open(browser, device, { where: '/sign-in' });
  await signIn(page);
  await page.goto(`${device.origin}/enrol?with=device`);
  await page.getByRole('button', { name: 'Start', exact: true }).click();
  await page.getByText(/[1-9] of \d pictures taken/).waitFor({ timeout: 120_000 });
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test('a page that is hidden lets the live view go', async () => {
  const page = await open(browser, device, { where: '/sign-in' });
  await signIn(page);
  await page.goto(`${device.origin}/live`);
  await until('a picture', () => painted(page));
  // A headless page is never hidden by itself; this is what a hidden one reports.
  await page.evaluate(() => {
    Object.defineProperty(document, 'hidden', { configurable: true, get: () => true });
    Object.defineProperty(document, 'visibilityState', { configurable: true, get: () => 'hidden' });
    document.dispatchEvent(new Event('visibilitychange'));
  });
  await page.getByText('Paused while this page is not in view.').waitFor();
  await page.evaluate(() => {
    delete document.hidden;
    delete document.visibilityState;
    document.dispatchEvent(new Event('visibilitychange'));
  });
  await until('the picture again', () => painted(page));
  await page.context().close();
});

test('a device without a camera says so on the live page', async () => {
  const blind = await Device.start({ args: ['--source', '/dev/video-that-is-not-there'] });
  try {
    await Client.owner(blind);
    const page = await open(browser, blind, { where: '/sign-in' });
    await signIn(page);
    await page.goto(`${blind.origin}/live`);
    await until('words about the camera', async () => /no camera|camera.*(missing|not there|cannot)/i.test(await page.locator('main').innerText()));
    await page.context().close();
  } finally {
    await blind.stop();
  }
});
