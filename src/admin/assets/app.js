// Where everything starts: the session, the address, the one page that is open, and the frame around
// it. Each page is a module loaded when it is first opened; leaving it aborts a signal that its
// requests, sockets, cameras and listeners hang on.

import { current, may, onEnded, post, readSession, adopt } from './api.js';
import { h, put } from './dom.js';
import { isAbort, words } from './errors.js';
import { closeDialogs, failed, page as frame, toast } from './ui.js';

// Address, module, least role; `alone`: without navigation, for those who are not signed in.
const routes = [
  [/^\/$/, 'dashboard', 'viewer'], [/^\/live$/, 'live', 'viewer'], [/^\/events$/, 'events', 'viewer'],
  [/^\/faces$/, 'faces', 'viewer'], [/^\/faces\/([0-9a-f]{32})$/, 'subject', 'viewer'],
  [/^\/enrol$/, 'enrol', 'operator'], [/^\/import$/, 'import', 'operator'], [/^\/verify$/, 'verify', 'operator'],
  [/^\/unknown$/, 'unknown', 'operator'], [/^\/jobs$/, 'jobs', 'operator'], [/^\/settings$/, 'settings', 'admin'],
  [/^\/users$/, 'users', 'admin'], [/^\/privacy$/, 'privacy', 'admin'], [/^\/door$/, 'door', 'viewer'], [/^\/account$/, 'account', 'viewer'], [/^\/about$/, 'about', 'viewer'],
  [/^\/sign-in$/, 'sign-in', null], [/^\/setup$/, 'setup', null],
  [/^\/request-access$/, 'request-access', null], [/^\/invitation$/, 'invitation', null], [/^\/pass$/, 'pass', null],
];

const root = document.documentElement, main = document.getElementById('main');
let leave = new AbortController(), turn = 0, blocker = null, here = location.pathname;

function remember(key, value) {
  try { if (value) localStorage.setItem(key, value); else localStorage.removeItem(key); } catch { /* private windows may forbid it; nothing depends on it */ }
}

function paintFrame(alone) {
  const session = current(), role = session?.user?.role;
  remember('limen.role', role);
  if (role) root.dataset.role = role; else delete root.dataset.role;
  const shape = alone || !role ? 'plain' : 'app';
  // What is still painted belongs to the other frame and would be seen to jump.
  if (root.dataset.frame !== shape) { put(main); root.dataset.frame = shape; }
  if (session) {
    document.getElementById('device').textContent = session.device_name;
    document.getElementById('me').textContent = session.user?.name ?? 'Account';
  }
  for (const a of document.querySelectorAll('nav a')) {
    const path = a.getAttribute('href');
    const here = path === '/' ? location.pathname === '/' : location.pathname === path || location.pathname.startsWith(`${path}/`);
    if (here) a.setAttribute('aria-current', 'page'); else a.removeAttribute('aria-current');
  }
  openNav(false);
}

function setTitle(title) {
  document.title = [title, current()?.device_name ?? 'limen'].filter(Boolean).join(' · ');
}

