// Talks to the device: JSON over fetch, the CSRF header on every change, refusals as Failure.
// Owns the session as the device told it last. Not here: where to go when it has ended (app.js).

import { Failure, cut, fromAnswer, unreachable } from './errors.js';

// Of one picture; larger ones the device refuses unread.
export const MOST_PICTURE_BYTES = 32 * 2 ** 20;

let session = null;
let ended = () => {};

export const current = () => session;
export function onEnded(then) { ended = then; }

export function adopt(told) {
  session = told;
  return told;
}

export async function readSession(options) {
  return adopt(await get('/api/session', options));
}

const ranks = ['viewer', 'operator', 'admin', 'owner'];
// Whether the signed-in user has at least this role. The device decides; this only spares
// showing what it would refuse.
export const may = role => ranks.indexOf(session?.user?.role) >= ranks.indexOf(role);

export const get = (path, options) => call('GET', path, options);
export const post = (path, body, options) => call('POST', path, { body, ...options });
export const patch = (path, body, options) => call('PATCH', path, { body, ...options });
export const del = (path, options) => call('DELETE', path, options);

export function query(parameters) {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== '') search.set(key, value);
  }
  const text = search.toString();
  return text && `?${text}`;
}

// Once more where another tab has signed in anew since this page was loaded: its token is known by asking
// again.
async function renewed(attempt) {
  try {
    return await attempt();
  } catch (error) {
    if (error.status !== 403 || error.code !== 'csrf') throw error;
    await readSession();
    return attempt();
  }
}

const call = (method, path, options) => renewed(() => ask(method, path, options));

// With `background` the page asks by itself, which keeps no session alive.
async function ask(method, path, { body, signal, type, background } = {}) {
  const headers = { Accept: 'application/json' };
  if (background) headers['X-Limen-Background'] = '1';
  if (method !== 'GET' && session?.csrf) headers['X-CSRF-Token'] = session.csrf;
  if (body instanceof Blob) headers['Content-Type'] = type ?? body.type;
  else if (body !== undefined) headers['Content-Type'] = 'application/json';
  let answer;
  try {
    answer = await fetch(path, {
      method, headers, signal, credentials: 'same-origin',
      body: body === undefined || body instanceof Blob ? body : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw unreachable();
  }
  if (answer.ok) return read(answer);
  const failure = fromAnswer(answer.status, await read(answer).catch(() => null), answer.headers.get('Retry-After'));
  if (failure.status === 401 && ['signed_out', 'http_401'].includes(failure.code) && session?.state === 'signed_in') ended();
  throw failure;
}

async function read(answer) {
  if (answer.status === 204) return null;
  return (answer.headers.get('Content-Type') ?? '').includes('json') ? answer.json() : null;
}

// Sends a large body and tells how far it is, which fetch cannot.
export const upload = (path, blob, options) => renewed(() => transfer(path, blob, options));

function transfer(path, blob, { type, signal, progress }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    let sent = 0;
    request.open('POST', path);
    request.setRequestHeader('Content-Type', type ?? blob.type);
    request.setRequestHeader('Accept', 'application/json');
    if (session?.csrf) request.setRequestHeader('X-CSRF-Token', session.csrf);
    request.responseType = 'json';
    request.upload.addEventListener('progress', event => { sent = event.loaded; progress?.(event.loaded, event.total); });
    request.addEventListener('load', () => {
      if (request.status >= 200 && request.status < 300) return resolve(request.response);
      const failure = fromAnswer(request.status, request.response, request.getResponseHeader('Retry-After'));
      if (failure.status === 401) ended();
      reject(failure);
    });
    request.addEventListener('error', () => reject(sent ? cut() : unreachable()));
    request.addEventListener('abort', () => reject(new DOMException('left', 'AbortError')));
    if (signal?.aborted) return reject(new DOMException('left', 'AbortError'));
    signal?.addEventListener('abort', () => request.abort());
    request.send(blob);
  });
}

export const socketAddress = path => `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}${path}`;

// A WebSocket that comes back by itself until `signal` is aborted, and rests while the page is
// hidden. `opened(socket)` runs at each opening, `told(message)` at each message; `state(word,
// failure)` hears "connecting", "open", "waiting" and "hidden".
export function socket(path, { signal, opened, told, state = () => {} }) {
  let live = null, wait = 500, timer = 0, was = false;
  const close = () => { clearTimeout(timer); const old = live; live = null; old?.close(); };
  const open = () => {
    if (signal.aborted || document.hidden || live) return;
    clearTimeout(timer);
    state('connecting');
    was = false;
    const mine = live = new WebSocket(socketAddress(path));
    mine.binaryType = 'arraybuffer';
    mine.addEventListener('open', () => { if (mine === live) { was = true; state('open'); opened?.(mine); } });
    mine.addEventListener('message', event => { if (mine === live) { wait = 500; told(event.data, mine); } });
    mine.addEventListener('close', () => {
      if (mine !== live) return;
      live = null;
      // A refused connection looks like a cut line from here; the session says which it was.
      const refused = !was;
      readSession({ background: true }).then(now => {
        if (now.state !== 'signed_in') ended();
        else if (refused && !live && !signal.aborted) state('waiting', new Failure({ code: 'refused', message: 'The device takes no further connection right now; as many as it can serve may be watching. Trying again.' }));
      }, failure => { if (!live && !signal.aborted) state('waiting', failure); });
      timer = setTimeout(open, wait);
      wait = Math.min(wait * 2, 8000);
    });
  };
  const turn = () => { if (document.hidden) { close(); state('hidden'); } else open(); };
  document.addEventListener('visibilitychange', turn, { signal });
  signal.addEventListener('abort', close);
  open();
  return { send: data => { if (live?.readyState === WebSocket.OPEN) live.send(data); }, again: () => { close(); open(); } };
}

export { Failure };
