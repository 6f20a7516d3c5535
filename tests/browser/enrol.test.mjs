// Giving pictures: choosing among several faces, what is said of those that cannot be used, pictures
// stored on their side, dropping, pasting, phones, and taking one with either camera.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { Client, DESK, Device, PATIENCE, drawn, launch, open, OWNER, PHONE, portrait, recording, signIn, until } from './harness.mjs';

let device;
let browser;
let folder;
let page;
before(async () => {
  device = await Device.start();
  await Client.owner(device);
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'limen-enrol-'));
  browser = await launch({ camera: await recording(folder, [portrait('grace_hopper_1')], 25) });
  page = await open(browser, device, { where: '/sign-in', viewport: DESK });
  await page.context().grantPermissions(['camera'], { origin: device.origin });
  await signIn(page);
});
after(async () => {
  await browser?.close();
  await device?.stop();
  fs.rmSync(folder, { recursive: true, force: true });
});

const card = (name, where = page) => where.getByRole('article', { name });
const give = async (name, buffer) => {
  await page.getByLabel('Choose pictures').setInputFiles({ name, mimeType: 'image/jpeg', buffer });
};

// With an EXIF segment that says how the picture is to be turned.
function oriented(jpeg, orientation) {
  const tiff = Buffer.from([
    0x4d, 0x4d, 0, 42, 0, 0, 0, 8, 0, 1, // big endian; one entry
    0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0, 0, 0, 0, 0,
  ]);
  const body = Buffer.concat([Buffer.from('Exif\0\0', 'latin1'), tiff]);
  const head = Buffer.from([0xff, 0xe1, (body.length + 2) >> 8, (body.length + 2) & 255]);
  return Buffer.concat([jpeg.subarray(0, 2), head, body, jpeg.subarray(2)]);
}

test('of several faces the right one is chosen and enrolled', async () => {
  await page.goto(`${device.origin}/enrol`);
  await give('two.jpg', await drawn(page, 1000, 600, [
    { name: 'grace_hopper_1', x: 0, wide: 500 }, { name: 'joe_biden_1', x: 520, wide: 460 },
  ]));
  const two = card('two.jpg');
  await two.getByText('2 faces. Choose the right one.').waitFor();
  assert.equal(await page.getByRole('button', { name: 'Enrol', exact: true }).isDisabled(), true);
  // The one on the right, wherever it stands in the list.
  const faces = two.getByRole('button', { name: /^Face \d/ });
  const boxes = await Promise.all([0, 1].map(async (n) => (await faces.nth(n).boundingBox()).x));
  await faces.nth(boxes[1] > boxes[0] ? 1 : 0).click();
  await two.getByText(/^Face \d of 2, quality/).waitFor();
  await page.getByLabel('Name', { exact: true }).fill('Joe Biden');
  await page.getByRole('button', { name: 'Enrol', exact: true }).click();
  await page.getByText('Joe Biden is enrolled').waitFor();
  // It was his face and not hers.
  const sure = await (await page.request.get(`${device.origin}/api/session`)).json();
  const headers = { 'x-csrf-token': sure.csrf };
  const probe = await (await page.request.post(`${device.origin}/api/pictures`, { headers: { ...headers, 'content-type': 'image/jpeg' }, data: fs.readFileSync(portrait('joe_biden_1')) })).json();
  const told = await (await page.request.post(`${device.origin}/api/identify`, { headers, data: { picture: probe.id, face: 0 } })).json();
  assert.equal(told.decision, 'match');
  assert.equal(told.candidates[0].name, 'Joe Biden');
});

test('what cannot be used is told in words, each for its own reason', async () => {
  await page.goto(`${device.origin}/enrol`);
  const whole = { name: 'eileen_collins_1', wide: 620 };
  const cases = {
    'nobody.jpg': [await drawn(page, 640, 480, []), /no face/i],
    'small.jpg': [await drawn(page, 900, 700, [{ name: 'eileen_collins_1', x: 400, y: 250, wide: 90 }]), /too far.*nearer/i],
    'blurred.jpg': [await drawn(page, 620, 776, [{ ...whole, filter: 'blur(9px)' }]), /blurred|sharper|not look like a face/i],
    'dark.jpg': [await drawn(page, 620, 776, [{ ...whole, filter: 'brightness(12%)' }]), /too dark.*more light/i],
  };
  for (const [name, [bytes, words]] of Object.entries(cases)) {
    await give(name, bytes);
    await card(name).getByText('Looking for faces…').waitFor({ state: 'hidden' });
    const said = (await card(name).innerText()).replace(name, '');
    assert.match(said, words, name);
    assert.doesNotMatch(said, /Face found/, name);
  }
  await page.getByText('No usable picture yet.').waitFor();
  assert.equal(await page.getByRole('button', { name: 'Enrol', exact: true }).isDisabled(), true);
  assert.deepEqual(page.faults, []);
});