async function open({ first = false } = {}) {
  const mine = ++turn;
  leave.abort();
  leave = new AbortController();
  blocker = null;
  closeDialogs();
  const { signal } = leave;
  here = location.pathname + location.search;
  const found = routes.map(([pattern, name, role]) => ({ match: pattern.exec(location.pathname), name, role })).find(route => route.match);
  // Asked for while the session is: most of the time it is the page that will be shown. Its failure
  // is told below, where it is waited for.
  const module = found && import(`./${found.name}.js`);
  module?.catch(() => {});
  try {
    if (!current()) await readSession();
  } catch (error) {
    if (mine === turn) put(main, frame('No connection', { narrow: true }, failed(error, () => open())));
    return;
  }
  if (mine !== turn) return;
  const session = current();
  const wanted = redirect(session, found);
  if (wanted) return go(wanted, { replace: true });
  paintFrame(found?.role === null);
  let shown;
  if (!found) {
    shown = frame('Not found', { lede: 'There is no such page.' }, h('p', null, h('a', { href: '/', 'data-link': '' }, 'To the overview')));
  } else if (found.role && !may(found.role)) {
    shown = frame('Not for your role', { lede: `This page is for the role “${found.role}” and above; yours is “${session.user.role}”. An administrator can change it.` });
  } else {
    try {
      const { show, title } = await module.catch(async error => {
        if (!first && await updated()) location.reload();
        throw error;
      });
      if (mine !== turn) return;
      const context = {
        signal, session, params: found.match.slice(1), query: new URLSearchParams(location.search), go, title: setTitle,
        // Asked before leaving, while something would be lost.
        block: question => { blocker = question; },
      };
      shown = show(context);
      setTitle(title);
    } catch (error) {
      if (mine !== turn || isAbort(error)) return;
      console.error(error);
      shown = frame('This page could not be opened', { narrow: true }, failed(error, () => location.reload()));
    }
  }
  put(main, shown);
  if (!first) {
    scrollTo(0, 0);
    main.querySelector('h1')?.focus({ preventScroll: true });
  }
}

// After an update of the device the files of the old page are gone, and the new page has to be loaded. A
// device that does not answer keeps the page, with what was typed into it.
async function updated() {
  try {
    return (await fetch(import.meta.url, { method: 'HEAD', cache: 'no-store' })).status === 404;
  } catch {
    return false;
  }
}

function redirect(session, found) {
  const path = location.pathname;
  if (session.state === 'setup') return path === '/setup' ? null : '/setup';
  if (session.state === 'signed_out') {
    if (found?.role === null && path !== '/setup') return null;
    return path === '/' || path === '/setup' ? '/sign-in' : `/sign-in?next=${encodeURIComponent(path + location.search)}`;
  }
  return found?.role === null && path !== '/invitation' ? '/' : null;
}

export function go(path, { replace = false } = {}) {
  if (blocker && !window.confirm(blocker)) return;
  blocker = null;
  history[replace ? 'replaceState' : 'pushState'](null, '', path);
  open();
}

onEnded(() => {
  adopt(null);
  // Without a session nothing of it can be saved any more.
  blocker = null;
  const here = location.pathname + location.search;
  if (!here.startsWith('/sign-in')) {
    toast('The session has ended. Sign in again.', 'warn');
    go(`/sign-in?next=${encodeURIComponent(here)}`, { replace: true });
  }
});

document.addEventListener('click', event => {
  const a = event.target.closest?.('a[data-link]');
  if (!a || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  if (a.pathname + a.search !== location.pathname + location.search) go(a.pathname + a.search);
  else openNav(false);
});
addEventListener('popstate', () => {
  // The browser has gone back already; whoever stays gets the address again.
  if (blocker && !window.confirm(blocker)) history.pushState(null, '', here); else open();
});
addEventListener('beforeunload', event => { if (blocker) event.preventDefault(); });

// The navigation of small screens.
const nav = document.getElementById('nav'), more = document.getElementById('more');
function openNav(on, focus) {
  nav.classList.toggle('open', on);
  more.setAttribute('aria-expanded', on);
  if (focus) (on ? [...nav.querySelectorAll('a')].find(a => a.offsetParent) : more).focus();
}
more.addEventListener('click', () => openNav(!nav.classList.contains('open'), true));
document.addEventListener('keydown', event => { if (event.key === 'Escape' && nav.classList.contains('open')) openNav(false, true); });
main.addEventListener('pointerdown', () => openNav(false));

document.getElementById('sign-out').addEventListener('click', async () => {
  try {
    await post('/api/sign-out');
    adopt(null);
    go('/sign-in');
  } catch (error) {
    toast(words(error), 'bad');
  }
});

export function setTheme(choice) {
  remember('limen.theme', choice);
  root.dataset.theme = choice ?? (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light');
}
document.getElementById('theme').addEventListener('click', () => setTheme(root.dataset.theme === 'dark' ? 'light' : 'dark'));

addEventListener('offline', () => toast('This browser is offline.', 'warn'));
open({ first: true });
