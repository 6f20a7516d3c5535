// Long work in the background. It goes on when this page is closed.

import { get, may, post } from './api.js';
import { h, put } from './dom.js';
import { isAbort } from './errors.js';
import { jobCard } from './jobview.js';
import { bones, button, confirm, dialog, empty, failed, form, page, password, toast } from './ui.js';

export const title = 'Jobs';

export function show({ signal }) {
  const list = h('div.stack', { 'aria-live': 'polite' }, bones(3, 150));
  const load = async () => {
    try {
      const { jobs } = await get('/api/jobs', { signal });
      put(list, jobs.length ? jobs.map(job => jobCard(job, { signal })) : h('div.card', null, empty('jobs', 'Nothing is running', 'Imports, backups and new templates appear here while they run, and afterwards with their result.')));
    } catch (error) {
      if (!isAbort(error)) put(list, failed(error, load));
    }
  };
  load();
  return page('Jobs', { narrow: true, lede: 'Long work runs in the background; this page may be closed meanwhile.', actions: [
    may('owner') && button('Back up', { icon: 'down', onclick: () => backup(load) }),
    may('admin') && button('Renew templates', { onclick: async () => {
      if (await confirm('Make all templates anew?', 'Needed after a change of the recognition network: templates of different networks cannot be compared. Pictures that were kept are used; recognition goes on meanwhile.', { action: 'Start', danger: false, work: () => post('/api/jobs/reembed').then(() => true) })) { toast('Started'); load(); }
    } })] }, list);
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
    }, { text: 'Start the backup' }, h('p', null, 'People, samples, templates, settings and accounts in one file, to be restored on this or another device.'), secret, again);
  });
}
