// One person: what is known, the samples and how much each helps, and the way out.

import { del, get, may, patch, post, query as asked } from './api.js';
import { h, icon, put } from './dom.js';
import { isAbort, sentence } from './errors.js';
import { eventRow } from './eventview.js';
import * as format from './format.js';
import { bones, button, check, confirm, dialog, empty, face, failed, field, form, link, meter, notice, page, pill, stateOf, toast, toneOf } from './ui.js';

export const title = 'Person';

export function show({ params: [id], signal, go, title: setTitle }) {
  const heading = h('h1', { tabindex: -1 }, 'Person'), top = h('div.row', { style: { 'min-height': '84px', 'flex-wrap': 'nowrap', gap: '18px' } }, face(null, null, { large: true }), heading);
  const samples = h('section.card', { 'aria-label': 'Samples' }, bones(1, 470)), facts = h('section.card', { 'aria-label': 'About' }, bones(1, 640));
  const closest = h('section.card', { 'aria-label': 'Closest others' }, h('h2', null, 'Closest others'), bones(1, 80));
  const seen = h('section.card.flush', { 'aria-label': 'Seen' }, h('div.head.card-head', null, h('h2', null, 'Seen')), h('div.card-head', null, bones(1, 120)));
  const root = h('div.page', null, h('div.head', null, h('p.small', null, h('a', { href: '/faces', 'data-link': '' }, 'People'))), top,
    h('div.wide-left', null, h('div.stack', { style: { gap: 'var(--gap)' } }, samples, seen), h('div.stack', { style: { gap: 'var(--gap)' } }, facts, closest)));

  const load = async () => {
    try {
      const subject = await get(`/api/subjects/${id}`, { signal });
      setTitle(subject.name);
      heading.textContent = subject.name;
      put(top, face(subject.name, subject.picture, { large: true }), h('div.grow', null, heading,
        h('p.muted', null, `${format.count(subject.samples_list.length, 'sample', 'samples')}, enrolled ${format.ago(subject.created_at)}`),
        subject.expired && pill('degraded', 'Expired: not recognised any more')));
      put(facts, may('operator') ? await editor(subject) : reader(subject));
      await grid(subject);
    } catch (error) {
      if (!isAbort(error)) put(root, h('h1', { tabindex: -1 }, 'Person'), failed(error, error.status === 404 ? null : load), link('All people', '/faces'));
    }
  };

  const grid = async subject => {
    const paint = quality => put(samples, h('div.head', null, h('h2', null, 'Samples'), may('operator') && link('Add samples', `/enrol?subject=${id}`, { icon: 'plus', small: true })),
      subject.samples_list.length ? h('div.tiles', null, subject.samples_list.map(sample => sampleTile(subject, sample, quality?.samples.find(other => other.id === sample.id), load))) : empty('picture', 'No samples', 'Without a sample nobody can be recognised.'),
      quality && h('p.hint', null, `A sample helps when it looks like the others of this person, and like nobody else (below ${format.score(quality.threshold)}).`));
    paint(null);
    try {
      const quality = await get(`/api/subjects/${id}/quality`, { signal });
      paint(quality);
      put(closest, h('h2', null, 'Closest others'), quality.closest.length ? quality.closest.map(other => h('div.stack.tight', null,
        h('div.row.between', null, h('a.grow.cut', { href: `/faces/${other.subject}`, 'data-link': '' }, other.name), h('span.num', null, format.score(other.score))),
        meter(other.score, { tone: other.score >= quality.threshold ? 'bad' : 'good', mark: quality.threshold, label: `Comparison score with ${other.name}` }))) : h('p.muted', null, 'Nobody else is enrolled.'),
      quality.closest.length > 0 && h('p.hint', null, 'The bar ends at 1; the line is where two people begin to be taken for one.'));
    } catch (error) {
      if (!isAbort(error)) put(closest, h('h2', null, 'Closest others'), failed(error, () => grid(subject)));
    }
  };

  const editor = async subject => {
    const { groups } = await get('/api/groups', { signal });
    const name = h('input', { value: subject.name, required: true, maxlength: 200, autocomplete: 'off', spellcheck: 'false' });
    const notes = h('textarea', { value: subject.notes ?? '', maxlength: 2000, rows: 3 });
    const day = subject.expires_at ? format.dayKey(subject.expires_at) : '';
    const until = h('input', { type: 'date', value: day });
    const unseen = h('input', { type: 'number', min: 0, max: 36500, step: 1, value: subject.keep_unseen_days ?? '', placeholder: 'as is usual' });
    const announced = check('A sensor of its own in Home Assistant', { checked: subject.announced });
    const mine = new Set(subject.groups.map(group => group.id));
    const chips = h('div.chips', null, groups.length ? groups.map(group => h('label.chip', null, h('input.sr', { type: 'checkbox', value: group.id, checked: mine.has(group.id) }), group.name)) : h('span.hint', null, 'None made yet.'));
    return [h('h2', null, 'About'), form(async () => {
      const changes = {}, chosen = [...chips.querySelectorAll(':checked')].map(box => Number(box.value));
      if (name.value.trim() !== subject.name) changes.name = name.value.trim();
      if (notes.value.trim() !== (subject.notes ?? '')) changes.notes = notes.value.trim() || null;
      if (chosen.length !== mine.size || chosen.some(group => !mine.has(group))) changes.groups = chosen;
      const days = unseen.value === '' ? null : Number(unseen.value);
      if (days !== subject.keep_unseen_days) changes.keep_unseen_days = days;
      if (announced.input.checked !== subject.announced) changes.announced = announced.input.checked;
      // The whole of the chosen day still counts. A day that was not touched keeps its time, which may have
      // been set elsewhere.
      if (until.value !== day) changes.expires_at = until.value ? new Date(`${until.value}T23:59:59`).getTime() : null;
      if (Object.keys(changes).length) await patch(`/api/subjects/${id}`, changes);
      toast('Saved');
      await load();
    }, { text: 'Save' }, field('Name', name), field('Notes', notes), h('fieldset.field', null, h('legend.label', null, 'Groups'), chips),
    field('Recognised until', until, { hint: 'Empty: for good. Afterwards the person is treated as unknown.' }),
    field('Erased when not seen for so many days', unseen, { hint: `Empty: as is usual. 0: never. ${presence(subject)}` }), announced),
    consented(subject),
    others(subject),
    h('div', { style: { 'border-top': '1px solid var(--line)', 'padding-top': '14px' } }, h('div.row', null, may('admin') && h('a.button', { href: `/api/subjects/${subject.id}/export`, download: '' }, icon('down'), 'Everything kept of this person'), button('Erase this person', { kind: 'danger', icon: 'trash', onclick: () => erase(subject) })))];
  };

  // That this person agreed, and to which text.
  const consented = subject => {
    const { consent, consent_text_version: version } = subject;
    const record = () => dialog('Record a consent', close => {
      const by = h('input', { value: subject.name, required: true, maxlength: 120, autocomplete: 'off' });
      const way = h('select', null, Object.entries(ways).map(([value, text]) => h('option', { value }, text)));
      const on = h('input', { type: 'date', required: true, value: format.dayKey(Date.now()), max: format.dayKey(Date.now()) });
      const text = h('input', { value: version, required: true, maxlength: 40, autocomplete: 'off' });
      return form(async () => {
        // Noon of the day, or now where that is still to come.
        const given_at = Math.min(new Date(`${on.value}T12:00:00`).getTime(), Date.now());
        await post(`/api/subjects/${id}/consent`, { given_by: by.value.trim(), way: way.value, given_at, text_version: text.value.trim() });
        close(true);
      }, { text: 'Record' }, field('Who agreed', by, { hint: 'The person, or whoever may agree for them.' }), field('How', way), field('When', on), field('To which version of the text', text));
    });
    const withdraw = async () => {
      if (!await confirm('Withdraw the consent?', `The record is removed. ${subject.name} stays enrolled until erased, which should follow.`, { action: 'Withdraw', work: () => del(`/api/subjects/${id}/consent`).then(() => true) })) return;
      await load();
      await erase(subject);
    };
    return h('section.stack.tight', { 'aria-label': 'Consent', style: { 'border-top': '1px solid var(--line)', 'padding-top': '14px' } }, h('h3', null, 'Consent'),
      consent ? h('p.small', null, agreed(consent)) : h('p.small.muted', null, 'Nothing is recorded. In many places people have to agree before they are enrolled.'),
      consent && consent.text_version !== version && notice('warn', `People are shown version ${version} of the text by now.`),
      h('div.row', null, button(consent ? 'Record anew' : 'Record a consent', { small: true, onclick: async () => { if (await record()) { toast('Recorded'); await load(); } } }), consent && button('Withdraw', { small: true, kind: 'danger', onclick: withdraw })));
  };

  // Faces of which somebody said that they are not this person.
  const others = subject => {
    const n = subject.counter_examples;
    if (!n) return null;
    const back = (text, which, title) => button(text, { small: true, onclick: async () => {
      if (await confirm(title, `They are forgotten, and whoever looks like them may be taken for ${subject.name} again.`, { action: 'Take back', work: () => del(`/api/subjects/${id}/counter-examples?which=${which}`).then(() => true) })) { toast('Taken back'); await load(); }
    } });
    return h('section.stack.tight', { 'aria-label': 'Not this person', style: { 'border-top': '1px solid var(--line)', 'padding-top': '14px' } }, h('h3', null, 'Not this person'),
      h('p.small', null, `${format.count(n, 'face is', 'faces are')} remembered as not ${subject.name}: whoever looks more like one of them is not recognised as ${subject.name}.`),
      h('div.row', null, back('Take back the last', 'last', 'Take back what was said last?'), back('Take back all', 'all', 'Take back all of them?')));
  };

  const erase = async subject => {
    const receipt = await confirm(`Erase ${subject.name}?`, 'Samples, templates and pictures are removed, and the name is taken out of all events. This cannot be undone.', { action: 'Erase for good', typed: subject.name, work: () => del(`/api/subjects/${id}`) });
    if (!receipt) return;
    await dialog('Erased', close => h('div.stack', null, notice('good', 'This is what was removed from the device.'), receiptTable(receipt), h('div.row', null, button('Done', { kind: 'primary', onclick: () => close() }))));
    go('/faces', { replace: true });
  };

  get(`/api/events${asked({ subject: id, limit: 5 })}`, { signal }).then(told => put(seen, h('div.head.card-head', null, h('h2', null, 'Seen'), link('All events', `/events?subject=${id}`, { kind: 'quiet', small: true })),
    told.events.length ? h('div.list', null, told.events.map(event => eventRow(event))) : empty('events', 'Not seen yet')), error => { if (!isAbort(error)) put(seen, h('div.card-head', null, failed(error))); });
  load();
  return root;
}

