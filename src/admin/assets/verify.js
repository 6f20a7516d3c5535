// Comparing: who is this, is it the person claimed, do two pictures show the same one.

import { post } from './api.js';
import { h, icon, put } from './dom.js';
import { sentence, words, isAbort } from './errors.js';
import * as format from './format.js';
import { subjectPicker } from './picker.js';
import { facePicker } from './pictures.js';
import { button, link, notice, page, pill, stateOf, tabs } from './ui.js';

export const title = 'Verify';

export function show({ signal, query }) {
  const t = tabs('What to compare', [
    { id: 'who', text: 'Who is this?', show: leave => ask(leave, 'Find out', [['probe', 'Picture']], ({ probe }) => post('/api/identify', probe.value), found) },
    { id: 'claim', text: 'Is it them?', show: leave => ask(leave, 'Compare', [['probe', 'Picture'], ['subject', 'Claimed person']], ({ probe, subject }) => post('/api/verify', { probe: probe.value, subject: subject.value.id }), compared) },
    { id: 'two', text: 'Two pictures', show: leave => ask(leave, 'Compare', [['probe', 'One picture'], ['reference', 'Another picture']], ({ probe, reference }) => post('/api/verify', { probe: probe.value, reference: reference.value }), compared) },
  ], query.get('mode'), id => history.replaceState(null, '', id === 'who' ? '/verify' : `/verify?mode=${id}`));
  signal.addEventListener('abort', t.end);
  return page('Verify', { lede: 'Nothing given here is kept.', actions: link('Compare live', '/live?camera=browser', { icon: 'live' }) }, t.list, t.panel);
}

function ask(signal, text, inputs, send, shown) {
  const result = h('div.stack', { 'aria-live': 'polite', tabindex: -1 }), made = {};
  const changed = () => { go.disabled = Object.values(made).some(input => !input.value); put(result); };
  const go = button(text, { kind: 'primary', icon: 'verify', disabled: true, onclick: async () => {
    try {
      put(result, shown(await send(made)));
      result.scrollIntoView({ block: 'nearest', behavior: 'smooth' });
    } catch (error) {
      if (!isAbort(error)) put(result, notice('bad', words(error)));
    }
  } });
  for (const [key, label] of inputs) {
    made[key] = key === 'subject' ? subjectPicker(label, { signal, changed: () => changed() }) : { value: null };
    if (key !== 'subject') made[key] = facePicker(label, { signal, changed: () => { if (Object.keys(made).length === inputs.length) changed(); } });
  }
  const cards = inputs.map(([key]) => h('div.card', null, key === 'subject' ? [h('h2', null, 'Claimed person'), made[key].el] : made[key].el));
  const end = h('div.stack', null, h('div.row', null, go), result);
  return cards.length === 1 ? h('div.grid', null, cards, end) : h('div.stack', null, h('div.grid', null, cards), end);
}

// The score on a line from 0 to 1, with the threshold it had to reach.
function line(score, threshold, tone, said = true) {
  const part = n => `${Math.min(Math.max(n, 0), 1) * 100}%`;
  return h('div.score-line', { class: tone, role: 'img', 'aria-label': `Comparison score ${format.score(score)}, threshold ${format.score(threshold)}` },
    h('i', { style: { width: part(score) } }), h('u', { 'data-label': said ? `threshold ${format.score(threshold)}` : '', style: { left: part(threshold) } }));
}

const limits = list => list?.length > 0 && h('div.stack.tight', null, h('h3', null, 'What limited it'), h('ul.stack.tight', null, list.map(limit => h('li.row', null, icon('warn', 'warn toned'), sentence(limit.message)))));

const answers = { match: 'The same person', no_match: 'Not the same person', inconclusive: 'It cannot be told' };

function compared(told) {
  const tone = stateOf(told.decision)[0];
  return h('section.card', { 'aria-label': 'Result' }, h('div.head', null, h('h2', null, answers[told.decision] ?? told.decision), pill(told.decision)),
    told.score != null && h('div', null, h('div.figure', null, h('b', null, format.score(told.score)), h('span', null, 'comparison score')), line(told.score, told.threshold, tone)), limits(told.limits));
}

function found(told) {
  const tone = stateOf(told.decision)[0], [best] = told.candidates;
  return h('section.card', { 'aria-label': 'Result' }, h('div.head', null, h('h2', null, told.decision === 'match' ? best?.name : told.decision === 'no_match' ? 'Nobody enrolled' : 'It cannot be told'), pill(told.decision)),
    told.decision === 'inconclusive' && told.lead != null && told.lead < told.margin && h('p', null, `The two best are too close: a lead of ${format.score(told.lead)}, ${format.score(told.margin)} is needed.`),
    told.candidates.length ? h('ol.stack', { 'aria-label': 'Candidates, best first' }, told.candidates.map((other, i) => h('li', null, h('div.row.between', null, h('a.cut', { href: `/faces/${other.subject}`, 'data-link': '', style: { 'font-weight': i ? 450 : 620 } }, other.name), h('span.num', null, format.score(other.score))),
      line(other.score, told.threshold, i ? 'calm' : tone, i === 0)))) : h('p.muted', null, 'There is nobody to compare with.'),
    told.lead != null && told.decision === 'match' && h('p.muted.small', null, `Lead over the next: ${format.score(told.lead)} (at least ${format.score(told.margin)} is needed).`), limits(told.limits));
}
