// Everybody enrolled: search, groups, and a list that goes on as far as there are people.

import { del, get, may, patch, post, query as asked } from './api.js';
import { h, icon, put } from './dom.js';
import { words } from './errors.js';
import * as format from './format.js';
import { button, confirm, dialog, empty, endless, face, failed, field, form, link, page, settled, toast } from './ui.js';

export const title = 'People';

export function show({ signal, query }) {
  const input = h('input', { type: 'search', placeholder: 'Search by name', 'aria-label': 'Search by name', value: query.get('search') ?? '', spellcheck: 'false' });
  const chips = h('div.chips.slide', { role: 'group', 'aria-label': 'Groups', style: { 'min-height': '34px' } });
  // As wide before it is known, so that the field beside it stays.
  const total = h('span.muted.small.num', { role: 'status', style: { 'min-width': '88px', 'text-align': 'end' } }), holder = h('div');
  let group = query.get('group'), turn = null;

  const list = () => {
    turn?.abort();
    const mine = turn = new AbortController();
    signal.addEventListener('abort', () => mine.abort(), { once: true });
    const search = input.value.trim();
    history.replaceState(null, '', `/faces${asked({ search, group })}`);
    const tiles = h('div.tiles', { 'aria-busy': 'true' }, Array.from({ length: 8 }, () => h('div.tile', null, h('div.bone', { style: { 'aspect-ratio': '1' } }), h('div', { style: { height: '62px' } }))));
    put(holder, tiles);
    endless(tiles, async cursor => {
      const told = await get(`/api/subjects${asked({ after: cursor, limit: 48, search, group })}`, { signal: mine.signal });
      // Counted with the first part only.
      if (cursor === undefined) total.textContent = format.count(told.total, 'person', 'people');
      return { items: told.subjects, next: told.next };
    }, tile, { signal: mine.signal, none: () => h('div.card', null, search || group
      ? empty('search', 'Nobody found', 'Another spelling, or another group?')
      : empty('people', 'Nobody is enrolled yet', 'Enrol somebody with a few pictures, or with the camera in ten seconds.', may('operator') && h('div.row', null, link('Enrol the first person', '/enrol', { icon: 'plus', kind: 'primary' }), link('Import many', '/import', { icon: 'import' })))) });
  };
  const groups = async () => {
    try {
      const told = await get('/api/groups', { signal });
      const chip = (text, id) => h('button.chip', { type: 'button', 'aria-pressed': String(String(id ?? '') === String(group ?? '')), onclick: () => { group = id; paint(); list(); } }, text);
      const paint = () => put(chips, chip('Everybody', null), told.groups.map(({ id, name }) => chip(name, id)),
        may('operator') && h('button.chip', { type: 'button', onclick: () => manage(told.groups).then(groups) }, icon('edit'), 'Groups'));
      paint();
    } catch (error) {
      if (error.name !== 'AbortError') put(chips, failed(error, groups));
    }
  };
  input.addEventListener('input', settled(list));
  groups();
  list();
  return page('People', { lede: 'Whom this device recognises.', actions: may('operator') && [link('Import', '/import', { icon: 'import' }), link('Enrol', '/enrol', { icon: 'plus', kind: 'primary' })] },
    h('div.row', null, h('div.search.grow', { style: { 'min-width': '200px' } }, icon('search'), input), total), chips, holder);
}

function tile(subject) {
  const soon = subject.erased_unseen_at && subject.erased_unseen_at < Date.now() + 30 * 864e5;
  const state = subject.expired ? 'Expired, not recognised' : soon ? `Not seen for long, erased on ${format.shortDay(subject.erased_unseen_at)}` : subject.expires_at ? `Until ${format.shortDay(subject.expires_at)}` : null;
  return h('a.tile', { href: `/faces/${subject.id}`, 'data-link': '' }, face(subject.name, subject.picture),
    h('div.text', null, h('span.cut', { style: { 'font-weight': 600 } }, subject.name),
      state ? h('span.small.warn.toned.cut', null, state)
        : h('span.muted.small.cut', null, subject.groups.map(({ name }) => name).join(', ') || format.count(subject.samples, 'sample', 'samples'))));
}

// Making, renaming and erasing groups.
function manage(groups) {
  return dialog('Groups', () => {
    const list = h('div.stack');
    const row = group => {
      const name = h('input', { value: group.name, maxlength: 100, 'aria-label': `Name of the group ${group.name}` });
      name.addEventListener('change', async () => {
        try { await patch(`/api/groups/${group.id}`, { name: name.value.trim() }); toast('Renamed'); } catch (error) { name.value = group.name; toast(words(error), 'bad'); }
      });
      const el = h('div.row', { style: { 'flex-wrap': 'nowrap' } }, name, button('Erase', { kind: 'danger', small: true, onclick: async () => {
        if (await confirm('Erase the group?', `The people in “${group.name}” stay; only the group goes.`, { action: 'Erase', work: () => del(`/api/groups/${group.id}`).then(() => true) })) el.remove();
      } }));
      return el;
    };
    list.append(...groups.map(row));
    const name = h('input', { required: true, maxlength: 100 });
    return h('div.stack', null, groups.length ? null : h('p.muted', null, 'Groups sort people: family, cleaning crew, second floor.'), list,
      form(async () => { list.append(row(await post('/api/groups', { name: name.value.trim() }))); name.value = ''; }, { text: 'Add', icon: 'plus' }, field('New group', name)));
  });
}
