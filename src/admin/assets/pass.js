// The code of a rotating pass, for the visitor who holds its link. Nobody is signed in here.

import { h, put } from './dom.js';
import { notice, page } from './ui.js';

export const title = 'Pass';

// Codes change every half minute and are taken for a little longer.
const EVERY = 10_000;

export function show({ signal }) {
  const link = location.hash.slice(1), holder = h('div.stack', { 'aria-live': 'polite' });
  let shown = null;
  const paint = async () => {
    try {
      const answer = await fetch(`/api/passes/${encodeURIComponent(link)}`, { signal, cache: 'no-store' });
      if (answer.status === 404) return put(holder, notice('bad', 'This pass is not valid, or no longer. Ask whoever gave it to you.'));
      if (!answer.ok) throw new Error();
      const url = URL.createObjectURL(await answer.blob());
      if (shown) URL.revokeObjectURL(shown);
      shown = url;
      put(holder, h('img', { src: url, alt: 'The code of your pass', style: { width: '100%', 'max-width': '420px', 'image-rendering': 'pixelated' } }),
        h('p.muted', null, 'Hold it towards the camera beside the door, at arm’s length. It changes every half minute.'));
    } catch (error) {
      if (!signal.aborted) put(holder, notice('warn', 'The device cannot be reached from here. Connect to its network.'));
    }
  };
  const timer = setInterval(paint, EVERY);
  signal.addEventListener('abort', () => { clearInterval(timer); if (shown) URL.revokeObjectURL(shown); }, { once: true });
  paint();
  return page('Your pass', { narrow: true }, holder);
}
