// The pieces pages are made of: notices, dialogs, fields, lists that go on, states in words.

import { freshId, h, icon, put } from './dom.js';
import { isAbort, words } from './errors.js';
import * as format from './format.js';

// A page: heading with an optional line and actions, then what follows.
export function page(title, { lede, actions, narrow } = {}, ...children) {
  return h('div.page', { class: narrow ? 'narrow' : '' },
    h('div.head', null, h('div', null, h('h1', { tabindex: -1 }, title), lede && h('p', null, lede)), actions && h('div.row', null, actions)),
    children);
}

const noticeIcons = { good: 'check', warn: 'warn', bad: 'warn', calm: 'about' };

export function notice(kind, text, { title, action } = {}) {
  return h('div.notice', { class: kind, role: kind === 'bad' ? 'alert' : null }, icon(noticeIcons[kind]),
    h('div', null, title && h('strong', null, title), text, action && h('div', null, action)));
}

// A failure in words, with a way to try again.
export function failed(error, retry) {
  return notice('bad', words(error), { action: retry && button('Try again', { small: true, onclick: retry }) });
}

export function toast(text, kind = 'good') {
  const el = h('div.toast', null, icon(noticeIcons[kind] ?? 'about'), h('span', null, text));
  document.getElementById('toasts').append(el);
  setTimeout(() => el.remove(), kind === 'bad' ? 9000 : 4500);
}

// A button whose work may take a while: busy meanwhile, and its failure told.
export function button(text, { icon: name, kind = '', small, onclick, type = 'button', ...rest } = {}) {
  const el = h('button.button', { type, class: `${kind} ${small ? 'small' : ''}`, ...rest }, name && icon(name), text);
  if (onclick) el.addEventListener('click', event => during(el, () => onclick(event)));
  return el;
}

export const link = (text, href, { icon: name, kind = '', small, ...rest } = {}) =>
  h('a.button', { href, 'data-link': '', class: `${kind} ${small ? 'small' : ''}`, ...rest }, name && icon(name), text);

export async function during(el, work) {
  if (el.getAttribute('aria-busy') === 'true') return;
  el.setAttribute('aria-busy', 'true');
  try {
    await work();
  } catch (error) {
    if (!isAbort(error)) toast(words(error), 'bad');
  } finally {
    el.removeAttribute('aria-busy');
  }
}

// A labelled control. `input` gets an id and its descriptions.
export function field(label, input, { hint, end } = {}) {
  const id = input.id ||= freshId(), about = `${id}-about`, wrong = h('span.wrong', { id: `${id}-wrong`, hidden: true });
  input.setAttribute('aria-describedby', `${hint ? `${about} ` : ''}${wrong.id}`);
  const el = h('div.field', null, h('label', { for: id }, label), end ? h('div.with-end', null, input, end) : input,
    hint && h('span.hint', { id: about }, hint), wrong);
  el.say = text => {
    wrong.textContent = text ?? '';
    wrong.hidden = !text;
    if (text) input.setAttribute('aria-invalid', 'true'); else input.removeAttribute('aria-invalid');
  };
  return el;
}

export const check = (label, attributes) => {
  const input = h('input', { type: 'checkbox', ...attributes });
  const el = h('label.check', null, input, h('span', null, label));
  el.input = input;
  return el;
};

// A password with a way to see it.
export function password(label, attributes, hint) {
  const input = h('input', { type: 'password', required: true, autocapitalize: 'off', spellcheck: 'false', ...attributes });
  const show = h('button.button.quiet.small', { type: 'button', 'aria-label': `Show ${label.toLowerCase()}` }, 'Show');
  show.addEventListener('click', () => {
    const shown = input.type === 'password';
    input.type = shown ? 'text' : 'password';
    show.textContent = shown ? 'Hide' : 'Show';
    show.setAttribute('aria-label', `${shown ? 'Hide' : 'Show'} ${label.toLowerCase()}`);
  });
  return Object.assign(field(label, input, { hint, end: show }), { input });
}

// A form that sends itself once at a time and says above its button what went wrong.
export function form(send, submit, ...children) {
  const said = h('div', { 'aria-live': 'assertive' });
  const go = h('button.button', { type: 'submit', class: submit.kind ?? 'primary' }, submit.icon && icon(submit.icon), submit.text);
  const el = h('form.stack', { onsubmit: async event => {
    event.preventDefault();
    if (go.getAttribute('aria-busy') === 'true') return;
    put(said);
    go.setAttribute('aria-busy', 'true');
    try {
      await send(el);
    } catch (error) {
      if (!isAbort(error)) {
        put(said, notice('bad', words(error)));
        if (error.status === 429 && error.retryAfter) await countdown(go, error.retryAfter);
      }
    } finally {
      go.removeAttribute('aria-busy');
    }
  } }, children, said, h('div.row', null, go, submit.beside));
  return el;
}

