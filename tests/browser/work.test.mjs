// Comparing pictures, importing a folder, unknown faces, events and charts, settings, jobs.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { Client, Device, launch, open, OWNER, portrait, signIn, until } from './harness.mjs';

let device;
let browser;
let page;
let client;
before(async () => {
  device = await Device.start({ settings: { 'sightings.keep': true, 'events.keep_crops': true } });
  client = await Client.owner(device);
  browser = await launch();
  page = await open(browser, device, { where: '/sign-in' });
  await signIn(page);
});
after(async () => {
  await browser?.close();
  await device?.stop();
});

const main = () => page.locator('main');
const give = (region, file) => page.getByRole('region', { name: region, exact: true }).getByLabel('Choose a picture').setInputFiles(file);
const result = () => page.getByRole('region', { name: 'Result' });

test('who is this: somebody enrolled is named, a stranger is nobody', async () => {
  await page.goto(`${device.origin}/verify`);
  await give('Picture', portrait('barack_obama_3'));
  await page.getByText(/Face found/).waitFor();
  await page.getByRole('button', { name: 'Find out' }).click();
  await result().getByRole('heading', { name: 'Barack Obama' }).waitFor();
  await page.goto(`${device.origin}/verify`);
  await give('Picture', portrait('grace_hopper_1'));
  await page.getByText(/Face found/).waitFor();
  await page.getByRole('button', { name: 'Find out' }).click();
  await result().getByRole('heading', { name: 'Nobody enrolled' }).waitFor();
});

test('same person: two pictures of one match, of two do not', async () => {
  for (const [other, words] of [['barack_obama_3', 'The same person'], ['joe_biden_1', 'Not the same person']]) {
    await page.goto(`${device.origin}/verify?mode=two`);
    await give('One picture', portrait('barack_obama_1'));
    await give('Another picture', portrait(other));
    await until('both faces', async () => (await page.getByText(/Face found/).count()) === 2);
    await page.getByRole('button', { name: 'Compare' }).click();
    await result().getByRole('heading', { name: words, exact: true }).waitFor();
    await result().getByText('comparison score').waitFor();
  }
});

test('is it this person: a claim is checked against the one claimed', async () => {
  await page.goto(`${device.origin}/verify?mode=claim`);
  await give('Picture', portrait('eileen_collins_1'));
  await page.getByText(/Face found/).waitFor();
  await page.getByLabel('Claimed person').fill('Barack');
  await page.getByRole('option', { name: /Barack Obama/ }).click();
  await page.getByRole('button', { name: 'Compare' }).click();
  await result().getByRole('heading', { name: 'Not the same person' }).waitFor();
});

test('a folder of people is imported with a report of every file', async () => {
  const folder = path.join(device.folder, 'people');
  const put = (name, file, bytes) => {
    fs.mkdirSync(path.join(folder, name), { recursive: true });
    fs.writeFileSync(path.join(folder, name, file), bytes);
  };
  put('Grace Hopper', '1.jpg', fs.readFileSync(portrait('grace_hopper_1')));
  put('Joe Biden', '1.jpg', fs.readFileSync(portrait('joe_biden_1')));
  put('Joe Biden', 'broken.jpg', Buffer.from('no picture at all'));
  await page.goto(`${device.origin}/import`);
  await page.getByLabel('Choose a folder').setInputFiles(folder);
  await page.getByRole('heading', { name: 'Ready to import' }).waitFor();
  await page.getByRole('button', { name: 'Import', exact: true }).click();
  await until('the import to be done', async () => (await client.expect(200, 'GET', '/api/jobs')).jobs.some((job) => job.kind === 'import' && job.state === 'done'), 90_000);
  const { jobs: [job] } = await client.expect(200, 'GET', '/api/jobs');
  const { entries } = await client.expect(200, 'GET', `/api/jobs/${job.id}/report`);
  assert.deepEqual(entries.map((entry) => [entry.path.split('/').slice(-2).join('/'), entry.outcome]).sort(), [
    ['Grace Hopper/1.jpg', 'enrolled'], ['Joe Biden/1.jpg', 'enrolled'], ['Joe Biden/broken.jpg', 'refused'],
  ]);
  await page.getByText('Done').first().waitFor();
  // The page may be closed and opened again meanwhile.
  await page.goto(`${device.origin}/jobs`);
  await page.getByText('Done').first().waitFor();
  for (const name of ['Grace Hopper', 'Joe Biden']) {
    const { subjects } = await client.expect(200, 'GET', `/api/subjects?search=${encodeURIComponent(name)}`);
    assert.equal(subjects.length, 1, name);
    await client.expect(200, 'DELETE', `/api/subjects/${subjects[0].id}`);
  }
});

