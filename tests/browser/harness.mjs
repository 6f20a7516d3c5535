// A real limen and a real Chromium for the tests of the admin page: starts both, ends both, and holds
// what every test does again and again. Nothing here knows how the page is built beyond its words.

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const here = path.dirname(fileURLToPath(import.meta.url));
export const project = path.resolve(here, '../..');
export const portraits = path.join(project, 'tests/fixtures/portraits');
export const portrait = (name) => path.join(portraits, `${name}.jpg`);

// Nothing takes longer, however busy the machine is.
export const PATIENCE = 30_000;
export const OWNER = { name: 'owner', password: 'correct horse battery' };

function program() {
  const given = process.env.LIMEN_TEST_PROGRAM && path.resolve(project, process.env.LIMEN_TEST_PROGRAM);
  const target = process.env.CARGO_TARGET_DIR ?? path.join(project, 'target');
  const found = [given, path.join(target, 'debug/limen'), path.join(target, 'release/limen')]
    .find((file) => file && fs.existsSync(file));
  if (!found) throw new Error('limen is not built: `cargo build` makes it');
  return found;
}

function browserProgram() {
  const names = ['chromium', 'chromium-browser', 'google-chrome'];
  for (const folder of (process.env.PATH ?? '').split(':')) {
    for (const name of names) {
      const file = path.join(folder, name);
      if (fs.existsSync(file)) return file;
    }
  }
  throw new Error('Chromium is not installed: `tools/setup.sh test` sees to that');
}

