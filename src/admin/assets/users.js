// Who may sign in, who asks to, who was invited, which programs hold a token, and who did what.

import { current, del, get, may, patch, post, query as asked } from './api.js';
import { h, icon, put } from './dom.js';
import * as format from './format.js';
import { button, check, confirm, copy, dialog, empty, endless, field, form, notice, page, part, pill, tabs, toast, when } from './ui.js';

export const title = 'Users';

const roles = ['viewer', 'operator', 'admin', 'owner'];
export const roleWords = {
  viewer: 'watches: overview, live view, events', operator: 'also enrols, edits and erases people, verifies, names unknown faces',
  admin: 'also settings, users, tokens and the audit log', owner: 'everything, backups included',
};
const scopes = { metrics: 'Metrics and health', read_events: 'Read events and their pictures', read_subjects: 'Read people and their pictures', edit_subjects: 'Enrol, edit and erase people', compare: 'Compare pictures', watch: 'Watch the camera', door: 'Open the door, enter PINs, make passes' };

// Nobody gives a role above their own.
const given = () => roles.filter(may);
const roleSelect = (value, attributes) => h('select', attributes, given().map(role => h('option', { value: role, selected: role === value }, role)));

export function show({ signal, query }) {
  const t = tabs('Users and access', [
    { id: 'users', text: 'Users', show: s => part(s, listOf('/api/users'), users) }, { id: 'requests', text: 'Requests', show: s => part(s, listOf('/api/access-requests'), requests) },
    { id: 'invitations', text: 'Invitations', show: s => part(s, listOf('/api/invitations'), invitations) }, { id: 'tokens', text: 'Tokens', show: s => part(s, listOf('/api/tokens'), tokens) },
    { id: 'audit', text: 'Audit', show: audit },
  ], query.get('tab'), id => history.replaceState(null, '', id === 'users' ? '/users' : `/users?tab=${id}`));
  signal.addEventListener('abort', t.end);
  return page('Users', { lede: 'Who may see and do what on this device.' }, t.list, t.panel);
}

const listOf = path => signal => get(path, { signal });
const box = (label, rows, none) => h('section.card.flush', { 'aria-label': label }, rows.length ? h('div.list', null, rows) : none);
const line = (first, second, ...rest) => h('div.wrap', null, h('span.grow', { style: { 'min-width': '150px' } }, h('span.line.cut', { style: { 'font-weight': 580 } }, first), h('span.line.muted.small', null, second)), rest);

function users({ users }, again) {
  return [box('Users', users.map(user => {
    const me = user.id === current().user.id, above = !may(user.role);
    const select = above ? h('span.pill', null, user.role) : roleSelect(user.role, { 'aria-label': `Role of ${user.name}`, disabled: me, style: { width: 'auto' } });
    if (!above) select.addEventListener('change', () => patch(`/api/users/${user.id}`, { role: select.value }).then(() => toast(`${user.name} is ${select.value} now`), error => { toast(error.message, 'bad'); again(); }));
    return line([user.name, me && h('span.muted', null, ' (you)')], user.last_seen_at ? ['Last seen ', when(user.last_seen_at)] : 'Never signed in', user.disabled && pill('off', 'Disabled'), select,
      !me && !above && button(user.disabled ? 'Enable' : 'Disable', { small: true, 'aria-label': `${user.disabled ? 'Enable' : 'Disable'} ${user.name}`, onclick: async () => { await patch(`/api/users/${user.id}`, { disabled: !user.disabled }); await again(); } }),
      !me && !above && h('button.icon-button.small', { type: 'button', 'aria-label': `Erase ${user.name}`, onclick: async () => { if (await confirm(`Erase the account ${user.name}?`, 'Sessions end at once. What the account did stays in the audit log.', { action: 'Erase', work: () => del(`/api/users/${user.id}`).then(() => true) })) again(); } }, icon('trash')));
  }), null), h('dl.pairs.small', null, roles.flatMap(role => [h('dt', null, role), h('dd', null, roleWords[role])]))];
}

function requests({ requests }, again) {
  return box('Requests', requests.map(request => {
    const select = roleSelect('viewer', { 'aria-label': `Role for ${request.name}`, style: { width: 'auto' } });
    return line(request.name, [request.message && `“${request.message}” `, when(request.requested_at), `, from ${request.address}`], select,
      button('Approve', { kind: 'primary', small: true, icon: 'check', onclick: async () => { await post(`/api/access-requests/${request.id}/approve`, { role: select.value }); toast(`${request.name} may sign in`); await again(); } }),
      button('Refuse', { small: true, onclick: async () => { await del(`/api/access-requests/${request.id}`); await again(); } }));
  }), empty('users', 'Nobody is asking', 'Whoever asks for access on the sign-in page appears here.'));
}

// A secret that is shown once.
function once(title, text, secret) {
  return dialog(title, close => h('div.stack', null, notice('warn', text), h('div.card', { style: { background: 'var(--sunken)', padding: '14px' } }, h('code', null, secret), h('div.row', null, copy(secret))), h('div.row', null, button('Done', { kind: 'primary', onclick: () => close() }))));
}

