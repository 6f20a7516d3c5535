// Enrolling: pictures given or taken, then who it is.

import { del, get, post } from './api.js';
import { h, icon, put } from './dom.js';
import { sentence } from './errors.js';
import * as format from './format.js';
import { subjectPicker } from './picker.js';
import { PictureCard, cardsFor, dropZone } from './pictures.js';
import { button, dialog, face, failed, field, form, link, page, tabs } from './ui.js';

export const title = 'Enrol';

export function show({ signal, query, block }) {
  // `kept` is of the guided capture in view, `taken` of those left since.
  let cards = [], kept = [], taken = [], existing = null;
  const grid = h('div.tiles', { style: { 'grid-template-columns': 'repeat(auto-fill, minmax(200px, 1fr))' } });
  const samples = () => [...cards.map(card => card.value).filter(Boolean), ...[...taken, ...kept].map(({ picture, face: index }) => ({ picture, face: index }))];

  const changed = () => {
    const n = samples().length, open = cards.filter(card => card.picture && !card.value).length;
    block(n ? 'The pictures given here are not enrolled yet. Leave anyway?' : null);
    put(tally, n ? h('p.good.toned', null, icon('check'), ` ${format.count(n, 'picture is', 'pictures are')} ready.`) : h('p.muted', null, 'No usable picture yet.'),
      open > 0 && h('p.warn.toned.small', null, `${format.count(open, 'picture is', 'pictures are')} left out: no face chosen, or none usable.`),
      n > 0 && n < 3 && h('p.hint', null, 'Three to five, slightly turned and in different light, recognise best.'));
    submit.querySelector('[type=submit]').disabled = !n;
  };
  const captured = h('ul.row', { 'aria-label': 'Taken with guidance', hidden: true });
  const showTaken = () => {
    captured.hidden = !taken.length;
    put(captured, taken.map((sample, i) => h('li.row.small', { style: { 'flex-wrap': 'nowrap', gap: '2px' } },
      h('img.face', { src: `/api/pictures/${sample.picture}/faces/${sample.face}`, alt: `Taken: ${sample.pose}`, width: 44, height: 44, style: { width: '44px' } }),
      h('button.icon-button.small', { type: 'button', 'aria-label': `Remove picture ${i + 1}, ${sample.pose}`, onclick: () => {
        taken = taken.filter(other => other !== sample);
        del(`/api/pictures/${sample.picture}`).catch(() => {});
        showTaken();
        changed();
        (captured.querySelector('button') ?? name).focus();
      } }, icon('close')))));
  };
  const options = { signal, changed, removed: card => { cards = cards.filter(other => other !== card); changed(); } };
  const add = more => { cards.push(...more); grid.append(...more.map(card => card.el)); changed(); };

  const pictures = () => h('div.stack', null, dropZone({
    signal, multiple: true,
    given: blobs => add(cardsFor(blobs, options)),
    device: promise => add([new PictureCard('Device camera', promise, options)]),
  }), grid);
  const guide = source => leave => {
    const holder = h('div.bone.block');
    leave.addEventListener('abort', () => { taken.push(...kept); kept = []; showTaken(); });
    import('./guide.js').then(({ guided }) => {
      if (!leave.aborted) holder.replaceWith(guided(source, { signal: leave, changed: now => { kept = now; changed(); } }));
    }, error => holder.replaceWith(failed(error)));
    return holder;
  };

  // Who it is: a new person, or more pictures of one who is there.
  const name = h('input', { autocomplete: 'off', autocapitalize: 'words', spellcheck: 'false', maxlength: 120 });
  const notes = h('textarea', { maxlength: 2000, rows: 2 });
  const groups = h('div.chips');
  const picker = subjectPicker('Person', { signal, changed: subject => { existing = subject; } });
  const who = h('div.stack');
  const asNew = () => [field('Name', name), field('Notes (optional)', notes), h('fieldset.field', null, h('legend.label', null, 'Groups'), groups)];
  let isNew = true;
  const mode = h('div.segments', { role: 'group', 'aria-label': 'Who is it' });
  const choose = on => {
    isNew = on;
    put(mode, [['New person', true], ['Already enrolled', false]].map(([text, value]) => h('button', { type: 'button', 'aria-pressed': String(value === on), onclick: () => { choose(value); mode.children[value ? 0 : 1].focus(); } }, text)));
    put(who, on ? asNew() : picker.el);
  };
  const tally = h('div.stack.tight', { 'aria-live': 'polite', style: { 'min-height': '52px' } });
  const said = h('div.stack', { 'aria-live': 'polite' });

  const submit = form(async () => {
    const body = { samples: samples(), skip_unusable: true };
    if (isNew) {
      if (!name.value.trim()) { name.focus(); throw new Error('Give the person a name'); }
      Object.assign(body, { name: name.value.trim(), notes: notes.value.trim() || undefined, groups: [...groups.querySelectorAll(':checked')].map(box => Number(box.value)) });
    } else {
      if (!existing) { picker.input.focus(); throw new Error('Choose who it is'); }
      body.subject = existing.id;
    }
    const result = await enrol(body);
    if (!result) return;
    for (const card of cards) card.el.remove();
    cards = [];
    kept = [];
    taken = [];
    showTaken();
    changed();
    name.value = notes.value = '';
    for (const box of groups.querySelectorAll(':checked')) box.checked = false;
    put(said, outcome(result));
    said.firstChild.scrollIntoView({ block: 'center' });
    t.choose('pictures');
  }, { text: 'Enrol', icon: 'check' }, h('h2', null, 'Who is it?'), mode, who, captured, tally);

  choose(true);
  get('/api/groups', { signal }).then(told => put(groups, told.groups.length ? told.groups.map(group => h('label.chip', null, h('input.sr', { type: 'checkbox', value: group.id }), group.name)) : h('span.hint', null, 'None made yet; they are made on the page People.')), () => put(groups, h('span.hint', null, 'Could not be read.')));
  const subject = query.get('subject');
  if (subject) get(`/api/subjects/${subject}`, { signal }).then(told => { choose(false); picker.choose(told); }, () => {});

  const t = tabs('Where the pictures come from', [
    { id: 'pictures', text: 'Pictures', icon: 'picture', show: pictures },
    { id: 'browser', text: 'This camera', icon: 'phone', show: guide('browser') },
    { id: 'device', text: 'Device camera', icon: 'camera', show: guide('device') },
  ], query.get('with'));
  signal.addEventListener('abort', t.end);
  changed();
  return page('Enrol', { lede: 'A few good pictures and a name; recognised at once, without a restart.' },
    said, h('div.wide-left', null, h('div.stack', null, t.list, t.panel), h('section.card', { 'aria-label': 'Who is it' }, submit)));
}

