// Many people at once: a folder or ZIP of NAME/picture.jpg.

import { MOST_PICTURE_BYTES, get, upload } from './api.js';
import { h, icon, put } from './dom.js';
import { isAbort, words } from './errors.js';
import * as format from './format.js';
import { jobCard } from './jobview.js';
import { button, check, failed, link, notice, page } from './ui.js';
import { split, zip } from './zip.js';

export const title = 'Import';

const picture = /\.(jpe?g|png|webp)$/i;

// Paths NAME/file out of whatever was chosen. The folder above the names does not count; a folder
// that holds pictures itself is a name.
export function sort(files) {
  const entries = [], left = [];
  const parts = files.map(({ path, file }) => ({ path: path.split('/').filter(Boolean), file })).filter(({ path }) => !path.some(part => part.startsWith('.') || part === '__MACOSX'));
  const deep = parts.some(({ path }) => path.length > 2);
  for (const { path, file } of parts) {
    const within = deep && path.length > 2 ? path.slice(-2) : path;
    if (!picture.test(file.name)) left.push({ path: path.join('/'), why: 'not a JPEG, PNG or WebP picture' });
    else if (file.size > MOST_PICTURE_BYTES) left.push({ path: path.join('/'), why: `larger than ${format.bytes(MOST_PICTURE_BYTES)}, as no picture may be` });
    else if (deep && path.length === 2 || within.length < 2) left.push({ path: path.join('/'), why: 'not in a folder with a name' });
    else entries.push({ path: within.join('/'), file });
  }
  const people = new Set(entries.map(({ path }) => path.split('/')[0]));
  return { entries, left, people };
}

// What the device takes in one archive.
async function readLimits(signal) {
  const { archive_bytes: bytes, entries } = await get('/api/imports/limits', { signal });
  return { bytes, entries };
}

// A pause that a hidden page keeps too: parts go on while somebody looks at another tab.
const rest = (milliseconds, signal) => new Promise((resolve, reject) => {
  const timer = setTimeout(resolve, milliseconds);
  signal.addEventListener('abort', () => { clearTimeout(timer); reject(new DOMException('left', 'AbortError')); }, { once: true });
});

// Waits until a job has ended; a device out of reach for a while is asked again.
async function ended(job, { signal, told }) {
  for (;;) {
    await rest(1000, signal);
    try {
      const now = await get(`/api/jobs/${job.id}`, { signal });
      told(now);
      if (now.ended_at) return now;
    } catch (error) {
      if (isAbort(error) || ![0, 429, 502, 503].includes(error.status)) throw error;
    }
  }
}

// Files below dropped folders. Browsers hand out a folder's content in batches, the last one empty.
async function walk(entry, prefix = '') {
  if (entry.isFile) return [{ path: prefix + entry.name, file: await new Promise((done, no) => entry.file(done, no)) }];
  const reader = entry.createReader(), all = [];
  for (;;) {
    const some = await new Promise((done, no) => reader.readEntries(done, no));
    if (!some.length) return all;
    for (const each of some) all.push(...await walk(each, `${prefix}${entry.name}/`));
  }
}

