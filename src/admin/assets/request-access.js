// Asking for an account that an administrator then approves.

import { post } from './api.js';
import { h, put } from './dom.js';
import { field, form, notice, page, password } from './ui.js';
import { unencrypted } from './sign-in.js';
import { passwordHint } from './setup.js';

export const title = 'Ask for access';

export function show({ session }) {
  const name = h('input', { required: true, autocomplete: 'username', autocapitalize: 'off', spellcheck: 'false', maxlength: 64, autofocus: true });
  const secret = password('Password', { autocomplete: 'new-password', minlength: 10 }, passwordHint);
  const message = h('textarea', { maxlength: 500, rows: 3 });
  const card = h('div.card', null, form(async () => {
    await post('/api/access-requests', { name: name.value.trim(), password: secret.input.value, message: message.value.trim() || undefined });
    put(card, notice('good', 'An administrator of this device has to approve it. After that you can sign in with this name and password.', { title: 'Your request is with the device' }));
  }, { text: 'Ask for access' }, field('Name', name), secret, field('Message (optional)', message, { hint: 'Who you are, so that the administrator recognises you.' })));
  return page('Ask for access', { lede: session.device_name }, unencrypted(session), card,
    h('p.muted.small', null, 'Approved already? ', h('a', { href: '/sign-in', 'data-link': '' }, 'Sign in')));
}