test('unknown visitors appear in groups and are named one after the other', async () => {
  await until('sightings', async () => (await client.expect(200, 'GET', '/api/sightings')).groups.length >= 2, 180_000);
  await page.goto(`${device.origin}/unknown`);
  const tiles = page.getByRole('article', { name: /^Unknown, group/ });
  await tiles.nth(1).waitFor();
  await tiles.first().getByRole('button', { name: 'Name', exact: true }).click();
  const dialog = page.getByRole('dialog', { name: 'Who is this?' });
  const shown = () => dialog.getByRole('group', { name: 'Pictures' }).getByRole('img').first().getAttribute('src');
  const first = await shown();
  await dialog.getByLabel('Name', { exact: true }).fill('The Visitor');
  // By keyboard, on to the next one.
  await page.keyboard.press('Enter');
  await until('the next group', async () => (await dialog.count()) === 1 && (await shown()) !== first);
  assert.equal(await dialog.getByLabel('Name', { exact: true }).inputValue(), '');
  assert.ok(await dialog.getByLabel('Name', { exact: true }).evaluate((el) => el === document.activeElement));
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'detached' });
  await page.getByText('The Visitor is enrolled').waitFor();
  await until('the named group to be gone', async () => (await page.locator(`article img[src="${first}"]`).count()) === 0);
  await until('an event that names the visitor', async () => {
    const { events } = await client.expect(200, 'GET', '/api/events?kind=identified&limit=50');
    return events.some((event) => event.name === 'The Visitor');
  }, 120_000);
  assert.deepEqual(page.faults, []);
});

test('this is not them: asked for, counted on the page of the person, and taken back', async () => {
  const { subjects: [person] } = await client.expect(200, 'GET', '/api/subjects?search=barack');
  const examples = async () => (await client.expect(200, 'GET', `/api/subjects/${person.id}`)).counter_examples;
  const seen = await until('a recognition with a picture', async () => {
    const { events } = await client.expect(200, 'GET', `/api/events?kind=identified&subject=${person.id}`);
    return events.find((event) => event.picture);
  }, 120_000);
  const before = await examples();
  await page.goto(`${device.origin}/events?event=${seen.id}`);
  const drawer = page.getByRole('dialog', { name: person.name, exact: true });
  const sure = page.getByRole('dialog', { name: `Is it really not ${person.name}?` });
  // Thought better of: nothing is remembered.
  await drawer.getByRole('button', { name: `This is not ${person.name}` }).click();
  await sure.getByRole('button', { name: 'Cancel' }).click();
  await sure.waitFor({ state: 'detached' });
  assert.equal(await examples(), before);
  await drawer.getByRole('button', { name: `This is not ${person.name}` }).click();
  await sure.getByRole('button', { name: `It is not ${person.name}` }).click();
  await drawer.waitFor({ state: 'detached' });
  assert.equal(await examples(), before + 1);

  await page.goto(`${device.origin}/faces/${person.id}`);
  const others = page.getByRole('region', { name: 'Not this person' });
  await others.getByText(/remembered as not/).waitFor();
  await others.getByRole('button', { name: 'Take back all' }).click();
  await page.getByRole('dialog', { name: 'Take back all of them?' }).getByRole('button', { name: 'Take back' }).click();
  await others.waitFor({ state: 'detached' });
  assert.equal(await examples(), 0);
  assert.deepEqual(page.faults, []);
});

