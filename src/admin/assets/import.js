// Many people at once: a folder or ZIP of NAME/picture.jpg.

import { get, upload } from './api.js';
import { h, icon, put } from './dom.js';
import { isAbort, words } from './errors.js';
import * as format from './format.js';
import { jobCard } from './jobview.js';
import { button, failed, link, notice, page } from './ui.js';
import { zip } from './zip.js';

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
    else if (deep && path.length === 2 || within.length < 2) left.push({ path: path.join('/'), why: 'not in a folder with a name' });
    else entries.push({ path: within.join('/'), file });
  }
  const people = new Set(entries.map(({ path }) => path.split('/')[0]));
  return { entries, left, people, bytes: entries.reduce((n, { file }) => n + file.size, 0) };
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
  const start = said => put(stage, said, chooser());

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
      try {
        chosen((await Promise.all(entries.map(entry => walk(entry)))).flat());
      } catch {
        start(notice('bad', 'The folder could not be read. Choose it with the button instead.'));
      }
    });
    return el;
  };

  const chosen = files => {
    const sorted = sort(files), { entries, left, people, bytes } = sorted;
    if (!entries.length) return start(notice('warn', 'No picture was found in a folder with a name. It has to look like “Ada Lovelace/1.jpg”.', { title: 'Nothing to import' }));
    put(stage, h('div.card', null, h('h2', null, 'Ready to import'),
      h('div.figures', null, [[format.number(people.size), people.size === 1 ? 'person' : 'people'], [format.number(entries.length), entries.length === 1 ? 'picture' : 'pictures'], [format.bytes(bytes), 'to send']].map(([n, word]) => h('div.figure', null, h('b', null, n), h('span', null, word)))),
      h('p.muted.small', null, `${[...people].slice(0, 6).join(', ')}${people.size > 6 ? ` and ${people.size - 6} more` : ''}`),
      left.length > 0 && h('details', null, h('summary', null, `${format.count(left.length, 'file is', 'files are')} left out`), h('ul.small', null, left.slice(0, 200).map(({ path, why }) => h('li', null, `${path}: ${why}`)))),
      h('div.row', null, button('Import', { kind: 'primary', icon: 'check', onclick: () => pack(entries) }), button('Choose again', { onclick: () => start() }))));
  };
  const archived = file => put(stage, h('div.card', null, h('h2', null, 'Ready to import'), h('p', null, `${file.name}, ${format.bytes(file.size)}`), h('p.hint', null, 'The device looks into it; every file of it is told of in the report.'),
    h('div.row', null, button('Import', { kind: 'primary', icon: 'check', onclick: () => deliver(file) }), button('Choose again', { onclick: () => start() }))));

  const working = text => {
    const stop = new AbortController();
    signal.addEventListener('abort', () => stop.abort(), { once: true });
    const bar = h('progress', { max: 1, value: 0, 'aria-label': text }), line = h('p.muted.small.num');
    put(stage, h('div.card', null, h('h2', null, text), bar, line, h('div.row', null, button('Cancel', { onclick: () => { stop.abort(); block(null); start(); } }))));
    block('The pictures are not all sent yet. Leave anyway?');
    return { signal: stop.signal, tell: (part, words) => { bar.value = part; line.textContent = words; } };
  };
  const pack = async entries => {
    const work = working('Reading the pictures');
    try {
      await deliver(await zip(entries, { signal: work.signal, progress: (done, bytes) => work.tell(done / entries.length, `${format.number(done)} of ${format.number(entries.length)}, ${format.bytes(bytes)}`) }));
    } catch (error) {
      if (!isAbort(error)) { block(null); start(notice('bad', words(error))); }
    }
  };
  const deliver = async blob => {
    const work = working('Sending to the device');
    try {
      const job = await upload('/api/imports', blob, { type: 'application/zip', signal: work.signal, progress: (sent, all) => work.tell(sent / all, `${format.bytes(sent)} of ${format.bytes(all)}`) });
      block(null);
      start(notice('good', 'Everything is with the device. It goes on by itself; this page may be closed.'));
      running.prepend(jobCard(job, { signal }));
    } catch (error) {
      block(null);
      if (!isAbort(error)) start(notice('bad', words(error)));
    }
  };

  start();
  get('/api/jobs', { signal }).then(({ jobs }) => running.append(...jobs.filter(job => job.kind === 'import').slice(0, 3).map(job => jobCard(job, { signal }))), error => { if (!isAbort(error)) running.append(failed(error)); });
  return page('Import', { narrow: true, lede: 'Many people at once, from a folder with a folder for each of them.', actions: link('Enrol one person', '/enrol', { icon: 'enrol' }) }, stage,
    h('section.card', null, h('h2', null, 'How the folder has to look'), h('ul.small', null, ['Ada Lovelace/1.jpg', 'Ada Lovelace/2.jpg', 'Grace Hopper/portrait.png'].map(text => h('li', null, h('code', null, text)))),
      h('p.hint', null, 'The folder’s name becomes the person’s name; pictures of somebody enrolled by that name are added. One face in each picture. What cannot be used is told file by file, and a picture given twice is taken once.')), running);
}
