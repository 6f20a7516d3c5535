// Accepting an invitation. Its token stands behind the # of the address, which browsers keep to
// themselves: it reaches no server log.

import { adopt, post } from './api.js';
import { h } from './dom.js';
import { field, form, notice, page, password } from './ui.js';
import { unencrypted } from './sign-in.js';
import { passwordHint } from './setup.js';

export const title = 'Invitation';

export function show({ session, go }) {
  const token = decodeURIComponent(location.hash.slice(1));
  if (!token) {
    return page('Invitation', null, notice('warn', 'This address carries no invitation. Open the whole link as it was sent to you.'),
      h('p.small', null, h('a', { href: '/sign-in', 'data-link': '' }, 'To sign-in')));
  }
  const name = h('input', { required: true, autocomplete: 'username', autocapitalize: 'off', spellcheck: 'false', maxlength: 64, autofocus: true });
  const secret = password('Password', { autocomplete: 'new-password', minlength: 10 }, passwordHint);
  return page('You are invited', { lede: `Make your account on ${session.device_name}.` }, unencrypted(session),
    h('div.card', null, form(async () => {
      adopt(await post('/api/invitations/accept', { token, name: name.value.trim(), password: secret.input.value }));
      go('/', { replace: true });
    }, { text: 'Make my account' }, field('Name', name), secret)));
}