test('after a change of the network the overview says who waits and starts the work', async () => {
  const answered = (gallery) => page.route('**/api/device', async (route) => {
    const answer = await route.fetch();
    const told = await answer.json();
    await route.fulfill({ response: answer, json: { ...told, health: { ...told.health, status: 'working', parts: {} }, gallery: { ...told.gallery, ...gallery } } });
  });
  await answered({ subjects: 0, expired: 3, stale: null });
  await page.goto(device.origin);
  await main().getByText(/The time of everybody enrolled is over \(3 people\)/).waitFor();
  await page.unroute('**/api/device');
  await answered({ subjects: 0, expired: 0, stale: { samples: 5, renewable: 4, subjects: 2 } });
  await page.goto(device.origin);
  await main().getByText(/All enrolled people \(2\) cannot be recognised/).waitFor();
  await main().getByText(/Of 4 of 5 samples the picture is kept/).waitFor();
  assert.equal(await main().getByText('Nobody is enrolled yet').count(), 0);
  await main().getByRole('button', { name: 'Renew templates' }).click();
  await page.getByRole('dialog', { name: 'Make the missing templates?' }).getByRole('button', { name: 'Start' }).click();
  await page.waitForURL(/\/jobs$/);
  await page.unroute('**/api/device');
  await until('the job', async () => (await client.expect(200, 'GET', '/api/jobs')).jobs.some((job) => job.kind === 'reembed' && job.state === 'done'));
  await page.getByRole('article', { name: 'Missing templates' }).getByText('0 templates made.').waitFor();
  assert.deepEqual(page.faults, []);
});

test('an ignored group is out of sight until it is heeded again', async () => {
  const { groups } = await client.expect(200, 'GET', '/api/sightings');
  assert.ok(groups.length > 0, 'the scene has a second stranger');
  await client.expect(200, 'POST', `/api/sightings/${groups[0].id}/ignore`, { ignored: true }).catch(() => client.expect(204, 'POST', `/api/sightings/${groups[0].id}/ignore`, { ignored: true }));
  const left = await client.expect(200, 'GET', '/api/sightings');
  assert.ok(!left.groups.some((group) => group.id === groups[0].id));
  await page.goto(`${device.origin}/unknown`);
  await page.getByLabel('Show ignored').check();
  const tile = page.getByRole('article').filter({ has: page.locator(`img[src="/api/sightings/${groups[0].id}/picture"]`) });
  await tile.getByRole('button', { name: 'Heed again' }).click();
  await until('the group to be back', async () => (await client.expect(200, 'GET', '/api/sightings')).groups.some((group) => group.id === groups[0].id));
});

test('events are listed as they come, filtered, and told with their reason', async () => {
  await page.goto(`${device.origin}/events`);
  const list = page.getByRole('region', { name: 'Events' });
  await list.getByText('Barack Obama').first().waitFor();
  await main().getByRole('button', { name: 'Unknown', exact: true }).click();
  await until('only unknown ones', async () => (await list.getByText('Barack Obama').count()) === 0);
  await list.getByRole('button').or(list.getByRole('link')).first().click();
  const detail = page.getByRole('dialog');
  await detail.getByText(/score|threshold|nobody/i).first().waitFor();
  await page.keyboard.press('Escape');
  await detail.waitFor({ state: 'detached' });
  assert.deepEqual(page.faults, []);
});

test('events can be taken along as a table and as JSON', async () => {
  const csv = await page.request.get(`${device.origin}/api/events/export?format=csv`);
  assert.match(csv.headers()['content-type'], /^text\/csv/);
  const lines = (await csv.text()).trim().split('\r\n');
  assert.ok(lines.length > 3 && lines[0].includes('captured_at'), lines[0]);
  const json = await (await page.request.get(`${device.origin}/api/events/export?format=json`)).json();
  assert.ok((json.events ?? json).length >= lines.length - 1);
});

test('charts show visits by hour and can be read as a table', async () => {
  await page.goto(`${device.origin}/events?view=charts`);
  await page.getByRole('heading', { name: 'Visits' }).waitFor();
  await page.getByText('recognised', { exact: true }).first().waitFor();
  await page.getByRole('heading', { name: 'From capture to decision' }).waitFor();
  assert.deepEqual(page.faults, []);
});

