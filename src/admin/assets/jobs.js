// Long work in the background. It goes on when this page is closed.

import { get, may, post } from './api.js';
import { h, put } from './dom.js';
import { isAbort, sentence } from './errors.js';
import * as format from './format.js';
import { jobCard, renewTemplates } from './jobview.js';
import { bones, button, confirm, copy, dialog, empty, failed, form, notice, page, password, pill, toast, when } from './ui.js';

export const title = 'Jobs';

export function show({ signal }) {
  const list = h('div.stack', null, bones(3, 150));
  const load = async () => {
    try {
      const { jobs } = await get('/api/jobs', { signal });
      put(list, jobs.length ? jobs.map(job => jobCard(job, { signal })) : h('div.card', null, empty('jobs', 'Nothing is running', 'Imports, backups and new templates appear here while they run, and afterwards with their result.')));
    } catch (error) {
      if (!isAbort(error)) put(list, failed(error, load));
    }
  };
  load();
  const kept = may('admin') && h('section.card', { 'aria-label': 'Kept by itself' }, bones(1, 90));
  if (kept) scheduled(kept, load, signal);
  return page('Jobs', { narrow: true, lede: 'Long work runs in the background; this page may be closed meanwhile.', actions: [
    may('owner') && button('Back up', { icon: 'down', onclick: () => backup(load) }),
    may('admin') && button('Renew templates', { onclick: async () => { if (await renewTemplates()) load(); } }),
    may('owner') && button('Change the root key', { onclick: async () => { if (await changeKey()) load(); } })] }, kept, list);
}

// What the device backs up by itself, and how that went.
async function scheduled(card, changed, signal) {
  try {
    const { places, every_hours, keep, last, failed: wrong } = await get('/api/backups', { signal });
    const on = places.length > 0;
    put(card, h('div.head', null, h('h2', null, 'Backups of its own'), pill(on ? wrong ? 'degraded' : last ? 'working' : 'starting' : 'off')),
      h('div.stack.tight.small', null,
        on ? h('p', null, `Every ${every_hours === 24 ? 'day' : format.duration(every_hours * 3_600_000)} to ${places.join(' and ')}; the newest ${format.number(keep)} are kept. Each is opened and checked before it counts.`)
          : h('p.muted', null, 'None are made by themselves. ', h('code', null, 'backup.folder'), ' or ', h('code', null, 'backup.sftp'), ' in the configuration on the device says where they should go.'),
        wrong && notice('bad', sentence(wrong.message), { title: `The one of ${format.moment(wrong.at)} failed` }),
        last && h('p', null, 'Last one ', when(last.at), `: ${format.bytes(last.bytes)}, ${format.count(last.subjects, 'person', 'people')}, ${format.count(last.pictures, 'picture', 'pictures')}${last.pictures_missing ? `, ${format.number(last.pictures_missing)} missing` : ''}.`)),
      may('owner') && on && h('div.row', null,
        button('Back up now', { small: true, icon: 'down', onclick: async () => { await post('/api/jobs/backup-now'); changed(); } }),
        button('Recovery key', { small: true, onclick: recoveryKey })));
  } catch (error) {
    if (!isAbort(error)) put(card, failed(error, () => scheduled(card, changed, signal)));
  }
}

async function recoveryKey() {
  const { recovery_key: key, id } = await post('/api/backups/recovery-key');
  return dialog('Recovery key', close => h('div.stack', null,
    notice('warn', 'Write it down and keep it away from the device. Without it nobody can read the backups that the device makes by itself; whoever has it and a backup can read everything in it.'),
    h('div.card', { style: { background: 'var(--sunken)', padding: '14px' } }, h('code', null, key), h('div.row', null, copy(key))),
    h('p.muted.small', null, `Each of those backups names the id of its key: ${id}.`),
    h('div.row', null, button('Done', { kind: 'primary', onclick: () => close() }))));
}

function changeKey() {
  return confirm('Change the root key?', 'A new key is made, and everything that is kept is encrypted under it, while recognition goes on. Backups keep their own keys. Where the key is given to the device from outside, it is changed there.', { action: 'Change it', danger: false, work: async () => { await post('/api/jobs/rekey'); toast('Started'); return true; } });
}

function backup(done) {
  return dialog('Back up the device', close => {
    const secret = password('Passphrase', { autocomplete: 'new-password', minlength: 12 }, 'The backup is encrypted with it. Without the passphrase nobody can read it, not even you.');
    const again = password('The same again', { autocomplete: 'new-password' });
    return form(async () => {
      if (secret.input.value !== again.input.value) throw new Error('The two are not the same');
      await post('/api/jobs/backup', { passphrase: secret.input.value });
      close();
      done();
    }, { text: 'Start the backup' }, h('p', null, 'People, samples, templates and accounts in one file, to be restored on this or another device. Settings are not in it: they lie in settings.toml of the state folder.'), secret, again);
  });
}
