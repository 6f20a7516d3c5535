// What happened: a list that goes on into the past and grows at the top, and charts of the same.

import { get, may, query as asked, socket } from './api.js';
import { latency, visits } from './chart.js';
import { h, icon, put } from './dom.js';
import { isAbort } from './errors.js';
import { eventRow, showEvent } from './eventview.js';
import * as format from './format.js';
import { subjectPicker } from './picker.js';
import { bones, empty, endless, failed, field, page, tabs } from './ui.js';

export const title = 'Events';

// Decisions are kept as they are made, and each visit once more when it ends; who came and went
// without a decision is only found among the latter.
const choices = { all: ['All', {}], identified: ['Recognised', { kind: 'identified' }], unknown: ['Unknown', { kind: 'unknown' }], undecided: ['Inconclusive', { verdict: 'undecided' }], ended: ['Visits', { kind: 'ended' }], ring: ['Rings', { kind: 'ring' }], granted: ['Let in', { kind: 'granted' }], denied: ['Kept out', { kind: 'denied' }], alarm: ['Alarms', { kind: 'alarm' }] };

export function show({ signal, query, go }) {
  const t = tabs('How to look at events', [{ id: 'list', text: 'List', icon: 'events', show: leave => list(leave, query) }, { id: 'charts', text: 'Charts', icon: 'jobs', show: charts }], query.get('view'));
  signal.addEventListener('abort', t.end);
  if (query.get('event')) get(`/api/events/${encodeURIComponent(query.get('event'))}`, { signal }).then(event => showEvent(event), () => go('/events', { replace: true }));
  return page('Events', { lede: 'Who came by, what was decided, and why.', actions: t.list }, t.panel);
}

function list(signal, query) {
  const filter = { show: query.get('show') in choices ? query.get('show') : 'all', subject: query.get('subject'), from: null, to: null };
  const from = h('input', { type: 'date' }), to = h('input', { type: 'date' });
  const picker = subjectPicker('Person', { signal, none: 'Anybody', changed: subject => { filter.subject = subject?.id ?? null; fill(); } });
  const holder = h('div'), exports = h('div.row');
  const chips = h('div.chips.slide', { role: 'group', 'aria-label': 'Which events' });
  let turn = null, newest = null, lastDay = null, first = null;

  const paint = () => {
    put(chips, Object.entries(choices).map(([key, [text]]) => h('button.chip', { type: 'button', 'aria-pressed': String(filter.show === key), onclick: () => { filter.show = key; paint(); fill(); chips.querySelector('[aria-pressed=true]').focus(); } }, text)));
  };
  const parameters = () => ({ ...choices[filter.show][1], subject: filter.subject, from: filter.from, to: filter.to });
  const matches = event => Object.entries(choices[filter.show][1]).every(([key, value]) => event[key] === value) && (!filter.subject || event.subject === filter.subject) && (!filter.to || event.captured_at < filter.to) && (!filter.from || event.captured_at >= filter.from);
  const heading = event => h('h2.day', { 'data-day': format.dayKey(event.captured_at) }, format.dayKey(event.captured_at) === format.dayKey(Date.now()) ? 'Today' : format.dayKey(event.captured_at) === format.dayKey(format.midnight(-1)) ? 'Yesterday' : format.day(event.captured_at));

  const fill = () => {
    turn?.abort();
    const mine = turn = new AbortController();
    signal.addEventListener('abort', () => mine.abort(), { once: true });
    history.replaceState(null, '', `/events${asked({ show: filter.show === 'all' ? null : filter.show, subject: filter.subject })}`);
    lastDay = null;
    newest = h('div.list', { 'aria-busy': 'true', style: { 'min-height': '480px' } }, Array.from({ length: 7 }, () => h('div', null, h('span.bone', { style: { width: '44px', height: '44px' } }), h('span.bone.grow', { style: { height: '20px', 'max-width': '300px' } }))));
    put(holder, h('section.card.flush', { 'aria-label': 'Events' }, newest));
    put(exports, may('operator') && ['csv', 'json'].map(kind => h('a.button.small', { href: `/api/events/export${asked({ format: kind, ...parameters() })}`, download: '' }, icon('down'), kind.toUpperCase())));
    first = endless(newest, async cursor => {
      const told = await get(`/api/events${asked({ ...parameters(), after: cursor, limit: 50 })}`, { signal: mine.signal });
      return { items: told.events, next: told.next };
    }, event => {
      const day = format.dayKey(event.captured_at), row = eventRow(event);
      if (day === lastDay) return [row];
      lastDay = day;
      return [heading(event), row];
    }, { signal: mine.signal, none: () => empty('events', 'Nothing found', 'No event matches; try another day or person.') });
  };
  from.addEventListener('change', () => { filter.from = from.value ? new Date(`${from.value}T00:00`).getTime() : null; fill(); });
  to.addEventListener('change', () => {
    if (to.value) { const d = new Date(`${to.value}T00:00`); d.setDate(d.getDate() + 1); filter.to = d.getTime(); } else filter.to = null;
    fill();
  });
  socket('/api/events/live', { signal, told: async data => {
    const told = JSON.parse(data);
    await first;
    // What was missed is read again rather than left out.
    if (told.missed) return scrollY < 400 ? fill() : undefined;
    if (!told.event || !matches(told.event)) return;
    if (!newest.isConnected) return fill();
    const day = format.dayKey(told.event.captured_at), row = eventRow(told.event);
    row.classList.add('fresh');
    if (newest.firstChild?.dataset?.day === day) newest.firstChild.after(row); else newest.prepend(heading(told.event), row);
  } });
  if (filter.subject) get(`/api/subjects/${filter.subject}`, { signal }).then(subject => { picker.value = subject; picker.input.value = subject.name; }, () => {});
  paint();
  fill();
  return h('div.stack', null, h('div.row.between', null, chips, exports),
    h('details', { open: Boolean(filter.subject) }, h('summary', null, 'Person and time'), h('div.grid', { style: { 'grid-template-columns': 'repeat(auto-fit, minmax(min(100%, 180px), 1fr))', gap: '12px', 'padding-top': '8px' } }, picker.el, field('From', from), field('Until', to))),
    holder);
}