export function freePort() {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

export const until = async (what, check, patience = PATIENCE) => {
  const end = Date.now() + patience;
  for (;;) {
    const found = await check();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited ${patience} ms in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
};

// One device: the program on a state folder of its own and a loopback port.
export class Device {
  // `settings`: "section.key" to value; `args`: further arguments of `limen run`.
  static async start({ settings = {}, args = ['--demo'], tls = false } = {}) {
    const device = new Device();
    device.folder = fs.mkdtempSync(path.join(os.tmpdir(), 'limen-browser-'));
    device.port = await freePort();
    device.origin = `${tls ? 'https' : 'http'}://127.0.0.1:${device.port}`;
    device.log = '';
    const environment = {
      ...process.env,
      LIMEN_HTTP__LISTEN: `127.0.0.1:${device.port}`,
      LIMEN_STATE__FOLDER: path.join(device.folder, 'state'),
      LIMEN_LITERT__LIBRARY: process.env.LIMEN_LITERT__LIBRARY
        ? path.resolve(project, process.env.LIMEN_LITERT__LIBRARY)
        : path.join(project, '.setup/lib/libLiteRt.so'),
      LIMEN_MODELS__FOLDER: path.join(project, 'models'),
    };
    for (const [name, value] of Object.entries(settings)) {
      environment[`LIMEN_${name.replace('.', '__').toUpperCase()}`] = String(value);
    }
    device.child = spawn(program(), ['run', ...args], {
      cwd: device.folder,
      env: environment,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    device.child.stderr.on('data', (bytes) => { device.log += bytes; });
    device.ended = new Promise((resolve) => device.child.on('exit', resolve));
    try {
      await until('the web server', async () => {
        if (device.child.exitCode !== null) throw new Error(`limen ended: ${device.log}`);
        return fetch(`http://127.0.0.1:${device.port}/api/session`, { redirect: 'manual' })
          .then((answer) => answer.status < 500, () => false);
      });
    } catch (error) {
      await device.stop();
      throw error;
    }
    return device;
  }

  // The one-time code that the first start writes to its log.
  async setupCode() {
    return until('the setup code', () => /\b[A-Z0-9]{4}-[A-Z0-9]{4}-[A-Z0-9]{4}\b/.exec(this.log)?.[0]);
  }

  async stop() {
    this.child.kill('SIGTERM');
    const timer = setTimeout(() => this.child.kill('SIGKILL'), 15_000);
    await this.ended;
    clearTimeout(timer);
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}

// A client without a browser, for preparing what a test is not about.
export class Client {
  constructor(device) {
    this.device = device;
    this.cookie = '';
    this.csrf = '';
  }

  async call(method, where, body, headers = {}) {
    const json = body !== undefined && !(body instanceof Uint8Array);
    const answer = await fetch(this.device.origin + where, {
      method,
      redirect: 'manual',
      headers: {
        ...(this.cookie && { cookie: this.cookie }),
        ...(method !== 'GET' && this.csrf && { 'x-csrf-token': this.csrf }),
        ...(json && { 'content-type': 'application/json' }),
        ...headers,
      },
      body: json ? JSON.stringify(body) : body,
    });
    const cookie = answer.headers.get('set-cookie');
    if (cookie) this.cookie = cookie.split(';')[0];
    const text = await answer.text();
    const value = answer.headers.get('content-type')?.startsWith('application/json') ? JSON.parse(text) : text;
    if (value?.csrf) this.csrf = value.csrf;
    return { status: answer.status, value, headers: answer.headers };
  }

  async expect(status, method, where, body, headers) {
    const answer = await this.call(method, where, body, headers);
    if (answer.status !== status) {
      throw new Error(`${method} ${where}: ${answer.status} ${JSON.stringify(answer.value)}, not ${status}`);
    }
    return answer.value;
  }

  static async owner(device) {
    const client = new Client(device);
    await client.expect(201, 'POST', '/api/setup', { code: await device.setupCode(), ...OWNER });
    return client;
  }

  async signIn(name, password) {
    return this.expect(200, 'POST', '/api/sign-in', { name, password });
  }

  // Enrols a portrait under a name; the id of the subject.
  async enrol(name, file) {
    const picture = await this.expect(201, 'POST', '/api/pictures', fs.readFileSync(file), { 'content-type': 'image/jpeg' });
    const done = await this.expect(201, 'POST', '/api/subjects/enrol', {
      name, samples: [{ picture: picture.id, face: 0 }], accept_similar: true,
    });
    return done.subject.id;
  }
}

// Chromium with a profile of its own. `camera`: a recording the browser's camera shows.
export async function launch({ camera, permissions = true } = {}) {
  const args = [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync',
  ];
  if (camera) {
    args.push('--use-fake-device-for-media-stream', `--use-file-for-fake-video-capture=${camera}`);
    if (permissions) args.push('--use-fake-ui-for-media-stream');
  }
  return chromium.launch({ executablePath: browserProgram(), headless: true, args });
}

export const DESK = { width: 1280, height: 800 };
export const PHONE = { width: 360, height: 740 };

// A page that fails the test when a script fails or the Content-Security-Policy is broken.
export async function open(browser, device, { viewport = DESK, dark = false, where = '/' } = {}) {
  const context = await browser.newContext({
    viewport,
    colorScheme: dark ? 'dark' : 'light',
    ignoreHTTPSErrors: true,
    locale: 'en-GB',
    timezoneId: 'Europe/Berlin',
  });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.faults = [];
  page.on('pageerror', (error) => page.faults.push(String(error)));
  page.on('console', (message) => {
    // A refused request is logged by the browser itself; the tests look at what the page makes of it.
    if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) {
      page.faults.push(message.text());
    }
  });
  await page.goto(device.origin + where);
  return page;
}

// Signs in through the page.
export async function signIn(page, { name, password } = OWNER) {
  await page.goto(new URL('/sign-in', page.url()).href);
  await page.getByLabel('Name').fill(name);
  await page.getByLabel('Password', { exact: true }).fill(password);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.waitForURL((url) => url.pathname === '/');
}

// A recording for the browser's camera: one JPEG after another is a Motion JPEG file. Chromium wants all
// of one size, so each picture is drawn into a frame of 640x480 first.
export async function recording(folder, files, repeat = 1) {
  const browser = await launch();
  const page = await browser.newPage();
  const frames = [];
  for (const file of files) {
    frames.push(...Array(repeat).fill(await drawn(page, 640, 480, [{ file, high: 480 }])));
  }
  await browser.close();
  const file = path.join(folder, `camera-${files.length}.mjpeg`);
  fs.writeFileSync(file, Buffer.concat(frames));
  return file;
}

// Draws portraits in the browser: `pieces` are {name or file, x, y, wide, filter, turn}, or in the middle
// with {high}, on a grey picture of that size; the JPEG.
export async function drawn(page, width, height, pieces) {
  const given = pieces.map((piece) => ({ ...piece, picture: fs.readFileSync(piece.file ?? portrait(piece.name)).toString('base64') }));
  const base64 = await page.evaluate(async ([width, height, pieces]) => {
    const canvas = document.createElement('canvas');
    Object.assign(canvas, { width, height });
    const drawing = canvas.getContext('2d');
    drawing.fillStyle = '#708090';
    drawing.fillRect(0, 0, width, height);
    for (const { picture, high, y = 0, filter = 'none', turn = 0, ...piece } of pieces) {
      const bytes = Uint8Array.from(atob(picture), (letter) => letter.charCodeAt(0));
      const image = await createImageBitmap(new Blob([bytes], { type: 'image/jpeg' }));
      const wide = high ? high * image.width / image.height : piece.wide ?? width;
      const x = high ? (width - wide) / 2 : piece.x ?? 0;
      drawing.save();
      drawing.filter = filter;
      drawing.translate(x, y);
      drawing.rotate(turn);
      drawing.drawImage(image, 0, 0, wide, wide * image.height / image.width);
      drawing.restore();
    }
    return canvas.toDataURL('image/jpeg', 0.92).split(',')[1];
  }, [width, height, given]);
  return Buffer.from(base64, 'base64');
}

// A headless page is never hidden by itself; this is what a hidden one reports.
export const hide = (page) => page.evaluate(() => {
  Object.defineProperty(document, 'hidden', { configurable: true, get: () => true });
  Object.defineProperty(document, 'visibilityState', { configurable: true, get: () => 'hidden' });
  document.dispatchEvent(new Event('visibilitychange'));
});
export const unhide = (page) => page.evaluate(() => {
  delete document.hidden;
  delete document.visibilityState;
  document.dispatchEvent(new Event('visibilitychange'));
});
