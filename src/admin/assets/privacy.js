// What is kept of people and for how long, what was erased because its time was over, and the pages to be printed.

import { get } from './api.js';
import { h, put } from './dom.js';
import { isAbort } from './errors.js';
import * as format from './format.js';
import { bones, failed, notice, page, pill, when } from './ui.js';

export const title = 'Privacy';

const classes = {
  subjects: ['People', 'names, templates, consent'], pictures: ['Their pictures', 'faces given at enrolment'],
  events: ['Events', 'who came when'], event_pictures: ['Pictures with events', 'faces of whoever came'],
  unknown_faces: ['Unknown faces', 'to be named later'], audit: ['Audit log', 'who changed what'],
};

export function show({ signal }) {
  const body = h('div.stack', { style: { gap: 'var(--gap)' } }, bones(2, 220));
  const load = async () => {
    try { put(body, shown(await get('/api/privacy', { signal }))); } catch (error) { if (!isAbort(error)) put(body, failed(error, load)); }
  };
  load();
  return page('Privacy', { lede: 'What this device keeps of people, and what they are told.' }, body);
}

const print = (text, what, language) => h('a.button.small', { href: `/api/privacy/${what}?language=${language}`, target: '_blank', rel: 'noopener', 'aria-label': `${text}, ${what === 'notice' ? 'door notice' : 'data sheet'}` }, text);

function limit(kept) {
  if (!kept.on) return 'not kept';
  const age = kept.hours == null ? 'until erased' : kept.hours % 24 ? format.count(kept.hours, 'hour', 'hours') : format.count(kept.hours / 24, 'day', 'days');
  const from = ['subjects', 'pictures'].includes(kept.class) && kept.hours != null ? `${age} after they were last seen` : age;
  return kept.most == null ? from : `${from}, at most ${format.number(kept.most)}`;
}

function shown({ missing, kept }) {
  return [
    h('section.card', { 'aria-label': 'To be printed' }, h('h2', null, 'To be printed'),
      h('p.small', null, 'Both are made of the settings in force. Put the notice up where people read it before the camera sees them.'),
      missing.length > 0 && notice('warn', 'What is not set is left to be filled in by hand.', { title: `Not set: ${missing.join(', ')}` }),
      h('div.row', null, h('span.grow', null, 'Notice for the door'), print('English', 'notice', 'en'), print('Deutsch', 'notice', 'de')),
      h('div.row', null, h('span.grow', null, 'Data sheet'), print('English', 'sheet', 'en'), print('Deutsch', 'sheet', 'de'))),
    h('section.card', { 'aria-label': 'What is kept' }, h('h2', null, 'What is kept'),
      h('ul.stack', null, kept.map(each => {
        const [name, what] = classes[each.class] ?? [each.class, ''];
        return h('li', null,
          h('div.row.between', null, h('span', null, h('b', null, name), h('span.muted.small', null, ` ${what}`)), each.on ? h('span.num', null, format.number(each.count)) : pill('off', each.count ? `off, ${format.number(each.count)} left` : 'Off')),
          h('p.small.muted', null, limit(each), '. ',
            each.class === 'pictures' && each.on ? 'They go with their person.' : each.looked_at ? ['Looked ', when(each.looked_at), ', '] : 'Not looked at since the start, ',
            each.class === 'pictures' && each.on ? null : each.erased ? [`${format.number(each.erased)} erased since the start, last `, when(each.erased_at), '.'] : 'nothing erased since the start.'));
      }))),
  ];
}
