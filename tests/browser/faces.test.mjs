// People: giving pictures and what is said of bad ones, enrolling, recognising at once, editing, the
// quality view, erasing with a receipt.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { Client, Device, drawn, launch, open, portrait, signIn, until } from './harness.mjs';

let device;
let browser;
let page;
before(async () => {
  device = await Device.start();
  await Client.owner(device);
  browser = await launch();
  page = await open(browser, device, { where: '/sign-in' });
  await signIn(page);
});
after(async () => {
  await browser?.close();
  await device?.stop();
});

const choose = (files) => page.getByLabel('Choose pictures').setInputFiles(files);
const card = (name) => page.getByRole('article', { name });

test('each unusable file gets its own reason, and the good ones beside it are kept', async () => {
  const folder = fs.mkdtempSync(path.join(device.folder, 'files-'));
  const write = (name, bytes) => {
    const file = path.join(folder, name);
    fs.writeFileSync(file, bytes);
    return file;
  };
  const good = fs.readFileSync(portrait('joe_biden_1'));
  await page.goto(`${device.origin}/enrol`);
  await choose([
    portrait('joe_biden_1'),
    write('letter.jpg', 'this is no picture'),
    write('cut.jpg', good.subarray(0, 700)),
    write('notes.txt', 'not even a name of one'),
  ]);
  await card('joe_biden_1.jpg').getByText(/Face found/).waitFor();
  for (const [name, reason] of [['letter.jpg', /not.*(picture|JPEG)/i], ['cut.jpg', /./], ['notes.txt', /not a JPEG/i]]) {
    await until(`a reason for ${name}`, async () => {
      const words = await card(name).innerText();
      return !/Looking for faces/.test(words) && reason.test(words.replace(name, ''));
    });
    assert.doesNotMatch(await card(name).innerText(), /Face found/);
  }
  assert.deepEqual(page.faults, []);
});

test('whoever is enrolled is recognised at once, without a restart', async () => {
  await page.goto(`${device.origin}/enrol`);
  await choose([portrait('joe_biden_1')]);
  await card('joe_biden_1.jpg').getByText(/Face found/).waitFor();
  await page.getByLabel('Name', { exact: true }).fill('Joe Biden');
  await page.getByRole('button', { name: 'Enrol', exact: true }).click();
  await page.getByText('Joe Biden is enrolled').waitFor();
  // He stays unknown in the built-in scene until he is enrolled.
  const client = new Client(device);
  await client.signIn('owner', 'correct horse battery');
  await until('an event that names him', async () => {
    const { events } = await client.expect(200, 'GET', '/api/events?kind=identified&limit=50');
    return events.some((event) => event.name === 'Joe Biden');
  }, 120_000);
});

test('enrolling somebody under a second name asks first', async () => {
  await page.goto(`${device.origin}/enrol`);
  await choose([portrait('joe_biden_1')]);
  await card('joe_biden_1.jpg').getByText(/Looks like Joe Biden/).waitFor();
  await page.getByLabel('Name', { exact: true }).fill('Somebody Else');
  await page.getByRole('button', { name: 'Enrol', exact: true }).click();
  const dialog = page.getByRole('dialog', { name: /looks like/i });
  await dialog.getByText('Joe Biden', { exact: true }).waitFor();
  await dialog.getByRole('button', { name: 'Cancel' }).click();
  const { subjects } = await (await page.request.get(`${device.origin}/api/subjects`)).json();
  assert.ok(!subjects.some((subject) => subject.name === 'Somebody Else'));
});

test('people are found by the beginning of any word of their name', async () => {
  await page.goto(`${device.origin}/faces`);
  await page.getByRole('link', { name: /Joe Biden/ }).waitFor();
  await page.getByRole('searchbox').fill('bid');
  // The list is empty for a moment while the answer is on its way, so both are waited for.
  await page.getByRole('link', { name: /Barack Obama/ }).first().waitFor({ state: 'detached' });
  await page.getByRole('link', { name: /Joe Biden/ }).first().waitFor();
  assert.equal(await page.getByRole('link', { name: /Barack Obama/ }).count(), 0);
});

