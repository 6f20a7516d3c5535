// Who gets in: set-up, signing in and out, being slowed down, asking for access, invitations, roles,
// sessions, passwords.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Client, Device, launch, open, OWNER, signIn, until } from './harness.mjs';

let device;
let browser;
before(async () => {
  device = await Device.start();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await device?.stop();
});

const fill = async (page, values) => {
  for (const [label, value] of Object.entries(values)) await page.getByLabel(label, { exact: true }).fill(value);
};
const heading = (page) => page.getByRole('heading', { level: 1 });

test('first start asks for the setup code, refuses a wrong one and makes the owner', async () => {
  const page = await open(browser, device);
  await page.waitForURL('**/setup');
  await fill(page, { 'Setup code': 'AAAA-BBBB-CCCC', 'Your name': OWNER.name, Password: OWNER.password });
  await page.getByRole('button', { name: 'Create the owner' }).click();
  await page.getByRole('alert').waitFor();
  assert.equal(new URL(page.url()).pathname, '/setup');

  await fill(page, { 'Setup code': await device.setupCode() });
  await page.getByRole('button', { name: 'Create the owner' }).click();
  await page.waitForURL((url) => url.pathname === '/');
  await page.getByRole('navigation', { name: 'All pages' }).getByText(OWNER.name).waitFor();

  const [cookie] = await page.context().cookies();
  assert.equal(cookie.httpOnly, true);
  assert.equal(cookie.sameSite, 'Strict');
  assert.equal(await page.evaluate(() => document.cookie), '', 'no script sees the session');
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test('the setup code works once', async () => {
  const client = new Client(device);
  const again = await client.call('POST', '/api/setup', { code: await device.setupCode(), name: 'second', password: OWNER.password });
  assert.ok([403, 404, 409].includes(again.status), `${again.status}`);
});

test('signing in leads to where one wanted to go, and signing out ends the session', async () => {
  const page = await open(browser, device, { where: '/events' });
  await page.waitForURL((url) => url.pathname === '/sign-in');
  await fill(page, { Name: OWNER.name, Password: OWNER.password });
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.waitForURL((url) => url.pathname === '/events');
  const before = (await page.context().cookies())[0].value;
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.waitForURL((url) => url.pathname === '/sign-in');
  const stolen = await fetch(`${device.origin}/api/users`, { headers: { cookie: `limen=${before}` } });
  assert.equal(stolen.status, 401, 'the old session is worth nothing');
  await page.context().close();
});

test('whoever asks for access gets in once an admin approves, with the role given', async () => {
  const asking = await open(browser, device, { where: '/request-access' });
  await asking.getByLabel('Name', { exact: true }).fill('guard');
  await asking.getByLabel('Password', { exact: true }).fill('a long night shift');
  await asking.getByRole('button', { name: 'Ask for access' }).click();
  await asking.getByText('Your request is with the device').waitFor();

  const early = new Client(device);
  assert.equal((await early.call('POST', '/api/sign-in', { name: 'guard', password: 'a long night shift' })).status, 403);

  const admin = await open(browser, device, { where: '/sign-in' });
  await signIn(admin);
  await admin.goto(`${device.origin}/users?tab=requests`);
  await admin.getByText('guard').first().waitFor();
  await admin.getByRole('button', { name: /approve/i }).first().click();
  const dialog = admin.getByRole('dialog');
  if (await dialog.isVisible().catch(() => false)) await dialog.getByRole('button', { name: /approve/i }).click();
  const guard = new Client(device);
  await until('the approval', async () => (await guard.call('POST', '/api/sign-in', { name: 'guard', password: 'a long night shift' })).status === 200, 60_000);
  assert.equal((await guard.call('GET', '/api/audit')).status, 403, 'a role below admin reads no audit log');
  assert.deepEqual(admin.faults, []);
  await admin.context().close();
  await asking.context().close();
});

test('an invitation makes an account with its role, once', async () => {
  const owner = new Client(device);
  await owner.signIn(OWNER.name, OWNER.password);
  const invitation = await owner.expect(201, 'POST', '/api/invitations', { role: 'viewer', expires_in_hours: 1 });
  const page = await open(browser, device, { where: invitation.path });
  await page.getByLabel('Name', { exact: true }).fill('visitor');
  await page.getByLabel('Password', { exact: true }).fill('only here to look');
  await page.getByRole('button', { name: 'Make my account' }).click();
  await page.waitForURL((url) => url.pathname === '/');
  const links = page.getByRole('navigation', { name: 'All pages' }).getByRole('link');
  const seen = await links.evaluateAll((all) => all.filter((link) => link.checkVisibility()).map((link) => link.textContent));
  assert.ok(seen.includes('Live') && !seen.includes('Settings') && !seen.includes('Enrol'), seen.join());
  await page.goto(`${device.origin}/settings`);
  await until('the refusal in words', async () => /role|allowed|may not/i.test(await page.locator('main').innerText()));
  const again = await new Client(device).call('POST', '/api/invitations/accept', { token: invitation.token, name: 'second', password: 'only here to look' });
  assert.ok(again.status >= 400 && again.status < 500);
  await page.context().close();
});

test('sessions are listed and can be ended from another one', async () => {
  const here = await open(browser, device, { where: '/sign-in' });
  await signIn(here);
  const there = new Client(device);
  await there.signIn(OWNER.name, OWNER.password);
  await here.goto(`${device.origin}/account`);
  await here.getByRole('button', { name: 'End all others' }).click();
  const dialog = here.getByRole('dialog');
  if (await dialog.isVisible().catch(() => false)) await dialog.getByRole('button', { name: /end/i }).click();
  await until('the other session to end', async () => (await there.call('GET', '/api/users')).status === 401);
  assert.equal((await (await fetch(`${device.origin}/api/session`)).json()).state, 'signed_out');
  await here.reload();
  await heading(here).waitFor();
  assert.equal(new URL(here.url()).pathname, '/account', 'one\'s own session goes on');
  await here.context().close();
});

test('a changed password is the only one that works', async () => {
  const page = await open(browser, device, { where: '/sign-in' });
  await signIn(page, { name: 'visitor', password: 'only here to look' });
  await page.goto(`${device.origin}/account`);
  await fill(page, { 'Password now': 'only here to look', 'New password': 'still only looking' });
  await page.getByRole('button', { name: 'Change the password' }).first().click();
  const client = new Client(device);
  await until('the new password', async () => (await client.call('POST', '/api/sign-in', { name: 'visitor', password: 'still only looking' })).status === 200);
  assert.equal((await new Client(device).call('POST', '/api/sign-in', { name: 'visitor', password: 'only here to look' })).status, 401);
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

// Last, for it slows down everybody of this address.
test('a wrong password says so, and tries are slowed down', async () => {
  const page = await open(browser, device, { where: '/sign-in' });
  const said = page.getByRole('alert');
  let waits = false;
  for (let attempt = 0; attempt < 8 && !waits; attempt += 1) {
    await fill(page, { Name: 'nobody-of-that-name', Password: `wrong password ${attempt}` });
    await page.getByRole('button', { name: /Sign in/ }).click();
    await said.waitFor();
    waits = await page.getByRole('button', { name: /^Wait \d+ s$/ }).isVisible();
    if (!waits) await until('the form to be free again', () => page.getByRole('button', { name: 'Sign in' }).isEnabled());
  }
  assert.ok(waits, 'eight wrong tries in a row were not slowed down');
  assert.equal(new URL(page.url()).pathname, '/sign-in');
  await page.context().close();
});