function invitations({ invitations }, again) {
  const make = () => dialog('Invite somebody', close => {
    const role = roleSelect('viewer'), hours = h('select', null, [[24, 'one day'], [72, 'three days'], [168, 'a week']].map(([value, text]) => h('option', { value }, text))), note = h('input', { maxlength: 200 });
    return form(async () => close(await post('/api/invitations', { role: role.value, expires_in_hours: Number(hours.value), note: note.value.trim() || undefined })), { text: 'Make the link' },
      field('Role', role), field('Valid for', hours), field('Note (optional)', note, { hint: 'For whom it is.' }));
  }).then(async made => {
    if (!made) return;
    await once('The invitation', 'Send this link to the person. It works once, and is shown only now.', location.origin + made.path);
    again();
  });
  return [h('div.row', null, button('Invite somebody', { icon: 'plus', kind: 'primary', onclick: make })), box('Invitations', invitations.map(each => line(each.note || 'Without a note', [`${each.role}, runs out `, when(each.expires_at)],
    button('Withdraw', { small: true, onclick: async () => { await del(`/api/invitations/${each.id}`); await again(); } }))), empty('users', 'No open invitation', 'An invitation is a link that makes one account with the role you choose.'))];
}

function tokens({ tokens }, again) {
  const make = () => dialog('New API token', close => {
    const name = h('input', { required: true, maxlength: 100 }), days = h('select', null, [[30, '30 days'], [90, '90 days'], [365, 'a year']].map(([value, text]) => h('option', { value }, text)));
    const boxes = Object.entries(scopes).map(([value, text]) => check(text, { value }));
    return form(async () => {
      const chosen = boxes.filter(box => box.input.checked).map(box => box.input.value);
      if (!chosen.length) throw new Error('Choose at least one thing it may do');
      close(await post('/api/tokens', { name: name.value.trim(), scopes: chosen, expires_in_days: Number(days.value) }));
    }, { text: 'Make the token' }, field('Name', name, { hint: 'Which program uses it.' }), h('fieldset', null, h('legend.label', null, 'It may'), boxes), field('Valid for', days));
  }).then(async made => {
    if (!made) return;
    await once('The token', 'Copy it now; the device does not show it again.', made.token);
    again();
  });
  return [h('div.row', null, button('New token', { icon: 'plus', kind: 'primary', onclick: make }), h('a.button', { href: '/api/openapi.json', target: '_blank', rel: 'noopener' }, 'API description')), box('Tokens', tokens.map(token => line(token.name, [token.scopes.map(scope => scopes[scope] ?? scope).join(', '), token.expires_at ? ['; runs out ', when(token.expires_at)] : null],
    button('Revoke', { small: true, kind: 'danger', 'aria-label': `Revoke ${token.name}`, onclick: async () => { if (await confirm(`Revoke ${token.name}?`, 'Programs that use it are refused at once.', { action: 'Revoke', work: () => del(`/api/tokens/${token.id}`).then(() => true) })) await again(); } }))), empty('lock', 'No token', 'Programs such as a monitor or a script sign in with a token instead of a password.'))];
}

function audit(signal) {
  const list = h('div.list', { 'aria-busy': 'true', style: { 'min-height': '480px' } }, h('div', null, h('div.bone.grow', { style: { height: '440px' } })));
  endless(list, async cursor => {
    const told = await get(`/api/audit${asked({ after: cursor, limit: 60 })}`, { signal });
    return { items: told.entries, next: told.next };
  }, entry => h('div.wrap', null, h('span.grow', { style: { 'min-width': '150px' } }, h('span.line', null, h('b', null, entry.who ?? 'Nobody'), ` ${entry.what.replaceAll('_', ' ')}`), h('span.line.muted.small', { style: { 'overflow-wrap': 'anywhere' } }, [entry.address, entry.target, entry.detail, entry.times > 1 && `${format.number(entry.times)} times within a minute`].filter(Boolean).join(' · '))),
    entry.outcome >= 400 && pill('refused', String(entry.outcome)), h('time.muted.small.nowrap', { datetime: new Date(entry.at).toISOString(), title: format.exact(entry.at) }, format.moment(entry.at))),
  { signal, none: () => empty('jobs', 'Nothing noted yet') });
  const verdict = h('div', { role: 'status' });
  const verify = button('Verify', { icon: 'check', small: true, onclick: async () => put(verdict, chain(await get('/api/audit/verify', { signal }))) });
  return h('div.stack', null, h('div.row', null, h('p.muted.grow', null, 'Each entry is chained to the one before, so that what is changed or taken out shows.'), verify), verdict, h('section.card.flush', { 'aria-label': 'Audit log' }, list));
}

const faults = {
  changed: 'was changed after it was made', broken: 'does not follow from the one before', unlinked: 'was put in past the program', gone: 'is gone, though nothing called for that',
};

function chain({ entries, erased, fault, head }) {
  if (fault) return notice('bad', `Entry ${fault.entry} ${faults[fault.what]}.`, { title: 'The audit log is not whole. ' });
  const gone = erased ? ` ${format.number(erased)} were erased for their age or number.` : '';
  return notice('good', [`${format.number(entries)} entries are as they were written.${gone} The chain ends with `, h('code', { style: { 'overflow-wrap': 'anywhere' } }, head), '. Noted elsewhere, it shows later whether the log was made anew.']);
}
