// Signing in.

import { adopt, post } from './api.js';
import { h } from './dom.js';
import { field, form, notice, page, password } from './ui.js';

export const title = 'Sign in';

// Over plain HTTP from another machine everybody on the way reads along.
export function unencrypted(session) {
  return session.encrypted || ['localhost', '127.0.0.1', '[::1]'].includes(location.hostname) ? null
    : notice('warn', 'This connection is not encrypted: whoever shares the network can read the password. Open the page with https://.');
}

// Where to go afterwards: only ever a path of this device.
export function next(query) {
  const path = query.get('next') ?? '/';
  return path.startsWith('/') && !path.startsWith('//') && !path.startsWith('/\\') ? path : '/';
}

export function show({ session, query, go }) {
  const name = h('input', { required: true, autocomplete: 'username', autocapitalize: 'off', spellcheck: 'false', maxlength: 64, autofocus: true });
  const secret = password('Password', { autocomplete: 'current-password' });
  return page('Sign in', { lede: session.device_name },
    unencrypted(session),
    h('div.card', null, form(async () => {
      try {
        adopt(await post('/api/sign-in', { name: name.value.trim(), password: secret.input.value }));
      } catch (error) {
        secret.input.value = '';
        secret.input.focus();
        throw error;
      }
      go(next(query), { replace: true });
    }, { text: 'Sign in' }, field('Name', name), secret)),
    h('p.muted.small', null, 'No account? ', h('a', { href: '/request-access', 'data-link': '' }, 'Ask for access'), ', or open an invitation link.'));
}
