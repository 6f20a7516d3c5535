// Guided capture: shows the camera, says which way to turn, and collects the samples the device has
// kept. The device decides which frame is good enough; this shows what it says.

import { del } from './api.js';
import { Camera } from './camera.js';
import { h, icon, put, svg } from './dom.js';
import { sentence } from './errors.js';
import { frames } from './frames.js';
import { draw } from './overlay.js';
import { deviceStream } from './stream.js';
import { button, notice } from './ui.js';

const OVAL = 'M37.5 3a34 47 0 0 1 0 94 34 47 0 0 1 0-94';

// `changed(kept, done)` hears of the samples, [{picture, face, pose, score}].
export function guided(source, { signal, changed }) {
  const canvas = h('canvas', { role: 'img', 'aria-label': source === 'device' ? 'Camera of the device' : 'Camera of this browser', style: source === 'browser' ? { transform: 'scaleX(-1)' } : null });
  const over = h('div.over', { role: 'status' });
  const done = svg('path', { class: 'done', d: OVAL, pathLength: 100, 'stroke-dasharray': 100, 'stroke-dashoffset': 100 });
  const ring = svg('svg', { class: 'ring', viewBox: '0 0 75 100', 'aria-hidden': 'true' }, svg('path', { d: OVAL }), done);
  const hint = h('p.guide-hint', { 'aria-live': 'assertive', hidden: true });
  const el = h('div.stage', null, canvas, ring, over, hint);
  const kept = h('div.row', { style: { 'min-height': '64px' } });
  const said = h('div', { 'aria-live': 'polite' });
  const count = h('p.muted.small.num', { style: { 'min-height': '1.5em' } });
  const anew = h('div', { 'aria-live': 'polite' });
  let line = null, before = '', told = false, finished = false, last = 0, had = [];
  ring.style.display = 'none';

  const say = (text, action) => { over.hidden = !text; put(over, icon('camera', 'big'), h('p', null, text ?? ''), action); };
  const take = answer => {
    const { step } = answer;
    // A connection is a capture of its own: the device counts its frames from one.
    if (answer.frame <= last && had.length) {
      forget();
      put(anew, notice('calm', 'The connection to the device was interrupted, so the capture has started over.'));
    }
    last = answer.frame;
    over.hidden = true;
    ring.style.display = hint.style.display = '';
    done.setAttribute('stroke-dashoffset', 100 * (1 - step.taken / Math.max(step.needed, 1)));
    const words = step.want === 'done' ? 'Done. You can look away.' : sentence(step.hint);
    if (words !== before) {
      before = words;
      hint.hidden = false;
      // As in a mirror, which the device camera's picture is not.
      const side = source === 'browser' && /\b(left|right)\b/.exec(words)?.[1];
      put(hint, side && [icon(side), ' '], words);
    }
    count.textContent = `${step.taken} of ${step.needed} pictures taken`;
    const key = answer.kept.map(sample => `${sample.picture}/${sample.face}`).join();
    if (key !== kept.dataset.key) {
      kept.dataset.key = key;
      had = answer.kept;
      put(kept, answer.kept.map(sample => h('img.face', { src: `/api/pictures/${sample.picture}/faces/${sample.face}`, alt: `Taken: ${sample.pose}`, width: 64, height: 64, style: { width: '64px' } })));
      changed(answer.kept, step.want === 'done');
    }
    if (answer.looks_like?.length && !told) {
      told = true;
      put(said, notice('warn', `The device already knows ${answer.looks_like.map(other => other.name).join(', ')}, who looks like this. You will be asked before anything is stored.`));
    }
    if (step.want === 'done' && !finished) {
      finished = true;
      changed(answer.kept, true);
      stop();
      say('All pictures are taken.', button('Start over', { onclick: start }));
      hint.hidden = true;
      ring.style.display = 'none';
    }
  };

  const hangUp = () => { line?.abort(); line = null; };
  const stop = () => { hangUp(); camera?.stop(); };
  // What an earlier capture kept does not count any more; it would run out by itself, and this only
  // makes room sooner.
  const forget = () => {
    for (const { picture } of had) del(`/api/pictures/${picture}`).catch(() => {});
    had = [];
    told = false;
    put(said);
    put(kept);
    delete kept.dataset.key;
    changed([], false);
  };
  const start = () => {
    stop();
    forget();
    finished = false;
    last = 0;
    before = '';
    put(anew);
    if (camera) camera.start(); else watch();
  };
  const watch = () => {
    // Only ever one connection: a second one would be a second capture.
    hangUp();
    line = new AbortController();
    const path = `/api/enrol/guide?source=${source}`, state = (word, text) => { if (text && !finished) say(text); };
    if (source === 'device') {
      say('Connecting to the camera…');
      deviceStream(path, { signal: line.signal, state, frame: (answer, bitmap) => { draw(canvas, bitmap, answer.width, answer.height); take(answer); } });
    } else {
      frames(path, camera, { signal: line.signal, state, answer: (answer, frame) => { draw(canvas, frame, frame.width, frame.height); take(answer); } });
    }
  };
  const video = h('video.sr', { 'aria-hidden': 'true' });
  const camera = source === 'browser' ? new Camera(video, { signal, state: (word, text) => {
    if (word === 'asking') say('Waiting for the camera. The browser may ask whether to allow it.');
    else if (word === 'hidden') { hangUp(); say('Paused while this page is not in view.'); } else if (word === 'open') { say('Asking the device…'); watch(); } else if (!finished) { hangUp(); say(text, button('Try again', { onclick: start })); }
  } }) : null;
  signal.addEventListener('abort', stop);
  say(source === 'device' ? 'The person stands before the camera of the device and follows the hints on this screen.' : 'Hold the face inside the oval and follow the hints. It takes about ten seconds.',
    button('Start', { icon: 'camera', kind: 'primary', onclick: start }));
  return h('div.stack', null, el, video, h('div.row.between', null, count), kept, anew, said);
}