// Enrols, asking first where it looks like somebody else. Null: nothing was stored.
export async function enrol(body, path = '/api/subjects/enrol') {
  try {
    return await post(path, body);
  } catch (error) {
    if (error.code !== 'looks_like') throw error;
    const others = error.details?.looks_like ?? [];
    const answer = await dialog('This looks like somebody enrolled', close => h('div.stack', null,
      h('p', null, 'The same person under two names cannot be told apart later. Is it one of these?'),
      h('div.list', null, others.map(other => h('div', { style: { 'padding-inline': 0 } }, face(other.name), h('span.grow', null, h('b', null, other.name), h('span.muted.small.num', { style: { display: 'block' } }, `comparison score ${format.score(other.score)}`)),
        button(`Yes, add to ${other.name}`, { small: true, onclick: () => close({ subject: other.subject }) })))),
      h('div.row', null, button('No, it is somebody else', { onclick: () => close({ anew: true }) }), button('Cancel', { kind: 'quiet', onclick: () => close(null) }))));
    if (!answer) return null;
    const again = { ...body, accept_similar: true };
    if (answer.subject) {
      // Unknown faces are told by their groups; there it stays.
      for (const key of path === '/api/sightings/name' ? ['name'] : ['name', 'notes', 'groups']) delete again[key];
      again.subject = answer.subject;
    }
    return post(path, again);
  }
}

export function outcome(result) {
  const { subject } = result;
  return h('div.notice', { class: result.refused?.length ? 'warn' : 'good' }, icon('check'), h('div', null,
    h('strong', null, result.created ? `${subject.name} is enrolled` : `${subject.name} has new samples`),
    h('p', null, `${format.count(result.templates, 'template was', 'templates were')} made; recognition uses ${result.templates === 1 ? 'it' : 'them'} from now on.`,
      result.duplicates > 0 && ` ${format.count(result.duplicates, 'picture was', 'pictures were')} there already.`),
    result.refused?.length > 0 && h('ul', null, result.refused.map(each => h('li', null, sentence(each.message)))),
    h('div.row', null, link('Open', `/faces/${subject.id}`, { icon: 'person', small: true }))));
}