const spans = [[1, '24 hours'], [7, '7 days'], [30, '30 days']];

function charts(signal) {
  const holder = h('div.stack', { style: { gap: 'var(--gap)' } });
  const chips = h('div.chips', { role: 'group', 'aria-label': 'Span' });
  const load = async days => {
    put(chips, spans.map(([n, text]) => h('button.chip', { type: 'button', 'aria-pressed': String(n === days), onclick: () => { load(n); chips.children[spans.findIndex(([m]) => m === n)].focus(); } }, text)));
    put(holder, bones(2, 300));
    try {
      const to = Date.now(), from = days === 1 ? to - 86_400_000 : format.midnight(1 - days);
      const told = await get(`/api/events/summary${asked({ from, to })}`, { signal });
      const sum = key => told.hours.reduce((n, hour) => n + (hour[key] ?? 0), 0), figure = (n, word) => h('div.figure', null, h('b', null, n), h('span', null, word));
      put(holder, h('section.card', null, h('h2', null, 'Visits'), h('div.figures', null, figure(format.number(sum('identified')), 'recognised'), figure(format.number(sum('unknown')), 'unknown'), figure(format.number(sum('undecided')), 'inconclusive'), sum('ring') > 0 && figure(format.number(sum('ring')), 'rings')), visits(told.hours, from, to)),
        h('section.card', null, h('h2', null, 'From capture to decision'), told.latency.count ? [h('div.figures', null, figure(format.ms(told.latency.median_ms), 'median'), figure(format.ms(told.latency.p95_ms), '95 of 100 within'), figure(format.ms(told.latency.p99_ms), '99 of 100 within'), figure(format.number(told.latency.count), 'decisions')), latency(told.latency)] : h('p.muted', null, 'No decisions in this span.')));
    } catch (error) {
      if (!isAbort(error)) put(holder, failed(error, () => load(days)));
    }
  };
  load(1);
  return h('div.stack', null, chips, holder);
}
