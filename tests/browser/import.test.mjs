// Importing many people: by folder, dropped or chosen, by ZIP, in parts where it is too much for one
// archive; held, ended and looked at again; and what is said when it is refused.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { Client, Device, launch, open, portrait, signIn, until } from './harness.mjs';

// Without a camera all the device has goes to the import.
const BLIND = { args: ['--source', '/dev/video-that-is-not-there'] };

let device;
let browser;
let client;
before(async () => {
  device = await Device.start(BLIND);
  client = await Client.owner(device);
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await device?.stop();
});

const bytesOf = (name) => fs.readFileSync(portrait(name));

// The same picture as another file: a comment segment after the start of the JPEG.
const numbered = (jpeg, n) => Buffer.concat([
  jpeg.subarray(0, 2), Buffer.from([0xff, 0xfe, 0, 6, n >> 24, n >> 16 & 255, n >> 8 & 255, n & 255]), jpeg.subarray(2),
]);

function crc32(bytes) {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc >>> 1 ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

// An archive with its files stored as they are.
function archive(files) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const [name, bytes] of Object.entries(files)) {
    const title = Buffer.from(name);
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(0x800, 2);
    common.writeUInt16LE(0x21, 8);
    common.writeUInt32LE(crc32(bytes), 10);
    common.writeUInt32LE(bytes.length, 14);
    common.writeUInt32LE(bytes.length, 18);
    common.writeUInt16LE(title.length, 22);
    const central = Buffer.alloc(14);
    central.writeUInt32LE(offset, 10);
    directory.push(Buffer.from([0x50, 0x4b, 1, 2, 20, 0]), common, central, title);
    const local = [Buffer.from([0x50, 0x4b, 3, 4]), common, title, bytes];
    parts.push(...local);
    offset += local.reduce((n, part) => n + part.length, 0);
  }
  const size = directory.reduce((n, part) => n + part.length, 0);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  for (const at of [8, 10]) end.writeUInt16LE(Object.keys(files).length, at);
  end.writeUInt32LE(size, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...parts, ...directory, end]);
}

// A folder on the disk with those files in it.
function folder(files) {
  const root = fs.mkdtempSync(path.join(device.folder, 'people-'));
  for (const [name, bytes] of Object.entries(files)) {
    fs.mkdirSync(path.join(root, path.dirname(name)), { recursive: true });
    fs.writeFileSync(path.join(root, name), bytes);
  }
  return root;
}

// A page of its own; `limits`: what it is told that the device takes.
async function visit(limits, to = device) {
  const page = await open(browser, to, { where: '/sign-in' });
  if (limits) await page.route('**/api/imports/limits', (route) => route.fulfill({ json: limits }));
  await signIn(page);
  await page.goto(`${to.origin}/import`);
  return page;
}
const chooseZip = (page, bytes) => page.getByLabel('Choose a ZIP file').setInputFiles({ name: 'people.zip', mimeType: 'application/zip', buffer: bytes });
const go = (page) => page.getByRole('button', { name: 'Import', exact: true }).click();
const cards = (page) => page.getByRole('article', { name: 'Import' });
const jobs = async () => (await client.expect(200, 'GET', '/api/jobs')).jobs;
const people = async (search = '') => (await client.expect(200, 'GET', `/api/subjects?limit=200&search=${encodeURIComponent(search)}`)).subjects;

// Each test finds the device without anybody.
beforeEach(async () => {
  for (const { id } of await people()) await client.expect(200, 'DELETE', `/api/subjects/${id}`);
});