const ways = { written: 'Signed on paper', screen: 'Confirmed on a screen', spoken: 'Said to whoever enrolled them' };

function agreed({ given_by, way, given_at, text_version, recorded_by }) {
  return `${given_by} agreed on ${format.shortDay(given_at)} to version ${text_version} of the text: ${ways[way].toLowerCase()}. Recorded by ${recorded_by}.`;
}

function presence({ last_seen_at, erased_unseen_at }) {
  return `Last seen or enrolled ${format.ago(last_seen_at)}${erased_unseen_at ? `; erased on ${format.shortDay(erased_unseen_at)} if not seen until then` : ''}.`;
}

function reader(subject) {
  const row = (name, value) => value && [h('dt', null, name), h('dd', null, value)];
  return [h('h2', null, 'About'), h('dl.pairs', null, row('Notes', subject.notes || '–'), row('Groups', subject.groups.map(group => group.name).join(', ') || '–'), row('Recognised until', subject.expires_at ? format.shortDay(subject.expires_at) : 'for good'), row('Presence', presence(subject)), row('Consent', subject.consent ? agreed(subject.consent) : 'not recorded'), row('Last change', format.moment(subject.updated_at)))];
}

const origins = { file: 'Picture', camera: 'Device camera', sighting: 'Unknown face' };

