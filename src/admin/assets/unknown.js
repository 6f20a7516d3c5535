// Faces that were seen and are nobody enrolled: off unless wanted, kept shortly, grouped by likeness.

import { del, get, may, post, query as asked } from './api.js';
import { h, icon, put } from './dom.js';
import { enrol, outcome } from './enrol.js';
import { ruleOut } from './eventview.js';
import * as format from './format.js';
import { subjectPicker } from './picker.js';
import { button, check, confirm, dialog, during, empty, endless, field, form, link, page } from './ui.js';

export const title = 'Unknown faces';

// Of the score from which somebody is recognised: below this, the most alike is not worth suggesting.
const NEAR = 0.6;

export function show({ signal }) {
  // In the order of the list.
  const known = new Map();
  const chosen = new Set(), holder = h('div'), said = h('div.stack', { 'aria-live': 'polite' });
  let turn = null, threshold = Infinity;
  const name = button('Name them', { icon: 'enrol', kind: 'primary', onclick: () => naming([...chosen].map(id => known.get(id))) });
  const bar = h('div.save-bar', { hidden: true, role: 'region', 'aria-label': 'Chosen' });
  const picked = () => { bar.hidden = !chosen.size; put(bar, h('span.grow', { role: 'status' }, `${format.count(chosen.size, 'group', 'groups')} chosen`), name, button('None', { kind: 'quiet', onclick: list })); };
  const ignored = check('Show ignored', { onchange: () => list() });

  const list = () => {
    turn?.abort();
    const mine = turn = new AbortController();
    signal.addEventListener('abort', () => mine.abort(), { once: true });
    chosen.clear();
    known.clear();
    picked();
    const tiles = h('div.tiles', { 'aria-busy': 'true', style: { 'grid-template-columns': 'repeat(auto-fill, minmax(150px, 1fr))' } }, Array.from({ length: 6 }, () => h('div.bone', { style: { height: '330px' } })));
    put(holder, tiles);
    return endless(tiles, async cursor => {
      const told = await get(`/api/sightings${asked({ ignored: ignored.input.checked || null, after: cursor, limit: 48 })}`, { signal: mine.signal });
      if (!told.enabled && !told.groups.length) {
        put(holder, h('div.card', null, empty('unknown', 'Passers-by are not kept', 'That is the safe and, in many places, the lawful way. When it is switched on, faces of unknown people are kept for a short time, so that they can be named here afterwards.', may('admin') && link('Open the setting', '/settings?section=sightings', { icon: 'settings' }))));
      }
      return { items: told.groups, next: told.next };
    }, tile, { signal: mine.signal, none: () => h('div.card', null, empty('unknown', 'Nobody unknown lately', 'Unknown visitors appear here and go by themselves when their time is over.')) });
  };

  const tile = group => {
    known.set(group.id, group);
    const about = `group of ${format.count(group.count, 'visit', 'visits')}, last ${format.ago(group.last_seen_at)}`;
    const pick = h('input', { type: 'checkbox', 'aria-label': `Choose the ${about}`, onchange: () => { if (pick.checked) chosen.add(group.id); else chosen.delete(group.id); picked(); } });
    const img = h('img.face', { src: group.picture, alt: `Unknown face, ${about}`, loading: 'lazy', decoding: 'async', width: 200, height: 200 });
    const act = (text, name, work) => {
      const el = h('button.icon-button.small', { type: 'button', 'aria-label': text, title: text }, icon(name));
      el.addEventListener('click', () => during(el, async () => { if (await work() !== false) await list(); }));
      return el;
    };
    return h('article.tile', { 'aria-label': `Unknown, ${about}` }, img, h('label.pick', null, pick),
      h('div.text', { style: { gap: '6px' } }, h('b', null, format.count(group.count, 'visit', 'visits')), h('span.muted.small', null, `Last ${format.ago(group.last_seen_at)}`),
        h('span.muted.small', null, `Goes ${format.ago(group.expires_at)}`),
        group.closest && h('div.row.small', { style: { gap: '2px', 'flex-wrap': 'nowrap' } }, h('span.cut', null, `Like ${group.closest.name} (${format.score(group.closest.score)})`),
          act(`It is not ${group.closest.name}`, 'close', () => ruleOut(group.closest.name, `/api/sightings/${group.id}/not`, { subject: group.closest.subject }).then(Boolean))),
        h('div.row', { style: { gap: '2px' } }, h('div', { style: { flex: '1 0 auto' } }, button('Name', { small: true, onclick: () => naming([group]) })),
          act(group.ignored ? 'Heed again' : 'Ignore', group.ignored ? 'check' : 'dash', () => post(`/api/sightings/${group.id}/ignore`, { ignored: !group.ignored })),
          act('Erase', 'trash', async () => Boolean(await confirm('Erase these sightings?', 'Their pictures are removed for good.', { action: 'Erase', work: () => del(`/api/sightings/${group.id}`).then(() => true) }))))));
  };

  // Several groups at once are one person. A single one is followed by the next, so that many are named
  // one after the other without a hand off the keyboard.
  const naming = async (groups, changed = false) => {
    const [first] = groups, single = groups.length === 1;
    const result = await dialog(single ? 'Who is this?' : `Name ${groups.length} groups`, close => {
      const input = h('input', { autocomplete: 'off', autocapitalize: 'words', spellcheck: 'false', maxlength: 120, autofocus: true });
      const picker = subjectPicker('Or somebody enrolled', { signal });
      const send = async (then, who) => {
        const told = await enrol({ groups: groups.map(group => group.id), ...who }, '/api/sightings/name');
        if (told) close({ ...told, then });
      };
      const given = () => {
        const name = input.value.trim();
        if (!name && !picker.value) { input.focus(); throw new Error('Give a name, or choose somebody enrolled'); }
        if (name && picker.value) throw new Error('Give a name or choose somebody, not both');
        return name ? { name } : { subject: picker.value.id };
      };
      const near = single && first.closest?.score >= NEAR * threshold && first.closest, left = single && following(groups).length > 0;
      // The first of the buttons is what Enter does.
      return form(() => send(left, given()), left ? { text: 'Name and next', icon: 'check', beside: [button('Name', { onclick: () => send(false, given()) }), button('Skip', { kind: 'quiet', onclick: () => close({ then: true }) })] } : { text: 'Name', icon: 'check' },
        pictures(groups),
        single ? null : h('p.muted', null, 'All chosen groups become samples of one person.'),
        near && h('div.row', null, h('span.grow', null, `Most like ${near.name} (${format.score(near.score)}).`), button(`It is ${near.name}`, { small: true, onclick: () => send(left, { subject: near.subject }) })),
        field('Name', input, { hint: 'New, or as somebody is called already.' }), picker.el);
    });
    if (!result) return changed ? list() : false;
    if (result.subject) {
      const subject = await get(`/api/subjects/${result.subject}`, { signal });
      put(said, outcome({ ...result, subject, refused: [] }), result.refused > 0 && h('p.muted.small', null, `${format.count(result.refused, 'picture was', 'pictures were')} not good enough and left out.`));
    }
    const next = following(groups)[0];
    if (result.subject) groups.forEach(group => { known.delete(group.id); });
    changed ||= Boolean(result.subject);
    if (result.then && next) return naming([next], changed);
    return changed ? list() : false;
  };

  // Those that stand behind in the list.
  const following = ([group]) => { const all = [...known.values()]; return all.slice(all.findIndex(({ id }) => id === group.id) + 1); };

  const pictures = groups => h('div.row', { role: 'group', 'aria-label': 'Pictures', style: { gap: '8px' } },
    groups.slice(0, 8).flatMap(group => Array.from({ length: Math.min(group.pictures, groups.length > 1 ? 1 : 6) }, (_, n) => h('img.face.large', { src: `${group.picture}${n ? `?n=${n}` : ''}`, alt: `Picture ${n + 1} of the group of ${format.count(group.count, 'visit', 'visits')}`, width: 84, height: 84 }))));

  list();
  // Without it nobody is suggested; the names under the pictures are there anyway.
  get('/api/device', { signal }).then(device => { threshold = device.thresholds.identification; }, () => {});
  return page('Unknown faces', { lede: 'Seen by the camera, and nobody enrolled.', actions: ignored }, said, holder, bar);
}
