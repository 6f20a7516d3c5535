// TLS as a browser and a plain client meet it, and what a page of somebody else can do: nothing.

import assert from 'node:assert/strict';
import http from 'node:http';
import { after, before, test } from 'node:test';
import tls from 'node:tls';
import { Client, Device, freePort, launch, open, OWNER, signIn, until } from './harness.mjs';

let device;
let browser;
before(async () => {
  device = await Device.start();
  await Client.owner(device);
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await device?.stop();
});

test('the page works over TLS with the certificate of the first start, and shows its fingerprint', async () => {
  const certificate = await new Promise((resolve, reject) => {
    const socket = tls.connect({ host: '127.0.0.1', port: device.port, rejectUnauthorized: false }, () => {
      resolve(socket.getPeerCertificate());
      socket.end();
    });
    socket.on('error', reject);
  });
  const page = await open(browser, { origin: `https://127.0.0.1:${device.port}` }, { where: '/sign-in' });
  await signIn(page);
  const [cookie] = await page.context().cookies();
  assert.equal(cookie.name, '__Host-limen');
  assert.equal(cookie.secure, true);
  await page.goto(`https://127.0.0.1:${device.port}/about`);
  const plain = (text) => text.replace(/[^0-9a-f]/gi, '').toLowerCase();
  await until('the fingerprint', async () => plain(await page.locator('main').innerText()).includes(plain(certificate.fingerprint256)));
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test('a page of another origin can neither change anything nor listen', async () => {
  const port = await freePort();
  const foreign = http.createServer((_, answer) => {
    answer.setHeader('content-type', 'text/html');
    answer.end('<!doctype html><title>foreign</title>');
  });
  await new Promise((resolve) => foreign.listen(port, '127.0.0.1', resolve));
  const page = await open(browser, device, { where: '/sign-in' });
  try {
    await signIn(page);
    const before = (await (await page.request.get(`${device.origin}/api/groups`)).json()).groups.length;
    // Another port of one host is the same site, so that the cookie is sent: only the checks are in the way.
    await page.goto(`http://127.0.0.1:${port}/`);
    const watch = await page.context().newCDPSession(page);
    await watch.send('Network.enable');
    const sent = [];
    watch.on('Network.requestWillBeSentExtraInfo', ({ associatedCookies }) => {
      for (const { cookie, blockedReasons } of associatedCookies) if (!blockedReasons.length) sent.push(cookie.name);
    });
    const tried = await page.evaluate(async (origin) => {
      const answered = await fetch(`${origin}/api/groups`, {
        method: 'POST', mode: 'no-cors', credentials: 'include', headers: { 'content-type': 'text/plain' }, body: '{"name":"foreign"}',
      }).then((answer) => answer.type, (error) => String(error));
      const socket = await new Promise((resolve) => {
        const it = new WebSocket(`${origin.replace('http', 'ws')}/api/live`);
        it.onopen = () => resolve('opened');
        it.onerror = () => resolve('refused');
      });
      return { answered, socket };
    }, device.origin);
    assert.ok(sent.includes('limen'), 'the session went along');
    // The answer itself is kept from the foreign page, too.
    assert.deepEqual(tried, { answered: 'TypeError: Failed to fetch', socket: 'refused' });
    await page.goto(device.origin);
    const groups = await (await page.request.get(`${device.origin}/api/groups`)).json();
    assert.equal(groups.groups.length, before, 'nothing was made');
  } finally {
    foreign.close();
    await page.context().close();
  }
});

test('a session of somebody else given before signing in is not taken over', async () => {
  const context = await browser.newContext();
  const planted = 'a'.repeat(64);
  await context.addCookies([{ name: 'limen', value: planted, url: device.origin }]);
  const page = await context.newPage();
  page.faults = [];
  await page.goto(`${device.origin}/sign-in`);
  await signIn(page);
  const cookies = await context.cookies();
  assert.notEqual(cookies.find((cookie) => cookie.name === 'limen').value, planted);
  assert.equal((await fetch(`${device.origin}/api/users`, { headers: { cookie: `limen=${planted}` } })).status, 401);
  await context.close();
});

test('the policy of the page forbids whatever is not its own', async () => {
  const answer = await fetch(device.origin);
  const policy = answer.headers.get('content-security-policy');
  for (const part of ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"]) {
    assert.ok(policy.includes(part), part);
  }
  assert.doesNotMatch(policy, /unsafe/);
  const page = await open(browser, device, { where: '/sign-in' });
  const ran = await page.evaluate(() => {
    const script = document.createElement('script');
    try {
      script.textContent = 'globalThis.injected = true';
      document.head.append(script);
    } catch { /* trusted types refuse it before the policy does */ }
    return Boolean(globalThis.injected);
  });
  assert.equal(ran, false);
  await page.context().close();
});

test('signing in and opening a person work by the keyboard alone, the focus in sight', async () => {
  const page = await open(browser, device, { where: '/sign-in' });
  await page.getByLabel('Name').focus();
  await page.keyboard.type(OWNER.name);
  await page.keyboard.press('Tab');
  await page.keyboard.type(OWNER.password);
  await page.keyboard.press('Enter');
  await page.waitForURL((url) => url.pathname === '/');
  await page.getByRole('heading', { level: 1 }).waitFor();
  await page.goto(`${device.origin}/faces`);
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Skip to the page');
  await page.keyboard.press('Enter');
  const wanted = page.getByRole('link', { name: /Barack Obama/ }).first();
  await wanted.waitFor();
  for (let step = 0; step < 40 && !(await wanted.evaluate((it) => it === document.activeElement)); step += 1) {
    await page.keyboard.press('Tab');
    const outline = await page.evaluate(() => {
      const style = getComputedStyle(document.activeElement);
      return style.outlineStyle !== 'none' || style.boxShadow !== 'none';
    });
    assert.ok(outline, `the focus is not seen on ${await page.evaluate(() => document.activeElement.outerHTML.slice(0, 120))}`);
  }
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Barack Obama' }).waitFor();
  await page.context().close();
});
