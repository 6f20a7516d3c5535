// Long work in the background. It goes on when this page is closed.

import { get, may, post } from './api.js';
import { h, put } from './dom.js';
import { isAbort } from './errors.js';
import { jobCard, renewTemplates } from './jobview.js';
import { bones, button, dialog, empty, failed, form, page, password } from './ui.js';

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
  return page('Jobs', { narrow: true, lede: 'Long work runs in the background; this page may be closed meanwhile.', actions: [
    may('owner') && button('Back up', { icon: 'down', onclick: () => backup(load) }),
    may('admin') && button('Renew templates', { onclick: async () => { if (await renewTemplates()) load(); } })] }, list);
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
