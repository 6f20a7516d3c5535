// One background job: how far it is, what may be done with it, and what came of it.

import { get, may, post, query as asked } from './api.js';
import { h, icon, put } from './dom.js';
import { isAbort, sentence, words } from './errors.js';
import * as format from './format.js';
import { button, confirm, dialog, empty, endless, pill, toast } from './ui.js';

export const kinds = { import: 'Import', reembed: 'Missing templates', backup: 'Backup', rekey: 'Change of the root key' };
// Who may start a kind may also hold and end it.
const least = { import: 'operator', reembed: 'admin', backup: 'owner', rekey: 'owner' };
const going = job => ['waiting', 'running', 'paused'].includes(job.state);

export function jobCard(first, { signal }) {
  const el = h('article.card', { 'aria-label': kinds[first.kind] ?? first.kind });
  let job = first, timer = 0, wait = 1000, painted = null;
  // The next look is moved up instead of a second one beside it.
  const act = (what, name, text, kind) => button(text, { icon: name, kind, small: true, onclick: async () => { job = (await post(`/api/jobs/${job.id}/${what}`)) ?? job; clearTimeout(timer); await look(); } });
  const bar = h('progress', { 'aria-label': 'Progress' }), far = h('p.muted.small.num');
  const state = h('span', { 'aria-live': 'polite' });
  const progress = () => {
    bar.max = job.total || 1;
    if (job.total) bar.value = job.done; else bar.removeAttribute('value');
    const left = job.state === 'running' && job.done > 3 && job.total ? (Date.now() - job.started_at) / job.done * (job.total - job.done) : null;
    far.textContent = [job.total ? `${format.number(job.done)} of ${format.number(job.total)}` : 'Starting', left > 2000 && `about ${format.duration(left)} left`, job.message && sentence(job.message)].filter(Boolean).join(' · ');
  };
  // Buttons stay as they are while the state does: whoever is at one of them stays there.
  const paint = () => {
    progress();
    if (painted === job.state && going(job)) return;
    painted = job.state;
    put(state, pill(job.state));
    put(el, h('div.head', null, h('h2', null, kinds[job.kind] ?? job.kind), state),
      going(job) ? h('div.stack.tight', null, bar, far) : h('div.stack.tight.small', null, result(job), job.message && h('p', null, sentence(job.message))),
      h('p.muted.small', null, `Started ${format.ago(job.started_at)}${job.by ? ` by ${job.by}` : ''}${job.ended_at ? `, took ${format.duration(job.ended_at - job.started_at)}` : ''}.`),
      h('div.row', null,
        may(least[job.kind]) && [job.state === 'running' && act('pause', 'pause', 'Pause'), job.state === 'paused' && act('resume', 'play', 'Go on', 'primary'), going(job) && act('cancel', 'close', 'Cancel', 'danger')],
        job.kind === 'import' && button('Report', { icon: 'jobs', small: true, onclick: () => report(job) }),
        job.download && job.state === 'done' && may('owner') && h('a.button.small.primary', { href: job.download, download: '' }, icon('down'), 'Download')));
  };
  const look = async () => {
    try {
      job = await get(`/api/jobs/${job.id}`, { signal, background: true });
      wait = 1000;
      el.querySelector('.wrong')?.remove();
      paint();
    } catch (error) {
      if (isAbort(error)) return;
      wait = Math.min(wait * 2, 15_000);
      el.querySelector('.wrong')?.remove();
      el.append(h('p.wrong.small.bad.toned', { role: 'status' }, `${words(error)} The job goes on; asking again.`));
    }
    clearTimeout(timer);
    if (going(job)) timer = setTimeout(() => document.hidden ? document.addEventListener('visibilitychange', look, { once: true, signal }) : look(), wait);
  };
  signal.addEventListener('abort', () => clearTimeout(timer));
  paint();
  if (going(job)) timer = setTimeout(look, 600);
  return el;
}

// Starts making the templates that are missing, after saying what that is. Null: not wanted.
export function renewTemplates() {
  return confirm('Make the missing templates?', 'Needed after a change of the recognition network: templates of different networks cannot be compared. Samples without a template of the present network get one, made of the picture that was kept; the old ones stay, and recognition goes on meanwhile.', { action: 'Start', danger: false, work: async () => { await post('/api/jobs/reembed'); toast('Started'); return true; } });
}

// What came of a job that has ended; each kind tells something else.
function result(job) {
  const { result: told, done, total } = job, people = (list, line) => list?.length > 0 && h('details', null, h('summary', null, `${format.count(list.length, 'person', 'people')} to look at`), h('ul', null, list.slice(0, 100).map(each => h('li', null, h('a', { href: `/faces/${each.subject}`, 'data-link': '' }, each.name), line(each)))));
  if (!told) return total > 1 && h('p', null, `${format.number(done)} of ${format.number(total)} done.`);
  switch (job.kind) {
    case 'import': return [h('p', null, [`${format.count(told.subjects_created, 'person', 'people')} new`, told.subjects_extended && `${format.number(told.subjects_extended)} with more samples`, format.count(told.templates, 'template', 'templates'), told.duplicates && format.count(told.duplicates, 'duplicate', 'duplicates'), told.refused && `${format.number(told.refused)} refused`].filter(Boolean).join(', ') + '.'),
      people(told.looks_like, each => ` looks like ${each.other_name} (${format.score(each.score)})`)];
    case 'reembed': return [h('p', null, `${format.count(told.templates, 'template', 'templates')} made${told.failed?.length ? `, ${format.number(told.failed.length)} failed` : ''}.`),
      people(told.without_picture, each => ` has ${format.count(each.samples, 'sample', 'samples')} without a picture; enrol anew`)];
    case 'backup': return h('p', null, told.places ? `${told.file}: ${format.bytes(told.bytes)}, opened and checked, in ${told.places.join(' and ')}.` : `${format.bytes(told.bytes)}. ${job.download ? 'To be fetched within a quarter of an hour.' : 'Fetched, or its time is over.'}`);
    default: return null;
  }
}

// What became of each file.
export function report(job) {
  const leave = new AbortController();
  return dialog('Report, file by file', () => {
    const list = h('div.list');
    endless(list, async cursor => {
      const told = await get(`/api/jobs/${job.id}/report${asked({ after: cursor, limit: 100 })}`, { signal: leave.signal });
      return { items: told.entries, next: told.next };
    }, entry => h('div', { style: { 'padding-inline': '4px' } }, h('span.grow', null, h('span.line.small', { style: { 'overflow-wrap': 'anywhere' } }, entry.path), entry.message && h('span.line.muted.small', null, sentence(entry.message))), pill(entry.outcome)),
    { signal: leave.signal, none: () => empty('jobs', 'Nothing yet', 'Files appear here as they are examined.') });
    return h('div.stack', null, list);
  }, { drawer: true }).finally(() => leave.abort());
}