test('a threshold changed on the page counts at once, and a bad value is told at its field', async () => {
  await page.goto(`${device.origin}/settings`);
  await page.getByRole('searchbox').fill('identification.threshold');
  const field = page.getByLabel(/threshold/i).first();
  await field.fill('7');
  await page.getByRole('button', { name: /save|apply/i }).first().click();
  await until('the refusal', async () => /0.*0\.95/.test(await main().innerText()));
  await field.fill('0.9');
  await page.getByRole('button', { name: /save|apply/i }).first().click();
  await until('the change', async () => {
    const { sections } = await client.expect(200, 'GET', '/api/settings');
    return sections.flatMap((section) => section.settings).find((setting) => setting.path === 'identification.threshold').value === 0.9;
  });
  const since = Date.now();
  await until('somebody enrolled to be unknown now', async () => {
    const { events } = await client.expect(200, 'GET', `/api/events?kind=unknown&from=${since}&limit=20`);
    return events.some((event) => event.score > 0.5 && event.score < 0.9);
  }, 120_000);
  await client.expect(200, 'PATCH', '/api/settings', { changes: { 'identification.threshold': null } });
  const { entries } = await client.expect(200, 'GET', '/api/audit?limit=200');
  assert.ok(entries.some((entry) => /settings/.test(entry.what)), 'the change is in the audit log');
  await page.goto(`${device.origin}/users`);
  await page.getByRole('tab', { name: 'Audit' }).click();
  await page.getByRole('button', { name: 'Verify' }).click();
  await page.getByText(/entries are as they were written/).waitFor();
});

test('what the camera offers stands beside exposure, gain and backlight', async () => {
  const control = { setting: 'camera.gain', name: 'Gain', minimum: 0, maximum: 63, step: 1, default: 16, value: 20 };
  await page.route('**/api/cameras', (route) => route.fulfill({ json: { cameras: [{ path: '/dev/video0', card: 'Door Camera', formats: [], controls: [control] }] } }));
  await page.goto(`${device.origin}/settings?section=camera`);
  const offer = (setting) => page.locator(`[id="set-camera.${setting}"] .offer`);
  // What is in use is the demo's scene.
  await offer('gain').getByText('No camera that is plugged in is in use now.').waitFor();
  await page.route('**/api/settings', async (route) => {
    const answer = await route.fetch();
    const told = await answer.json();
    told.sections.find(({ name }) => name === 'camera').settings.find(({ key }) => key === 'source').value = 'v4l2:/dev/video0';
    await route.fulfill({ response: answer, json: told });
  });
  await page.goto('about:blank');
  await page.goto(`${device.origin}/settings?section=camera`);
  await offer('gain').getByText('Door Camera takes 0 to 63 and starts with 16; now 20.').waitFor();
  await offer('exposure_us').getByText('Door Camera lacks this control: the setting has no effect.').waitFor();
  await page.unroute('**/api/cameras');
  await page.unroute('**/api/settings');
  assert.deepEqual(page.faults, []);
});

test('the broker can be tried before it is saved', async () => {
  const tried = await client.expect(200, 'POST', '/api/settings/test-broker', { changes: { 'mqtt.host': '127.0.0.1', 'mqtt.port': 9 } });
  assert.equal(tried.ok, false);
  assert.match(tried.message, /nothing listens/);
});

test('a backup runs as a job and can be fetched by its owner', async () => {
  await page.goto(`${device.origin}/jobs`);
  await page.getByRole('button', { name: 'Back up' }).click();
  const dialog = page.getByRole('dialog', { name: /Back up/ });
  await dialog.getByLabel('Passphrase', { exact: true }).fill('a passphrase for the backup');
  await dialog.getByLabel('The same again', { exact: true }).fill('a passphrase for the backup');
  await dialog.getByRole('button', { name: 'Start the backup' }).click();
  const job = await until('the backup', async () => {
    const { jobs } = await client.expect(200, 'GET', '/api/jobs');
    return jobs.find((each) => each.kind === 'backup' && each.state === 'done');
  }, 60_000);
  const download = await page.request.get(device.origin + job.download);
  assert.equal(download.status(), 200);
  assert.ok((await download.body()).length > 4096);
  assert.ok(!(await download.body()).includes(Buffer.from('SQLite format 3')), 'it is encrypted');
  assert.deepEqual(page.faults, []);
});