test('a picture that is too large is not even sent', async () => {
  await page.goto(`${device.origin}/enrol`);
  const sent = [];
  page.on('request', (request) => { if (new URL(request.url()).pathname === '/api/pictures') sent.push(request); });
  const file = path.join(folder, 'large.jpg');
  fs.writeFileSync(file, Buffer.concat([fs.readFileSync(portrait('joe_biden_1')), Buffer.alloc(33 << 20)]));
  await page.getByLabel('Choose pictures').setInputFiles(file);
  await card('large.jpg').getByText(/at most 34 MB\. Give a smaller copy/).waitFor();
  assert.deepEqual(sent, []);
});

test('a picture stored on its side is shown upright and its face found', async () => {
  await page.goto(`${device.origin}/enrol`);
  // As a phone held upright stores it: turned to the left, with the note to turn it back.
  const lying = await drawn(page, 640, 527, [{ name: 'barack_obama_1', x: 0, y: 527, wide: 527, turn: -Math.PI / 2 }]);
  await give('phone.jpg', oriented(lying, 6));
  await card('phone.jpg').getByText(/Face found/).waitFor();
  const shown = card('phone.jpg').locator('img').first();
  await shown.evaluate((image) => image.decode());
  const [width, height] = await shown.evaluate((image) => [image.naturalWidth, image.naturalHeight]);
  assert.ok(height > width, `${width}x${height}`);
  // Without the note it lies, and is not taken for a face that looks at the camera.
  await give('lying.jpg', lying);
  await card('lying.jpg').getByText('Looking for faces…').waitFor({ state: 'hidden' });
  assert.doesNotMatch(await card('lying.jpg').innerText(), /Face found/);
});

test('pictures are dropped and pasted', async () => {
  await page.goto(`${device.origin}/enrol`);
  const base64 = fs.readFileSync(portrait('grace_hopper_1')).toString('base64');
  const files = (name) => page.evaluateHandle(([base64, name]) => {
    const carried = new DataTransfer();
    carried.items.add(new File([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))], name, { type: 'image/jpeg' }));
    return carried;
  }, [base64, name]);
  await page.locator('.drop').dispatchEvent('drop', { dataTransfer: await files('dropped.jpg') });
  await card('dropped.jpg').getByText(/Face found/).waitFor();
  await page.evaluate((carried) => {
    document.body.dispatchEvent(new ClipboardEvent('paste', { clipboardData: carried, bubbles: true }));
  }, await files('pasted.jpg'));
  await card('pasted.jpg').getByText(/Face found/).waitFor();
  assert.deepEqual(page.faults, []);
});

test('this browser\'s camera and the device\'s each give a picture', async () => {
  await page.goto(`${device.origin}/enrol`);
  await page.getByRole('button', { name: 'This camera', exact: true }).click();
  const dialog = page.getByRole('dialog', { name: 'Take a picture' });
  await dialog.getByRole('button', { name: 'Take the picture' }).click();
  await card(/^camera-.*jpg/).getByText(/Face found/).waitFor();
  // People come and go before the device: now and then nobody is there, which is told.
  await until('a face before the device', async () => {
    await page.getByRole('button', { name: 'Device camera', exact: true }).click();
    await card('Device camera').getByText('Looking for faces…').waitFor({ state: 'hidden' });
    const said = await card('Device camera').innerText();
    if (/Face found|faces\./.test(said)) return true;
    assert.match(said, /No face was found|The face is|not look like a face|quality score/);
    await page.getByRole('button', { name: 'Remove Device camera' }).click();
    return false;
  }, 4 * PATIENCE);
});

test('a phone is offered its own camera', async () => {
  const context = await browser.newContext({ viewport: PHONE, hasTouch: true, isMobile: true, locale: 'en-GB' });
  const phone = await context.newPage();
  phone.setDefaultTimeout(PATIENCE);
  await phone.goto(`${device.origin}/sign-in`);
  await signIn(phone, OWNER);
  await phone.goto(`${device.origin}/enrol`);
  const [chooser] = await Promise.all([phone.waitForEvent('filechooser'), phone.getByRole('button', { name: 'Take a picture', exact: true }).tap()]);
  assert.equal(await chooser.element().getAttribute('capture'), 'user');
  assert.equal(await phone.getByRole('button', { name: 'This camera' }).count(), 0);
  await chooser.setFiles(portrait('grace_hopper_1'));
  await card('grace_hopper_1.jpg', phone).getByText(/Face found/).waitFor();
  await context.close();
});
