// One's own account: password, sessions, and how the page looks here.

import { del, get, may, post, readSession } from './api.js';
import { setTheme } from './app.js';
import { h, put } from './dom.js';
import { isAbort } from './errors.js';
import { button, check, failed, form, page, password, pill, toast, when } from './ui.js';
import { passwordHint } from './setup.js';
import { roleWords } from './users.js';

export const title = 'Account';

export function show({ session, signal }) {
  const was = password('Password now', { autocomplete: 'current-password' }), next = password('New password', { autocomplete: 'new-password', minlength: 10 }, passwordHint);
  // Only admins make tokens.
  const tokens = check('Also end the API tokens I have made');
  const change = form(async el => {
    await post('/api/account/password', { current: was.input.value, new: next.input.value, end_tokens: tokens.input.checked });
    // The session may have been renewed with the password, and its token with it.
    await readSession();
    el.reset();
    toast('The password is changed; other sessions have ended');
    sessions();
  }, { text: 'Change the password' }, was, next, may('admin') && tokens);

  const list = h('div.list', null, h('div', null, h('div.bone.grow', { style: { height: '110px' } })));
  const sessions = async () => {
    try {
      const told = await get('/api/account/sessions', { signal });
      put(list, told.sessions.map(each => h('div.wrap', null, h('span.grow', { style: { 'min-width': '150px' } }, h('span.line', { style: { 'font-weight': 580 } }, browser(each.agent)), h('span.line.muted.small', null, `${each.address}, last used `, when(each.last_seen_at))),
        each.current ? pill('working', 'This one') : button('End', { small: true, 'aria-label': `End the session of ${browser(each.agent)}`, onclick: async () => { await del(`/api/account/sessions/${each.id}`); await sessions(); } }))),
      told.sessions.length > 1 && h('div', null, button('End all others', { small: true, onclick: async () => { await del('/api/account/sessions'); toast('All other sessions have ended'); await sessions(); } })));
    } catch (error) {
      if (!isAbort(error)) put(list, h('div', null, failed(error, sessions)));
    }
  };
  sessions();

  let chosen = null;
  try { chosen = localStorage.getItem('limen.theme'); } catch { /* then there is nothing to remember it in */ }
  const theme = h('div.segments', { role: 'group', 'aria-label': 'Look' });
  const paint = () => put(theme, [[null, 'As the system'], ['light', 'Light'], ['dark', 'Dark']].map(([value, text], i) => h('button', { type: 'button', 'aria-pressed': String(value === chosen), onclick: () => { chosen = value; setTheme(value); paint(); theme.children[i].focus(); } }, text)));
  paint();

  return page(session.user.name, { lede: `Your role is ${session.user.role}: ${roleWords[session.user.role]}.` },
    h('div.grid', null, h('section.card', null, h('h2', null, 'Password'), change),
      h('div.stack', { style: { gap: 'var(--gap)' } }, h('section.card', null, h('h2', null, 'Look of this page'), theme),
        // Last, for nobody knows how long the list is before it has come.
        h('section.card.flush', { 'aria-label': 'Sessions' }, h('div.card-head', null, h('h2', null, 'Where you are signed in')), list))));
}

// A browser and system by the little of its name that people know.
export function browser(agent) {
  const name = [[/Edg\//, 'Edge'], [/OPR\//, 'Opera'], [/Firefox\//, 'Firefox'], [/Chrom(e|ium)\//, 'Chrome'], [/Safari\//, 'Safari']].find(([pattern]) => pattern.test(agent ?? ''))?.[1] ?? 'A program';
  const system = [[/iPhone/, 'iPhone'], [/iPad/, 'iPad'], [/Android/, 'Android'], [/Windows/, 'Windows'], [/Mac OS X/, 'Mac'], [/Linux/, 'Linux']].find(([pattern]) => pattern.test(agent ?? ''))?.[1];
  return system ? `${name} on ${system}` : name;
}