test('a ZIP file is imported, and its report tells of every file', async () => {
  const page = await visit();
  await chooseZip(page, archive({
    'Grace Hopper/1.jpg': bytesOf('grace_hopper_1'), 'Joe Biden/1.jpg': bytesOf('joe_biden_1'), 'Joe Biden/broken.jpg': Buffer.from('no picture at all'),
  }));
  await go(page);
  await page.getByText('Everything is with the device').waitFor();
  await cards(page).first().getByText('2 people new').waitFor();
  await cards(page).first().getByRole('button', { name: 'Report' }).click();
  const report = page.getByRole('dialog', { name: 'Report, file by file' });
  for (const [file, outcome] of [['Grace Hopper/1.jpg', 'Enrolled'], ['Joe Biden/1.jpg', 'Enrolled'], ['Joe Biden/broken.jpg', 'Refused']]) {
    await report.locator('.list > div').filter({ hasText: file }).getByText(outcome, { exact: true }).waitFor();
  }
  assert.deepEqual((await people()).map(({ name }) => name).sort(), ['Grace Hopper', 'Joe Biden']);
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test('a dropped folder is imported; a file dropped beside the zone does not replace the page', async () => {
  const page = await visit();
  const root = folder({ 'Eileen Collins/1.jpg': bytesOf('eileen_collins_1'), 'Joe Biden/1.jpg': bytesOf('joe_biden_1'), 'notes.txt': Buffer.from('x') });
  const session = await page.context().newCDPSession(page);
  const drop = async ({ x, y }, file) => {
    const data = { items: [], files: [file], dragOperationsMask: 1 };
    for (const type of ['dragEnter', 'dragOver', 'drop']) await session.send('Input.dispatchDragEvent', { type, x, y, data });
  };
  const zone = await page.locator('.drop').boundingBox();
  const prevented = page.evaluate(() => new Promise((done) => {
    addEventListener('drop', (event) => done(event.defaultPrevented), { once: true });
  }));
  await drop({ x: zone.x + 20, y: zone.y + zone.height + 60 }, path.join(root, 'Joe Biden/1.jpg'));
  assert.equal(await prevented, true, 'the browser would open the file');
  await drop({ x: zone.x + 20, y: zone.y + 20 }, root);
  await page.getByRole('heading', { name: 'Ready to import' }).waitFor();
  await page.getByText('1 file is left out').waitFor();
  await go(page);
  await page.getByText('Everything is with the device').waitFor();
  await cards(page).first().getByText('2 people new').waitFor();
  assert.deepEqual((await people()).map(({ name }) => name).sort(), ['Eileen Collins', 'Joe Biden']);
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test('an import is held, outlives a reload, goes on, and ended leaves only whole people', async () => {
  const page = await visit();
  const files = {};
  for (let n = 0; n < 150; n += 1) {
    for (const k of [1, 2]) files[`Person ${String(n).padStart(3, '0')}/${k}.jpg`] = numbered(bytesOf(`barack_obama_${k === 1 ? 1 : 3}`), 2 * n + k);
  }
  await chooseZip(page, archive(files));
  await go(page);
  await cards(page).first().getByRole('button', { name: 'Pause' }).click();
  await cards(page).first().getByText('Paused', { exact: true }).waitFor();
  // Whoever is at work may still be finished; then it stands still.
  const held = await until('the import to stand still', async () => {
    const [before] = await jobs();
    await new Promise((then) => setTimeout(then, 1000));
    const [after] = await jobs();
    assert.equal(after.state, 'paused');
    return before.done === after.done && after;
  });
  assert.ok(held.done < 300, 'it was held before its end');

  await page.reload();
  await cards(page).first().getByText('Paused', { exact: true }).waitFor();
  await cards(page).first().getByRole('button', { name: 'Go on' }).click();
  const further = await until('the import to go on', async () => {
    const [job] = await jobs();
    return job.done > held.done && job;
  });
  assert.equal(further.id, held.id);
  await cards(page).first().getByRole('button', { name: 'Cancel' }).click();
  await cards(page).first().getByText('Cancelled', { exact: true }).waitFor();

  const enrolled = await people();
  assert.ok(enrolled.length > 0 && enrolled.length < 150, `${enrolled.length} people`);
  for (const { id, name } of enrolled) {
    const { samples_list: samples } = await client.expect(200, 'GET', `/api/subjects/${id}`);
    assert.equal(samples.length, 2, name);
  }
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test('a large folder goes in parts, nobody divided between two, with one progress', async () => {
  const page = await visit({ archive_bytes: 400_000, entries: 3 });
  const before = (await jobs()).map(({ id }) => id);
  const root = folder({
    'Barack Obama/1.jpg': bytesOf('barack_obama_1'), 'Barack Obama/3.jpg': bytesOf('barack_obama_3'),
    'Eileen Collins/1.jpg': bytesOf('eileen_collins_1'), 'Eileen Collins/2.jpg': numbered(bytesOf('eileen_collins_1'), 2),
    'Grace Hopper/1.jpg': bytesOf('grace_hopper_1'),
    ...Object.fromEntries([1, 2, 3, 4].map((n) => [`Joe Biden/${n}.jpg`, numbered(bytesOf('joe_biden_1'), n)])),
  });
  await page.getByLabel('Choose a folder').setInputFiles(root);
  // More of him than one archive may hold.
  await page.getByText('One person has too many pictures').waitFor();
  await page.getByText(/Joe Biden: 4 pictures/).waitFor();
  await page.getByText(/in 2 parts, one after the other/).waitFor();
  await go(page);
  await page.getByText(/^Part 1 of 2:/).waitFor();
  await page.getByRole('progressbar', { name: 'Progress of the import' }).waitFor();
  await page.getByText('Everything is with the device').waitFor();
  await until('both parts to be done', async () => {
    const mine = (await jobs()).filter(({ id }) => !before.includes(id));
    return mine.length === 2 && mine.every(({ state }) => state === 'done');
  });
  assert.deepEqual((await people()).map(({ name }) => name).sort(), ['Barack Obama', 'Eileen Collins', 'Grace Hopper']);
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test('when a part is refused the rest is not sent, and the page says what is stored', async () => {
  const page = await visit({ archive_bytes: 10_000_000, entries: 1 });
  let sent = 0;
  await page.route('**/api/imports', (route) => {
    sent += 1;
    return sent === 2 ? route.fulfill({ status: 507, json: { error: { code: 'disk_full', message: 'the disk of the device is full' } } }) : route.continue();
  });
  const root = folder({ 'Eileen Collins/1.jpg': bytesOf('eileen_collins_1'), 'Grace Hopper/1.jpg': bytesOf('grace_hopper_1'), 'Joe Biden/1.jpg': bytesOf('joe_biden_1') });
  await page.getByLabel('Choose a folder').setInputFiles(root);
  await go(page);
  await page.getByRole('alert').getByText(/disk of the device is full.*part 2 of 3; nothing more was sent.*The part before it is enrolled/i).waitFor();
  assert.equal(sent, 2);
  assert.equal((await people()).length, 1);
  await page.context().close();
});

test('a file that is too large is refused in words: by the page unsent, by the device otherwise', async () => {
  const page = await visit({ archive_bytes: 50_000, entries: 20_000 });
  let sent = 0;
  await page.route('**/api/imports', (route) => { sent += 1; return route.continue(); });
  const files = {};
  for (let n = 0; n < 60; n += 1) files[`Joe Biden/${n}.jpg`] = numbered(bytesOf('joe_biden_1'), n);
  const large = archive(files);
  await chooseZip(page, large);
  await page.getByText(/at most 50 KB at once.*choose the folder/).waitFor();
  assert.equal(sent, 0);
  await page.context().close();

  // Told of no limit that it reaches, the page sends it, and the device refuses.
  const narrow = await Device.start({ ...BLIND, settings: { 'enrolment.maximum_import_mb': 1 } });
  try {
    assert.ok(large.length > 2 ** 20, `${large.length} bytes are more than it takes`);
    const owner = await Client.owner(narrow);
    const other = await visit({ archive_bytes: 4_000_000_000, entries: 20_000 }, narrow);
    await chooseZip(other, large);
    await go(other);
    await other.getByRole('alert').getByText(/more than|at most|too large|took no more of it/).waitFor();
    assert.deepEqual((await owner.expect(200, 'GET', '/api/jobs')).jobs, []);
    await other.context().close();
  } finally {
    await narrow.stop();
  }
});

test('an upload goes on after another tab has signed in anew', async () => {
  const page = await visit();
  const other = await page.context().newPage();
  await other.goto(`${device.origin}/sign-in`);
  await other.request.post(`${device.origin}/api/sign-in`, { data: { name: 'owner', password: 'correct horse battery' } });
  const refused = page.waitForResponse((answer) => answer.url().endsWith('/api/imports') && answer.status() === 403);
  await chooseZip(page, archive({ 'Joe Biden/1.jpg': bytesOf('joe_biden_1') }));
  await go(page);
  await refused;
  await page.getByText('Everything is with the device').waitFor();
  await page.context().close();
});