async function countdown(el, seconds) {
  const text = el.lastChild, was = text.textContent;
  el.removeAttribute('aria-busy');
  el.disabled = true;
  for (let left = Math.min(seconds, 3600); left > 0; left -= 1) {
    text.textContent = `Wait ${left} s`;
    await new Promise(then => setTimeout(then, 1000));
  }
  text.textContent = was;
  el.disabled = false;
}

// A dialog; resolves with what close() is given, or null. `build(close)` returns its content. It belongs
// to the page it was opened on: closeDialogs() ends it where another one opens.
export function dialog(title, build, { drawer } = {}) {
  return new Promise(resolve => {
    const id = freshId();
    const el = h('dialog', { class: drawer ? 'drawer' : '', 'aria-labelledby': id });
    const close = value => { el.answer = value; el.close(); };
    el.append(h('div.inside', null,
      h('div.row.between', null, h('h2.grow', { id }, title), h('button.icon-button.small', { type: 'button', 'aria-label': 'Close', onclick: () => close(null) }, icon('close'))),
      build(close, el)));
    el.addEventListener('click', event => { if (event.target === el) close(null); });
    el.addEventListener('close', () => { el.remove(); resolve(el.answer ?? null); });
    // Whoever opened it waits for the person now, not for the device.
    for (const busy of document.querySelectorAll('.button[aria-busy]')) busy.removeAttribute('aria-busy');
    document.body.append(el);
    el.showModal();
  });
}

export function closeDialogs() {
  for (const el of document.querySelectorAll('dialog[open]')) el.close();
}

// Asks before something that cannot be undone. With `typed`, that text has to be typed.
export function confirm(title, body, { action = 'Go on', danger = true, typed, work } = {}) {
  return dialog(title, close => {
    const input = typed && h('input', { autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false' });
    const el = form(async () => {
      if (typed && input.value.trim() !== typed.trim()) throw new Error('What you typed is not the same');
      close((await work?.()) ?? true);
    }, { text: action, kind: danger ? 'primary danger' : 'primary', beside: button('Cancel', { onclick: () => close(null) }) },
    h('div', null, body), typed && field(`To confirm, type: ${typed}`, input));
    return el;
  });
}

// Tabs by the ARIA pattern: arrow keys move, one panel. `tabs`: [{id, text, icon, show()}].
export function tabs(label, tabs, chosen, changed) {
  const panel = h('div.stack', { role: 'tabpanel', id: freshId(), tabindex: -1 });
  const list = h('div.segments', { role: 'tablist', 'aria-label': label });
  let leave = new AbortController();
  const choose = (tab, focus) => {
    leave.abort();
    leave = new AbortController();
    for (const el of list.children) {
      const on = el.dataset.id === tab.id;
      el.setAttribute('aria-selected', on);
      el.tabIndex = on ? 0 : -1;
      if (on) { panel.setAttribute('aria-labelledby', el.id); if (focus) el.focus(); }
    }
    put(panel, tab.show(leave.signal));
    changed?.(tab.id);
  };
  tabs.forEach((tab, i) => list.append(h('button', {
    type: 'button', role: 'tab', id: freshId(), 'data-id': tab.id, 'aria-controls': panel.id,
    onclick: () => choose(tab),
    onkeydown: event => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) { event.preventDefault(); choose(tabs.at((i + step) % tabs.length), true); }
    },
  }, tab.icon && icon(tab.icon), tab.text)));
  choose(tabs.find(tab => tab.id === chosen) ?? tabs[0]);
  return { list, panel, choose: id => choose(tabs.find(tab => tab.id === id)), end: () => leave.abort() };
}

const states = {
  identified: ['good', 'check', 'Recognised'], match: ['good', 'check', 'Match'],
  unknown: ['warn', 'question', 'Unknown'], no_match: ['warn', 'question', 'No match'],
  undecided: ['calm', 'dash', 'Inconclusive'], inconclusive: ['calm', 'dash', 'Inconclusive'],
  ring: ['calm', 'bell', 'Ring'], granted: ['good', 'door', 'Let in'], denied: ['warn', 'lock', 'Kept out'], alarm: ['bad', 'warn', 'Alarm'], left: ['calm', 'right', 'Left'],
  done: ['good', 'check', 'Done'], running: ['calm', 'play', 'Running'], waiting: ['calm', 'clock', 'Waiting'],
  paused: ['warn', 'pause', 'Paused'], cancelled: ['calm', 'close', 'Cancelled'], failed: ['bad', 'warn', 'Failed'],
  working: ['good', 'check', 'Working'], degraded: ['warn', 'warn', 'Degraded'], dead: ['bad', 'warn', 'Stuck'],
  starting: ['calm', 'clock', 'Starting'], off: ['calm', 'dash', 'Off'],
  enrolled: ['good', 'check', 'Enrolled'], refused: ['bad', 'close', 'Refused'], duplicate: ['calm', 'copy', 'Duplicate'],
  helps: ['good', 'check', 'Helps'], weak: ['warn', 'dash', 'Weak'], disagrees: ['warn', 'warn', 'Disagrees'], conflicts: ['bad', 'warn', 'Conflict'],
};
export const stateOf = code => states[code] ?? ['calm', 'dash', code];