function sampleTile(subject, sample, judged, reload) {
  const what = origins[sample.origin] ?? sentence(sample.origin ?? '').replace(/\.$/, '');
  return h('div.tile', null, face(null, sample.picture),
    h('div.text.tight', { style: { gap: '6px' } },
      h('div', { style: { height: '26px' } }, judged ? pill(judged.verdict) : h('span.bone', { style: { width: '74px', height: '24px', display: 'block' } })),
      h('div.stack.tight', null, meter(sample.quality, { tone: toneOf(sample.quality), label: 'Quality' }), h('span.muted.small.num', null, `Quality ${format.score(sample.quality)}${judged?.own_score == null ? '' : `, alike ${format.score(judged.own_score)}`}`)),
      judged && judged.verdict !== 'helps' && h('p.small.toned', { class: stateOf(judged.verdict)[0] }, sentence(judged.advice)),
      judged?.conflicts?.map(other => h('p.small', null, 'Like ', h('a', { href: `/faces/${other.subject}`, 'data-link': '' }, other.name), ` (${format.score(other.score)})`)),
      h('span.muted.small', null, [what, format.shortDay(sample.enrolled_at)].filter(Boolean).join(', ')),
      may('operator') && button('Remove', { kind: 'quiet danger', small: true, icon: 'trash', onclick: async () => {
        const only = subject.samples_list.length === 1;
        if (await confirm('Remove this sample?', only ? 'It is the only one: without it this person is not recognised any more.' : 'Its template and picture are erased; recognition goes on with the others.', { action: 'Remove', work: () => del(`/api/samples/${sample.id}`).then(() => true) })) { toast('Removed'); await reload(); }
      } })));
}