test('a person can be renamed, noted and put in a group', async () => {
  const client = new Client(device);
  await client.signIn('owner', 'correct horse battery');
  await client.expect(201, 'POST', '/api/groups', { name: 'Household' });
  await page.goto(`${device.origin}/faces`);
  await page.getByRole('link', { name: /Joe Biden/ }).first().click();
  await page.getByLabel('Name', { exact: true }).fill('Joseph Biden');
  await page.getByLabel('Notes').fill('Comes on Mondays');
  await page.getByText('Household').click();
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByRole('heading', { name: 'Joseph Biden' }).waitFor();
  const { subjects } = await (await page.request.get(`${device.origin}/api/subjects?search=joseph`)).json();
  assert.equal(subjects[0].notes, 'Comes on Mondays');
  assert.deepEqual(subjects[0].groups.map((group) => group.name), ['Household']);
});

test('the quality view says what each sample is worth', async () => {
  await page.goto(`${device.origin}/faces`);
  await page.getByRole('link', { name: /Barack Obama/ }).first().click();
  const samples = page.getByRole('region', { name: 'Samples' });
  await until('the verdicts', async () => /Helps|Weak|Conflict|Disagrees/.test(await samples.innerText()));
  await page.getByRole('region', { name: 'Closest others' }).getByText(/Eileen Collins|Joseph Biden/).first().waitFor();
});

test('a person gets more samples, loses one, and is recognised until a day', async () => {
  await page.goto(`${device.origin}/faces`);
  await page.getByRole('link', { name: /Joseph Biden/ }).first().click();
  const samples = page.getByRole('region', { name: 'Samples' });
  await samples.getByRole('link', { name: 'Add samples' }).click();
  await page.waitForURL((url) => url.pathname === '/enrol');
  // The same photograph from a little farther away is another sample.
  await page.getByLabel('Choose pictures').setInputFiles({
    name: 'farther.jpg', mimeType: 'image/jpeg', buffer: await drawn(page, 600, 760, [{ name: 'joe_biden_1', x: 60, y: 60, wide: 460 }]),
  });
  await card('farther.jpg').getByText(/Face found/).waitFor();
  await until('the person to be chosen', async () => (await page.getByLabel('Person').inputValue()) === 'Joseph Biden');
  await page.getByRole('button', { name: 'Enrol', exact: true }).click();
  await page.getByText('Joseph Biden has new samples').waitFor();
  await page.getByRole('link', { name: 'Open', exact: true }).click();

  await page.getByText(/^2 samples,/).waitFor();
  await samples.getByRole('button', { name: 'Remove' }).last().click();
  const sure = page.getByRole('dialog', { name: 'Remove this sample?' });
  await sure.getByRole('button', { name: 'Remove', exact: true }).click();
  await page.getByText(/^1 sample,/).waitFor();

  await page.getByLabel('Recognised until').fill('2020-01-31');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByText('Expired: not recognised any more').waitFor();
  await page.goto(`${device.origin}/faces`);
  await page.getByRole('link', { name: /Joseph Biden.*Expired/ }).waitFor();
  await page.getByRole('link', { name: /Joseph Biden/ }).click();
  await page.getByLabel('Recognised until').fill('2099-12-31');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByText('Expired: not recognised any more').waitFor({ state: 'detached' });
  await page.goto(`${device.origin}/faces`);
  await page.getByRole('link', { name: /Joseph Biden.*Until 31 Dec 2099/ }).waitFor();
  assert.deepEqual(page.faults, []);
});