// A state as symbol and word, never as colour alone.
export function pill(code, text) {
  const [kind, name, word] = stateOf(code);
  return h('span.pill', { class: kind }, icon(name), text ?? word);
}

// The picture of somebody, or their initials.
export function face(name, picture, { large } = {}) {
  const kind = `span.face${large ? '.large' : ''}`;
  const initials = () => name
    ? h(kind, { 'aria-hidden': 'true' }, name.split(/\s+/).slice(0, 2).map(part => [...part][0]).join('').toUpperCase())
    : h(kind, { 'aria-hidden': 'true' }, icon('person'));
  if (!picture) return initials();
  const img = h(`img.face${large ? '.large' : ''}`, { src: picture, alt: '', loading: 'lazy', decoding: 'async', width: 160, height: 160 });
  img.addEventListener('error', () => img.replaceWith(initials()), { once: true });
  return img;
}

export const bones = (n, height) => h('div.stack', { 'aria-hidden': 'true' }, Array.from({ length: n }, () => h('div.bone', { style: { height: `${height}px` } })));

export function empty(name, title, text, action) {
  return h('div.empty', null, icon(name), h('h2', null, title), text && h('p', null, text), action);
}

export function meter(value, { tone = '', label, mark } = {}) {
  const part = n => `${Math.round(Math.min(Math.max(n ?? 0, 0), 1) * 100)}%`;
  return h('div.meter', { class: tone, role: 'img', 'aria-label': `${label ?? 'Value'} ${format.percent(value)}` },
    h('i', { style: { width: part(value) } }), mark != null && h('u', { style: { left: part(mark) } }));
}

export const toneOf = quality => quality >= 0.6 ? 'good' : quality >= 0.4 ? '' : 'warn';

export const when = at => h('time', { datetime: new Date(at).toISOString(), title: format.exact(at) }, format.ago(at));

// Fills `list` page by page as its end comes into view. `load(cursor)` gives {items, next}.
export function endless(list, load, row, { signal, none }) {
  const more = button('Show more', { onclick: () => step() });
  const foot = h('div.row', { hidden: true }, more);
  list.after(foot);
  let cursor, done = false, at = null;
  const step = () => at ??= (async () => {
    try {
      const { items, next } = await load(cursor);
      if (signal.aborted) return;
      if (cursor === undefined) { put(list); list.removeAttribute('aria-busy'); }
      list.append(...items.flatMap(row));
      // The device bounds what one request looks through: a page may be empty and still not the last.
      if (!list.children.length && !next && none) list.replaceWith(none());
      cursor = next;
      done = !next;
      foot.hidden = done;
      // Observed anew, so that it is told of again if it is still in view.
      watch.unobserve(foot);
      if (!done) watch.observe(foot);
    } catch (error) {
      if (isAbort(error)) return;
      done = true;
      foot.hidden = true;
      const told = failed(error, () => { told.remove(); done = false; return step(); });
      if (cursor === undefined) put(list);
      foot.after(told);
    } finally {
      at = null;
    }
  })();
  const watch = new IntersectionObserver(seen => { if (!done && seen.some(entry => entry.isIntersecting)) step(); }, { rootMargin: '600px' });
  signal.addEventListener('abort', () => watch.disconnect());
  return step();
}

// Waits until typing pauses.
export function settled(f, wait = 220) {
  let timer;
  return (...values) => { clearTimeout(timer); timer = setTimeout(() => f(...values), wait); };
}

export function copy(text) {
  const el = button('Copy', { icon: 'copy', small: true, onclick: async () => {
    await navigator.clipboard.writeText(text);
    toast('Copied');
  } });
  return navigator.clipboard ? el : null;
}

// Loads something and paints it, every so many milliseconds if asked; `again` after a change.
export function part(signal, load, paint, every) {
  const holder = h('div.stack', null, bones(1, 260));
  let timer = null;
  const again = async () => {
    clearTimeout(timer);
    try {
      put(holder, paint(await load(signal), again));
    } catch (error) {
      if (!isAbort(error)) put(holder, failed(error, again));
    }
    if (every && !signal.aborted) timer = setTimeout(again, every);
  };
  signal.addEventListener('abort', () => clearTimeout(timer), { once: true });
  again();
  return holder;
}

// Calls f every so often while the page is seen, until signal.
export function every(milliseconds, signal, f) {
  const timer = setInterval(() => { if (!document.hidden) f(); }, milliseconds);
  signal.addEventListener('abort', () => clearInterval(timer));
}