export function show({ signal, block }) {
  const stage = h('div.stack', { 'aria-live': 'polite' }), running = h('div.stack');
  let limits = readLimits(signal);
  // A failure is told where they are needed, after another attempt.
  limits.catch(() => {});
  const bounds = () => limits = limits.catch(() => readLimits(signal));
  const start = said => put(stage, said, chooser());
  // A file dropped beside the zone would otherwise replace the page.
  for (const kind of ['dragover', 'drop']) document.addEventListener(kind, event => event.preventDefault(), { signal });

  const chooser = () => {
    const folder = h('input', { type: 'file', class: 'sr', tabindex: -1, 'aria-label': 'Choose a folder', multiple: true });
    folder.webkitdirectory = true;
    folder.addEventListener('change', () => chosen([...folder.files].map(file => ({ path: file.webkitRelativePath || file.name, file }))));
    const archive = h('input', { type: 'file', class: 'sr', tabindex: -1, accept: '.zip,application/zip', 'aria-label': 'Choose a ZIP file', onchange: () => archive.files[0] && archived(archive.files[0]) });
    const el = h('div.drop', null, icon('import'), h('p', null, 'Drop a folder or a ZIP file here, or'),
      h('div.row', { style: { 'justify-content': 'center' } }, button('Choose a folder', { icon: 'import', kind: 'primary', onclick: () => folder.click() }), button('Choose a ZIP file', { onclick: () => archive.click() })), folder, archive);
    el.addEventListener('dragover', event => { event.preventDefault(); el.classList.add('over'); });
    el.addEventListener('dragleave', () => el.classList.remove('over'));
    el.addEventListener('drop', async event => {
      event.preventDefault();
      el.classList.remove('over');
      const [file] = event.dataTransfer.files;
      if (event.dataTransfer.files.length === 1 && /\.zip$/i.test(file.name)) return archived(file);
      const entries = [...event.dataTransfer.items].map(item => item.webkitGetAsEntry?.()).filter(Boolean);
      let files;
      try {
        files = (await Promise.all(entries.map(entry => walk(entry)))).flat();
      } catch {
        return start(notice('bad', 'The folder could not be read. Choose it with the button instead.'));
      }
      await chosen(files);
    });
    return el;
  };

  const similar = () => check('Take also those who look like somebody enrolled already', { checked: true });
  const figure = (n, word) => h('div.figure', null, h('b', null, n), h('span', null, word));
  const again = () => button('Choose again', { onclick: () => start() });

  const chosen = async files => {
    const { entries, left, people } = sort(files);
    if (!entries.length) return start(notice('warn', 'No picture was found in a folder with a name. It has to look like “Ada Lovelace/1.jpg”.', { title: 'Nothing to import' }));
    let most;
    try { most = await bounds(); } catch (error) { return isAbort(error) || start(failed(error)); }
    const { parts, large } = split(entries, most), fit = parts.flat();
    const tooLarge = large.length > 0 && notice('warn', `${large.slice(0, 5).map(({ name, entries: all, bytes }) => `${name}: ${format.count(all.length, 'picture', 'pictures')}, ${format.bytes(bytes)}`).join('; ')}${large.length > 5 ? ` and ${large.length - 5} more` : ''}. One person may have at most ${format.number(most.entries)} pictures and ${format.bytes(most.bytes)}. Leave the best pictures in the folder; a few are enough.`, { title: large.length === 1 ? 'One person has too many pictures' : `${format.number(large.length)} people have too many pictures` });
    if (!fit.length) return start(tooLarge);
    const alike = similar(), number = people.size - large.length, names = [...people].filter(name => !large.some(person => person.name === name));
    put(stage, tooLarge, h('div.card', null, h('h2', null, 'Ready to import'),
      h('div.figures', null, figure(format.number(number), number === 1 ? 'person' : 'people'), figure(format.number(fit.length), fit.length === 1 ? 'picture' : 'pictures'), figure(format.bytes(fit.reduce((n, { file }) => n + file.size, 0)), 'to send')),
      h('p.muted.small', null, `${names.slice(0, 6).join(', ')}${names.length > 6 ? ` and ${names.length - 6} more` : ''}`),
      parts.length > 1 && h('p.small', null, `The device takes at most ${format.bytes(most.bytes)} and ${format.number(most.entries)} pictures at once, so this goes in ${format.number(parts.length)} parts, one after the other. Nobody is divided between two. Leave this page open until the last one is sent.`),
      left.length > 0 && h('details', null, h('summary', null, `${format.count(left.length, 'file is', 'files are')} left out`), h('ul.small', null, left.slice(0, 200).map(({ path, why }) => h('li', null, `${path}: ${why}`)))),
      alike, h('div.row', null, button('Import', { kind: 'primary', icon: 'check', onclick: () => { send(parts.map(part => ({ part })), alike.input.checked); } }), again())));
  };
  const archived = async file => {
    let most;
    try { most = await bounds(); } catch (error) { return isAbort(error) || start(failed(error)); }
    if (file.size > most.bytes) return start(notice('bad', `${file.name} has ${format.bytes(file.size)}; the device takes at most ${format.bytes(most.bytes)} at once. Unpack it and choose the folder, which is sent in parts.`));
    const alike = similar();
    put(stage, h('div.card', null, h('h2', null, 'Ready to import'), h('p', null, `${file.name}, ${format.bytes(file.size)}`), h('p.hint', null, 'The device looks into it; every file of it is told of in the report.'),
      alike, h('div.row', null, button('Import', { kind: 'primary', icon: 'check', onclick: () => { send([{ archive: file }], alike.input.checked); } }), again())));
  };

  // Sends archives one after the other, each as a job of its own; the next only when the one before is
  // done, so that the device never holds more than one. What was stored by then stays, whatever
  // becomes of the rest: every person is whole in one part.
  const send = async (archives, acceptSimilar) => {
    const stop = new AbortController(), { length } = archives, one = length === 1;
    const leave = () => stop.abort();
    signal.addEventListener('abort', leave, { once: true });
    const bar = h('progress', { max: length, value: 0, 'aria-label': 'Progress of the import' }), line = h('p.muted.small.num');
    put(stage, h('div.card', { 'aria-label': 'Sending' }, h('h2', null, 'Sending to the device'), bar, line,
      !one && h('p.hint', null, 'Each part has a card of its own below, where it can be paused and cancelled. Parts that are not sent yet wait for it.'),
      h('div.row', null, button(one ? 'Cancel' : 'Send no more', { onclick: leave }))));
    block('The pictures are not all sent yet. Leave anyway?');
    let at = 0;
    // Of a part: a tenth for reading, three for sending, the rest for the device's own work.
    const tell = (part, words) => { bar.value = at + part; line.textContent = one ? words : `Part ${at + 1} of ${length}: ${words}`; };
    const over = said => { block(null); signal.removeEventListener('abort', leave); start(said); };
    const sofar = () => at > 0 ? ` ${at === 1 ? 'The part before it is' : `The ${at} parts before it are`} enrolled; of the others nothing is stored. A folder may be given again: a picture given twice is taken once.` : '';
    try {
      for (; at < length; at += 1) {
        const { part, archive } = archives[at];
        const blob = archive ?? await zip(part, { signal: stop.signal, progress: (done, bytes) => tell(0.1 * done / part.length, `${format.number(done)} of ${format.number(part.length)} pictures read, ${format.bytes(bytes)}`) });
        const job = await upload(`/api/imports${acceptSimilar ? '' : '?accept_similar=false'}`, blob, { type: 'application/zip', signal: stop.signal, progress: (sent, all) => tell(0.1 + 0.3 * sent / all, `${format.bytes(sent)} of ${format.bytes(all)} sent`) });
        running.prepend(jobCard(job, { signal }));
        if (at === length - 1) break;
        const now = await ended(job, { signal: stop.signal, told: told => tell(0.4 + 0.6 * told.done / Math.max(told.total, 1), told.state === 'paused' ? 'paused; it goes on when you let it, below' : told.total ? `${format.number(told.done)} of ${format.number(told.total)} done` : 'about to begin') });
        if (now.state !== 'done') return over(notice(now.state === 'cancelled' ? 'warn' : 'bad', `Part ${at + 1} of ${length} ${now.state === 'cancelled' ? 'was cancelled' : 'failed'}, so the rest was not sent.${sofar()}`));
      }
      over(notice('good', 'Everything is with the device. It goes on by itself; this page may be closed.'));
    } catch (error) {
      if (signal.aborted) return;
      if (!isAbort(error)) {
        over(notice('bad', `${words(error)}${error.status === 413 && archives[at].archive ? ' Unpack it and choose the folder, which is sent in parts.' : ''}${one ? '' : ` That was part ${at + 1} of ${length}; nothing more was sent.${sofar()}`}`));
      } else over(!one && notice('warn', `Stopped at part ${at + 1} of ${length}. What the device has already, it goes on with; it can be cancelled below.`));
    }
  };

  start();
  get('/api/jobs', { signal }).then(({ jobs }) => running.append(...jobs.filter(job => job.kind === 'import').slice(0, 3).map(job => jobCard(job, { signal }))), error => { if (!isAbort(error)) running.append(failed(error)); });
  return page('Import', { narrow: true, lede: 'Many people at once, from a folder with a folder for each of them.', actions: link('Enrol one person', '/enrol', { icon: 'enrol' }) }, stage,
    h('section.card', null, h('h2', null, 'How the folder has to look'), h('ul.small', null, ['Ada Lovelace/1.jpg', 'Ada Lovelace/2.jpg', 'Grace Hopper/portrait.png'].map(text => h('li', null, h('code', null, text)))),
      h('p.hint', null, 'The folder’s name becomes the person’s name; pictures of somebody enrolled by that name are added. One face in each picture. What cannot be used is told file by file, and a picture given twice is taken once.')), running);
}
