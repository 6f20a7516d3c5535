// How an event is shown: as a row, and in full.

import { may, post } from './api.js';
import { h, icon } from './dom.js';
import { doorReasons, doorWays } from './doorwords.js';
import { sentence } from './errors.js';
import * as format from './format.js';
import { button, confirm, dialog, face, link, meter, pill, stateOf, toast, toneOf, when } from './ui.js';

// What an event says in one word. `ended` sums a visit up and carries its verdict.
export const verdictOf = event => event.kind === 'ended' ? (event.verdict ?? 'undecided') : event.kind;

export function headline(event) {
  const verdict = verdictOf(event);
  if (event.name) return event.name;
  return { identified: 'Somebody erased since', unknown: 'Unknown', undecided: 'Not recognised', ring: 'Doorbell', granted: 'Let in', denied: 'Kept out', alarm: 'Alarm' }[verdict] ?? sentence(event.kind).replace('.', '');
}

function line(event) {
  const parts = [];
  if (event.kind === 'ended') parts.push(`left after ${format.duration(event.seen_ms ?? 0)}`);
  if (event.reason && verdictOf(event) !== 'identified') parts.push(doorReasons[event.reason.code] ?? event.reason.message);
  else if (event.door?.way) parts.push(doorWays[event.door.way] ?? event.door.way);
  if (event.door?.dry_run) parts.push('dry run');
  else if (event.score != null) parts.push(`score ${format.score(event.score)}`);
  return parts.join(' · ');
}

export function eventRow(event, { opened = showEvent, compact } = {}) {
  const code = verdictOf(event), [kind, name, word] = stateOf(code), ended = event.kind === 'ended';
  return h('button.item', { type: 'button', onclick: () => opened(event) },
    h('span.badged', null, face(event.name, event.picture), h('span.badge', { class: kind }, icon(name), h('span.sr', null, `${word}: `))),
    h('span.grow', null, h('span.cut.line', { style: { 'font-weight': 570 } }, headline(event)), h('span.cut.line.muted.small', null, line(event) || word)),
    compact ? null : h('span.wide-only', null, ended ? pill('left') : null),
    h('time.muted.small.nowrap', { datetime: new Date(event.captured_at).toISOString(), title: format.exact(event.captured_at) }, (compact ? format.hour : format.clock)(event.captured_at)));
}

export function pairs(list) {
  return h('dl.pairs', null, list.filter(([, value]) => value != null && value !== '').flatMap(([name, value]) => [h('dt', null, name), h('dd', null, value)]));
}

// Remembers a face as not somebody, after saying what that means. Null: it was thought better of.
export function ruleOut(name, path, body) {
  return confirm(`Is it really not ${name}?`, [
    h('p', null, `The face is remembered as not ${name}: whoever looks more like it than like ${name} is not taken for ${name} any more.`),
    h('p', null, `If it is ${name} after all, ${name} may be turned away. It can be taken back on the page of ${name}.`),
  ], { action: `It is not ${name}`, work: async () => { await post(path, body); toast(`Not ${name}: remembered`); return true; } });
}

// Everything the device knows about one event.
export function showEvent(event) {
  return dialog(headline(event), close => h('div.stack', null,
    event.picture && h('div.picture', { style: { 'aspect-ratio': '1', 'max-height': '320px' } }, h('img', { src: event.picture, alt: `Face at this event${event.name ? `: ${event.name}` : ''}` })),
    h('div.row', null, pill(verdictOf(event)), event.kind === 'ended' && pill('left', 'End of the visit'), h('span.muted.small', null, when(event.captured_at))),
    event.reason && h('div.notice.calm', null, icon('about'), h('div', null, h('strong', null, 'Why'), sentence(doorReasons[event.reason.code] ?? event.reason.message))),
    pairs([
      ['Captured', format.exact(event.captured_at)],
      ['Decided after', event.latency_ms == null ? null : format.ms(event.latency_ms)],
      ['Comparison score', event.score == null ? null : format.score(event.score)],
      ['Lead over the next', event.margin == null ? null : format.score(event.margin)],
      ['Quality', event.quality == null ? null : h('span', null, format.score(event.quality), meter(event.quality, { tone: toneOf(event.quality), label: 'Quality' }))],
      ['Looks', event.looks == null ? null : format.number(event.looks)],
      ['Compared', event.probes == null ? null : format.count(event.probes, 'probe', 'probes')],
      ['By', event.door?.way && (doorWays[event.door.way] ?? event.door.way)],
      ['Rule', event.door?.rule],
      ['That rule changes', event.door?.until && format.exact(event.door.until)],
      ['PIN or pass', event.door?.credential && `number ${event.door.credential}`],
      ['Opened by', event.door?.by],
      ['Lock', event.door?.switched && ({ yes: 'switched', failed: 'could not be switched', no_relay: 'this device switches none', dry_run: 'not switched: dry run' }[event.door.switched])],
      ['In view', event.seen_ms == null ? null : format.duration(event.seen_ms)],
    ]),
    event.reasons?.length > 0 && h('div.stack.tight', null, h('h3', null, 'What was in the way'),
      h('table', null, h('thead', null, h('tr', null, h('th', { scope: 'col' }, 'Reason'), h('th', { scope: 'col' }, 'Looks'))),
        h('tbody', null, event.reasons.map(reason => h('tr', null, h('td', null, sentence(reason.message)), h('td', null, format.number(reason.looks))))))),
    h('div.row', null, event.subject && event.name && link('Open this person', `/faces/${event.subject}`, { icon: 'person', small: true }),
      event.kind === 'identified' && event.name && event.picture && may('operator') && button(`This is not ${event.name}`, { icon: 'close', small: true, onclick: async () => { if (await ruleOut(event.name, `/api/events/${event.id}/not`)) close(); } }),
      event.picture && h('a.button.small', { href: event.picture, download: `event-${event.id}.jpg` }, icon('down'), 'Picture')),
    h('p.hint', null, 'Event ', h('code', null, event.id))), { drawer: true });
}