const receiptNames = { subjects: 'Person', samples: 'Samples', templates: 'Templates', pictures: 'Pictures', events: 'Events without the name now', sightings: 'Sightings' };

export function receiptTable(receipt) {
  return h('div.stack', null, h('table', null, h('caption.sr', null, 'What was removed'), h('tbody', null, Object.entries(receiptNames).filter(([key]) => receipt[key] != null).map(([key, name]) => h('tr', null, h('th', { scope: 'row' }, name), h('td', null, format.number(receipt[key])))))),
    receipt.log_emptied != null && h('p.row', { style: { 'flex-wrap': 'nowrap' } }, icon(receipt.log_emptied ? 'check' : 'warn'), receipt.log_emptied ? 'The database was rewritten, so that nothing can be read back from its files.' : 'The log of the database is still to be emptied; that happens at the next quiet moment.'),
    receipt.search && searched(receipt.search));
}

const traceNames = { id: 'the number', name: 'the name', template: 'a template', picture: 'a picture' };

function searched({ files, databases, databases_by_value, found, not_searched }) {
  const clean = !found.length && !not_searched.length;
  const text = clean ? `Looked for afterwards in ${format.number(files)} files and ${format.number(databases + databases_by_value)} decrypted databases: nothing is left.`
    : [...found.map(trace => `${sentence(traceNames[trace.kind])} ${trace.place}.`), ...not_searched.map(reason => `Could not be looked at: ${reason}.`)].join(' ');
  return h('p.row', { style: { 'flex-wrap': 'nowrap' } }, icon(clean ? 'check' : 'warn'), text);
}
