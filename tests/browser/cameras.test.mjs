// Cameras: the device's with its overlay, this browser's through the WebSocket, guided capture with
// both, and what is said when a camera cannot be had.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { Client, Device, drawn, hide, launch, open, portrait, recording, signIn, unhide, until } from './harness.mjs';

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
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

// The connections of a page to that path, as they are opened.
function connections(page, where) {
  const all = [];
  page.on('websocket', (line) => {
    if (new URL(line.url()).pathname !== where) return;
    const seen = { frames: 0, closed: () => line.isClosed() };
    line.on('framereceived', () => { seen.frames += 1; });
    all.push(seen);
  });
  return all;
}

test('a paused live view takes no frame until it goes on', async () => {
  const page = await open(browser, device, { where: '/sign-in' });
  await signIn(page);
  const lines = connections(page, '/api/live');
  await page.goto(`${device.origin}/live`);
  await until('frames', () => lines.at(-1)?.frames > 3);
  const line = lines.at(-1);
  await page.getByRole('button', { name: 'Pause' }).click();
  await until('the connection to be closed', () => line.closed());
  const frames = line.frames;
  const opened = lines.length;
  await page.getByRole('button', { name: 'Go on' }).click();
  await until('frames again', () => lines.length > opened && lines.at(-1).frames > 3);
  assert.equal(line.frames, frames, 'none came over the old connection');
  assert.equal(lines.length, opened + 1, 'and none was opened meanwhile');
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

test('a hidden page lets go of this browser\'s camera and takes it again when shown', async () => {
  const page = await open(browser, device, { where: '/sign-in' });
  await page.context().grantPermissions(['camera'], { origin: device.origin });
  await signIn(page);
  const lines = connections(page, '/api/compare/stream');
  await page.goto(`${device.origin}/live?camera=browser`);
  await page.getByRole('button', { name: 'Start the camera' }).click();
  await until('answers', () => lines.at(-1)?.frames > 1);
  const track = await page.evaluateHandle(() => document.querySelector('video').srcObject.getVideoTracks()[0]);
  await hide(page);
  await page.getByText('Paused while this page is not in view.').waitFor();
  assert.equal(await track.evaluate((it) => it.readyState), 'ended');
  await until('the connection to be closed', () => lines.every((line) => line.closed()));
  const before = lines.length;
  await unhide(page);
  await until('answers again', () => lines.length > before && lines.at(-1).frames > 1);
  assert.equal(lines.length, before + 1, 'one connection, not two');
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

test('guided capture with this camera takes pictures and warns of the likeness', async () => {
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

// A browser whose camera shows that picture of 640x480, on the page for guided capture.
async function facing(name, pieces) {
  const maker = await browser.newPage();
  const file = path.join(folder, `${name}.jpg`);
  fs.writeFileSync(file, await drawn(maker, 640, 480, pieces));
  await maker.close();
  const room = path.join(folder, name);
  fs.mkdirSync(room);
  const own = await launch({ camera: await recording(room, [file], 25) });
  const page = await open(own, device, { where: '/sign-in' });
  await page.context().grantPermissions(['camera'], { origin: device.origin });
  await signIn(page);
  const lines = connections(page, '/api/enrol/guide');
  await page.goto(`${device.origin}/enrol?with=browser`);
  await page.getByRole('button', { name: 'Start', exact: true }).click();
  return { page, lines, close: () => own.close() };
}
const hopper = { name: 'grace_hopper_1', x: 230, wide: 400 };

test('guided capture enrols somebody new, past a bystander, and outlives a hidden page with one connection', async () => {
  // The bystander is on the left, where faces are counted from, and too far away to be used.
  const { page, lines, close } = await facing('bystander', [{ name: 'joe_biden_1', x: 10, y: 40, wide: 110 }, hopper]);
  try {
    const taken = page.getByRole('img', { name: /^Taken: / });
    await taken.first().waitFor();
    const hint = page.locator('.guide-hint');
    // An arrow may stand before the words.
    assert.match(await hint.innerText(), /^\s*(Turn your head slightly to your left|Hold still)/);
    await hide(page);
    await page.getByText('Paused while this page is not in view.').waitFor();
    await until('the connection to be closed', () => lines.every((line) => line.closed()));
    await unhide(page);
    await page.getByText('the capture has started over').waitFor();
    await taken.first().waitFor();
    assert.equal(lines.length, 2, 'one connection before and one after');

    // Left, the capture's pictures stay in view and can be taken out one by one.
    await page.getByRole('tab', { name: 'Pictures' }).click();
    const list = page.getByRole('list', { name: 'Taken with guidance' });
    await list.getByRole('img', { name: 'Taken: front' }).waitFor();
    await page.getByText(/picture is ready/).waitFor();
    await list.getByRole('button', { name: /^Remove picture 1/ }).click();
    await page.getByText('No usable picture yet.').waitFor();

    await page.getByRole('tab', { name: 'This camera' }).click();
    await page.getByRole('button', { name: 'Start', exact: true }).click();
    await taken.first().waitFor();
    await page.getByLabel('Name', { exact: true }).fill('Grace Hopper');
    await page.getByRole('button', { name: 'Enrol', exact: true }).click();
    await page.getByText('Grace Hopper is enrolled').waitFor();
    assert.deepEqual(page.faults, []);
  } finally {
    await close();
  }
  const client = new Client(device);
  await client.signIn('owner', 'correct horse battery');
  const probe = await client.expect(201, 'POST', '/api/pictures', fs.readFileSync(portrait('grace_hopper_1')), { 'content-type': 'image/jpeg' });
  const told = await client.expect(200, 'POST', '/api/identify', { picture: probe.id, face: 0 });
  assert.deepEqual([told.decision, told.candidates[0].name], ['match', 'Grace Hopper']);
});

test('guided capture takes nothing of two who stand side by side, and of one far away asks to come closer', async () => {
  for (const [name, pieces, words] of [
    ['two', [{ name: 'joe_biden_1', wide: 310 }, { name: 'grace_hopper_1', x: 320, wide: 310 }], 'One person only, please.'],
    ['far', [{ name: 'grace_hopper_1', x: 270, y: 160, wide: 90 }], 'Come closer.'],
  ]) {
    const { page, close } = await facing(name, pieces);
    try {
      await page.locator('.guide-hint').getByText(words, { exact: true }).waitFor();
      assert.equal(await page.getByText('0 of 5 pictures taken').count(), 1);
      assert.equal(await page.getByRole('button', { name: 'Enrol', exact: true }).isDisabled(), true);
    } finally {
      await close();
    }
  }
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

test('a frame of this browser\'s camera proves a claim', async () => {
  const page = await open(browser, device, { where: '/sign-in' });
  await page.context().grantPermissions(['camera'], { origin: device.origin });
  await signIn(page);
  await page.goto(`${device.origin}/verify?mode=claim`);
  await page.getByRole('button', { name: 'This camera', exact: true }).click();
  await page.getByRole('dialog', { name: 'Take a picture' }).getByRole('button', { name: 'Take the picture' }).click();
  await page.getByText(/Face found/).waitFor();
  await page.getByLabel('Claimed person').fill('Barack');
  await page.getByRole('option', { name: /Barack Obama/ }).click();
  await page.getByRole('button', { name: 'Compare' }).click();
  await page.getByRole('region', { name: 'Result' }).getByRole('heading', { name: 'The same person', exact: true }).waitFor();
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test('a probe that is too small is compared, and the result says what limited it', async () => {
  const page = await open(browser, device, { where: '/sign-in' });
  await signIn(page);
  await page.goto(`${device.origin}/verify`);
  const small = await drawn(page, 640, 480, [{ name: 'barack_obama_1', x: 250, y: 150, wide: 90 }]);
  await page.getByLabel('Choose a picture').setInputFiles({ name: 'small.jpg', mimeType: 'image/jpeg', buffer: small });
  await page.getByText(/too far/).waitFor();
  await page.getByRole('button', { name: 'Find out' }).click();
  const result = page.getByRole('region', { name: 'Result' });
  await result.getByRole('heading', { name: 'What limited it' }).waitFor();
  await result.getByText(/too far.*nearer/).waitFor();
  await page.context().close();
});

test('a page that is hidden lets the live view go', async () => {
  const page = await open(browser, device, { where: '/sign-in' });
  await signIn(page);
  await page.goto(`${device.origin}/live`);
  await until('a picture', () => painted(page));
  await hide(page);
  await page.getByText('Paused while this page is not in view.').waitFor();
  await unhide(page);
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
    await until('words about the camera', async () => /no such device file: plug the camera in/.test(await page.locator('main').innerText()));
    await page.context().close();
  } finally {
    await blind.stop();
  }
});