test('groups are made, renamed and erased; the people in them stay', async () => {
  await page.goto(`${device.origin}/faces`);
  const named = async () => (await (await page.request.get(`${device.origin}/api/groups`)).json()).groups.map(({ name }) => name);
  await page.getByRole('button', { name: 'Groups', exact: true }).click();
  const dialog = page.getByRole('dialog', { name: 'Groups' });
  await dialog.getByLabel('New group').fill('Cleaning');
  await dialog.getByRole('button', { name: 'Add' }).click();
  const made = dialog.getByLabel('Name of the group Cleaning');
  await made.fill('Cleaning crew');
  await made.press('Tab');
  await page.getByText('Renamed').waitFor();
  assert.ok((await named()).includes('Cleaning crew'));
  const before = (await named()).length;
  await dialog.getByRole('button', { name: 'Erase', exact: true }).last().click();
  await page.getByRole('dialog', { name: 'Erase the group?' }).getByRole('button', { name: 'Erase', exact: true }).click();
  await made.waitFor({ state: 'detached' });
  assert.equal((await named()).length, before - 1);
  await dialog.getByRole('button', { name: 'Close' }).click();
  await page.getByRole('link', { name: /Joseph Biden/ }).waitFor();
});

test('a consent is recorded, shown, and offers to erase when it is withdrawn', async () => {
  await page.goto(`${device.origin}/faces`);
  await page.getByRole('link', { name: /Joseph Biden/ }).first().click();
  const consent = page.getByRole('region', { name: 'Consent' });
  await consent.getByText('Nothing is recorded').waitFor();
  await consent.getByRole('button', { name: 'Record a consent' }).click();
  const dialog = page.getByRole('dialog', { name: 'Record a consent' });
  await dialog.getByLabel('How').selectOption('spoken');
  await dialog.getByLabel('To which version of the text').fill('older');
  await dialog.getByRole('button', { name: 'Record', exact: true }).click();
  await consent.getByText(/Joseph Biden agreed on .* to version older .*said to whoever/).waitFor();
  await consent.getByText('People are shown version 1').waitFor();
  await page.getByLabel('Erased when not seen for so many days').fill('30');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByText('Saved').waitFor();
  await page.goto(`${device.origin}/faces`);
  await page.getByRole('link', { name: /Joseph Biden.*Not seen for long, erased on/ }).click();
  await consent.getByRole('button', { name: 'Withdraw' }).click();
  await page.getByRole('dialog', { name: 'Withdraw the consent?' }).getByRole('button', { name: 'Withdraw', exact: true }).click();
  const erase = page.getByRole('dialog', { name: /Erase Joseph Biden/ });
  await erase.getByRole('button', { name: 'Close' }).click();
  await consent.getByText('Nothing is recorded').waitFor();
  assert.deepEqual(page.faults, []);
});

test('erasing asks for the name, tells what was removed, and nothing answers afterwards', async () => {
  await page.goto(`${device.origin}/faces`);
  await page.getByRole('link', { name: /Joseph Biden/ }).first().click();
  await page.getByRole('heading', { name: 'Joseph Biden' }).waitFor();
  const id = new URL(page.url()).pathname.split('/').pop();
  const subject = await (await page.request.get(`${device.origin}/api/subjects/${id}`)).json();
  const picture = subject.samples_list[0].picture;
  assert.equal((await page.request.get(device.origin + picture)).status(), 200);

  await page.getByRole('button', { name: 'Erase this person' }).click();
  const dialog = page.getByRole('dialog', { name: /Erase Joseph Biden/ });
  await dialog.getByRole('button', { name: 'Erase for good' }).click();
  await dialog.getByRole('alert').waitFor();
  await dialog.getByLabel(/To confirm/).fill('Joseph Biden');
  await dialog.getByRole('button', { name: 'Erase for good' }).click();
  const receipt = page.getByRole('dialog', { name: 'Erased' });
  await receipt.getByRole('row', { name: /Pictures 1/ }).waitFor();
  await receipt.getByText(/Looked for afterwards in .* nothing is left/).waitFor();
  await receipt.getByRole('button', { name: 'Done' }).click();
  await page.waitForURL((url) => url.pathname === '/faces');
  assert.equal((await page.request.get(`${device.origin}/api/subjects/${id}`)).status(), 404);
  assert.equal((await page.request.get(device.origin + picture)).status(), 404);
  assert.deepEqual(page.faults, []);
});
