// The door: a policy is written, whoever it lets in is let in, PINs and passes are made, entered and taken back, and
// what would happen is what does.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Client, Device, launch, open, OWNER, signIn, until } from './harness.mjs';

let device;
let browser;
let owner;
before(async () => {
  device = await Device.start({ settings: { 'door.clock_file': '' } });
  browser = await launch();
  owner = await Client.owner(device);
});
after(async () => {
  await browser?.close();
  await device?.stop();
});

const door = async (tab) => {
  const page = await open(browser, device, { where: '/sign-in' });
  await signIn(page, OWNER);
  await page.goto(`${device.origin}/door${tab ? `?tab=${tab}` : ''}`);
  await page.getByRole('heading', { level: 1, name: 'Door' }).waitFor();
  return page;
};

test('without a policy the door opens for nobody, and the page says so', async () => {
  const page = await door();
  await page.getByText('Nobody has written a policy yet').waitFor();
  await page.getByText('the door opens for nobody', { exact: true }).waitFor();
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test('a policy is written in the editor, and faces are let in by it', async () => {
  const page = await door('policy');
  await page.getByLabel('Time zone of the door').fill('Europe/Berlin');
  await page.getByRole('button', { name: 'Add a schedule' }).click();
  await page.getByRole('button', { name: 'Add a rule' }).click();
  await page.getByRole('button', { name: 'Add a rule' }).click();
  await page.getByLabel('Needs').nth(1).selectOption('pin');
  const rules = page.getByRole('region', { name: 'Rules' });
  await rules.getByLabel('Name').first().fill('Everybody');
  await page.getByLabel('Dry run: only say what would happen').uncheck();
  await page.getByRole('button', { name: 'Save the policy' }).click();
  await page.getByText('Saved and in force').waitFor();
  const kept = await owner.call('GET', '/api/door/policy');
  assert.equal(kept.value.policy.rules[0].name, 'Everybody');
  assert.equal(kept.value.policy.rules[1].needs, 'pin');
  assert.equal(kept.value.policy.dry_run, false);
  assert.deepEqual(page.faults, []);
  await page.context().close();
  // From the picture to the door.
  const granted = await until('somebody to be let in', async () => {
    const told = await owner.call('GET', '/api/events?kind=granted');
    return told.value.events.find((event) => event.door?.way === 'face');
  }, 120_000);
  assert.ok(granted.name && granted.door.rule === 'Everybody' && granted.door.switched === 'no_relay', JSON.stringify(granted));
  const denied = await until('a stranger to be kept out', async () => {
    const told = await owner.call('GET', '/api/events?kind=denied');
    return told.value.events.find((event) => event.reason?.code === 'unknown_person');
  }, 120_000);
  assert.equal(denied.name, null);
});

test('what is wrong with a policy is said at once and changes nothing', async () => {
  const page = await door('policy');
  await page.getByLabel('Time zone of the door').fill('Europe/Atlantis');
  await page.getByRole('button', { name: 'Save the policy' }).click();
  await page.getByRole('alert').getByText('There is no such time zone', { exact: false }).or(page.getByText('no such time zone')).first().waitFor();
  const kept = await owner.call('GET', '/api/door/policy');
  assert.equal(kept.value.policy.time_zone, 'Europe/Berlin');
  await page.context().close();
});

test('who may enter now, and what would happen', async () => {
  const page = await door('now');
  await page.getByRole('region', { name: 'Everybody' }).getByText('Open now').waitFor();
  await page.getByRole('tab', { name: 'What if' }).click();
  await page.getByRole('button', { name: 'Try' }).click();
  await page.getByText('The door would open, by the rule “Everybody”.').waitFor();
  await page.getByLabel('their face is recognised').uncheck();
  await page.getByRole('button', { name: 'Try' }).click();
  await page.getByText('The door would stay shut', { exact: false }).waitFor();
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test('a PIN is made, lets in, and is taken back', async () => {
  const page = await door('passes');
  await page.getByRole('button', { name: 'New PIN or pass' }).click();
  await page.getByLabel('Kind').selectOption('pin');
  await page.getByLabel('Name of the visitor').fill('Cleaner');
  await page.getByRole('button', { name: 'Make it' }).click();
  const pin = (await page.getByRole('dialog', { name: 'The PIN' }).locator('code').textContent()).trim();
  assert.match(pin, /^\d{6}$/);
  await page.getByRole('button', { name: 'Done' }).click();
  await page.getByText('Cleaner').waitFor();
  const entered = await owner.call('POST', '/api/door/pin', { pin });
  assert.deepEqual([entered.status, entered.value.granted], [200, true]);

  await page.getByRole('button', { name: /Take back number/ }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Take back' }).click();
  await page.getByText('No PIN and no pass').waitFor();
  await page.getByRole('tab', { name: 'State' }).click();
  await page.getByLabel('PIN', { exact: true }).fill(pin);
  await page.getByRole('button', { name: 'Enter' }).click();
  await page.getByText('No: wrong PIN.').waitFor();
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test('a rotating pass is shown to whoever holds its link, and to nobody once it is taken back', async () => {
  const made = await owner.call('POST', '/api/credentials', { kind: 'rotating_pass', name: 'Guest' });
  assert.equal(made.status, 201);
  const page = await open(browser, device, { where: made.value.link.replace(/^https?:\/\/[^/]+/, '') });
  await page.getByRole('img', { name: 'The code of your pass' }).waitFor();
  assert.equal((await owner.call('DELETE', `/api/credentials/${made.value.id}`)).status, 204);
  await page.reload();
  await page.getByText('This pass is not valid, or no longer.', { exact: false }).waitFor();
  await page.context().close();
});

test('the door is opened by hand, which is recorded with a name', async () => {
  const page = await door();
  await page.getByRole('button', { name: 'Open the door' }).click();
  await page.getByText('Told: this device switches no lock itself').waitFor();
  const told = await owner.call('GET', '/api/events?kind=granted');
  assert.ok(told.value.events.some((event) => event.door.way === 'remote' && event.door.by === OWNER.name));
  await page.getByRole('button', { name: 'Switch face unlock off' }).click();
  await page.getByRole('button', { name: 'Switch face unlock on' }).click();
  await page.getByRole('button', { name: 'Switch face unlock off' }).waitFor();
  await page.context().close();
});