test('backups of its own: where they go, one now, and the key to write down', async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'limen-kept-'));
  const kept = await Device.start({ args: ['--source', 'scene'], settings: { 'backup.folder': folder } });
  const other = await open(browser, kept, { where: '/sign-in' });
  try {
    const owner = await Client.owner(kept);
    await owner.enrol('Grace Hopper', portrait('grace_hopper_1'));
    await signIn(other);
    await other.goto(`${kept.origin}/jobs`);
    const card = other.getByRole('region', { name: 'Kept by itself' });
    await card.getByText(folder).waitFor();
    await card.getByRole('button', { name: 'Back up now' }).click();
    await other.getByText(/opened and checked, in/).waitFor({ timeout: 60_000 });
    assert.equal(fs.readdirSync(folder).filter((name) => name.endsWith('.backup')).length, 1);
    await card.getByRole('button', { name: 'Recovery key' }).click();
    const dialog = other.getByRole('dialog', { name: 'Recovery key' });
    assert.match(await dialog.locator('code').innerText(), /^([0-9A-HJKMNP-TV-Z]{4}-){6}[0-9A-HJKMNP-TV-Z]{4}$/);
    await dialog.getByRole('button', { name: 'Done' }).click();
    await other.getByRole('button', { name: 'Change the root key' }).click();
    await other.getByRole('button', { name: 'Change it' }).click();
    await until('the key to be changed', async () => (await owner.expect(200, 'GET', '/api/jobs')).jobs.some((job) => job.kind === 'rekey' && job.state === 'done'));
    assert.deepEqual(other.faults, []);
  } finally {
    await other.context().close();
    await kept.stop();
    fs.rmSync(folder, { recursive: true, force: true });
  }
});

test('what is kept of people, and what they are told, to be printed', async () => {
  await page.goto(`${device.origin}/privacy`);
  await page.getByText(/privacy\.responsible/).waitFor();
  const kept = page.getByRole('region', { name: 'What is kept' });
  await kept.getByText('Unknown faces').waitFor();
  const opened = page.context().waitForEvent('page');
  await page.getByRole('link', { name: 'Deutsch, door notice' }).click();
  const printed = await opened;
  await printed.getByRole('heading', { name: 'Hier werden Gesichter erkannt' }).waitFor();
  // Unknown faces are kept on this device, so that the notice has to say so.
  await printed.getByText(/später benennen/).waitFor();
  await printed.screenshot({ path: path.join(os.tmpdir(), 'limen-notice.png'), fullPage: true });
  await printed.goto(`${device.origin}/api/privacy/sheet`);
  await printed.getByRole('heading', { name: /^Data sheet/ }).waitFor();
  await printed.screenshot({ path: path.join(os.tmpdir(), 'limen-sheet.png'), fullPage: true });
  await printed.close();
  await page.screenshot({ path: path.join(os.tmpdir(), 'limen-privacy.png'), fullPage: true });
  assert.deepEqual(page.faults, []);
});

test('a restart asked for on the page is one: the same accounts, the same people', async () => {
  // The demo starts from nothing each time; this one keeps its state folder.
  const kept = await Device.start({ args: ['--source', 'scene'] });
  try {
    const owner = await Client.owner(kept);
    await owner.enrol('Grace Hopper', portrait('grace_hopper_1'));
    const starts = () => kept.log.split('web server listens').length - 1;
    const before = starts();
    await owner.expect(202, 'POST', '/api/restart');
    await until('the device to start again', () => starts() > before, 60_000);
    const again = new Client(kept);
    await until('the device to be back', async () => (
      (await again.call('POST', '/api/sign-in', { ...OWNER }).catch(() => null))?.status === 200
    ), 60_000);
    const { subjects } = await again.expect(200, 'GET', '/api/subjects?search=grace');
    assert.equal(subjects.length, 1, 'whoever was enrolled is still there');
  } finally {
    await kept.stop();
  }
});
