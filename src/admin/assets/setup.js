// The first start: whoever holds the one-time code becomes the owner.

import { adopt, post } from './api.js';
import { h } from './dom.js';
import { field, form, page, password } from './ui.js';
import { unencrypted } from './sign-in.js';

export const title = 'Set up';

export const passwordHint = 'At least 10 characters. A few words in a row are easy to remember and hard to guess.';

export function show({ session, go }) {
  const code = h('input', { required: true, autocomplete: 'one-time-code', autocapitalize: 'characters', spellcheck: 'false', maxlength: 64, autofocus: true });
  const name = h('input', { required: true, autocomplete: 'username', autocapitalize: 'off', spellcheck: 'false', maxlength: 64 });
  const secret = password('Password', { autocomplete: 'new-password', minlength: 10 }, passwordHint);
  return page('Welcome', { lede: 'This device has no owner yet. Make your account; it may do everything, and invite others.' },
    unencrypted(session),
    h('div.card', null, form(async () => {
      adopt(await post('/api/setup', { code: code.value.trim(), name: name.value.trim(), password: secret.input.value }));
      go('/', { replace: true });
    }, { text: 'Create the owner' },
    field('Setup code', code, { hint: 'Shown in the log of the device. It works once.' }),
    field('Your name', name), secret)));
}
