// Watching: the camera of the device, or of this browser, each frame with what was found in it.

import { get, may } from './api.js';
import { Camera } from './camera.js';
import { h, icon, put } from './dom.js';
import { frames } from './frames.js';
import * as format from './format.js';
import { captions, draw } from './overlay.js';
import { subjectPicker } from './picker.js';
import { deviceStream } from './stream.js';
import { button, every, page, pill, tabs } from './ui.js';

export const title = 'Live';

export function show({ query, signal }) {
  const kinds = [{ id: 'device', text: 'Device camera', icon: 'camera', show: device }];
  if (may('operator')) kinds.push({ id: 'browser', text: 'This browser', icon: 'phone', show: browser });
  const t = tabs('Which camera', kinds, query.get('camera'), id => history.replaceState(null, '', id === 'device' ? '/live' : `/live?camera=${id}`));
  signal.addEventListener('abort', t.end);
  return page('Live', { lede: 'Each outline belongs to the very picture it is drawn on.', actions: kinds.length > 1 && t.list }, t.panel);
}

// The stage remembers the shape of the last picture, so that it does not jump when the next comes.
export function stage(label, kind) {
  const canvas = h('canvas', { role: 'img', 'aria-label': label });
  const over = h('div.over', { role: 'status' });
  const el = h('div.stage', null, canvas, over);
  const key = `limen.shape.${kind}`;
  let shape = null;
  try { shape = sessionStorage.getItem(key); } catch { /* only spares a jump */ }
  if (shape) el.style.aspectRatio = shape;
  return {
    el,
    say: (text, action) => { over.hidden = !text; if (text) put(over, icon('camera', 'big'), h('p', null, text), action); },
    frame: (image, width, height, faces) => {
      over.hidden = true;
      const now = `${width} / ${height}`;
      if (now !== shape) { shape = now; el.style.aspectRatio = now; try { sessionStorage.setItem(key, now); } catch { /* as above */ } }
      draw(canvas, image, width, height, faces);
    },
  };
}

// Who is in view, as text beside the picture. Told to screen readers when somebody comes, goes or
// becomes known; not at every frame.
function roster() {
  const list = h('ul.stack', { 'aria-live': 'polite', 'aria-label': 'Faces in view' }, h('li.muted', null, 'Nobody in view.'));
  let before = '', last = 0;
  return { list, tell(faces) {
    const now = faces.map(face => captions(face));
    const key = JSON.stringify(now.map(({ state, head }) => [state, head.replace(/[\d.,]+$/, '')]));
    if (key === before && performance.now() - last < 1000) return;
    before = key;
    last = performance.now();
    put(list, now.length ? faces.map((face, i) => h('li.stack.tight', null,
      h('div.row.between', null, face.subject && face.name ? h('a', { href: `/faces/${face.subject}`, 'data-link': '', style: { 'font-weight': 600 } }, face.name) : h('b', null, face.name ?? (now[i].state === 'unknown' ? 'Unknown' : 'Looking')), pill(now[i].state)),
      h('p.muted.small.num', null, [face.score == null ? null : `score ${format.score(face.score)}`, now[i].detail].filter(Boolean).join(' · ') || ' '))) : h('li.muted', null, 'Nobody in view.'));
  } };
}

function layout(view, people, ...side) {
  return h('div.wide-left', null, h('div.stack', null, view.el, side[0]),
    h('div.stack', null, h('section.card', null, h('h2', null, 'In view'), people.list), side.slice(1)));
}

function device(signal) {
  const view = stage('Camera of the device, live', 'device'), people = roster();
  const facts = h('p.muted.small.num', { style: { 'min-height': '1.5em' } });
  let paused = null;
  const start = () => {
    paused = new AbortController();
    signal.addEventListener('abort', () => paused.abort(), { once: true });
    view.say('Connecting to the camera…');
    let pace;
    deviceStream('/api/live', {
      signal: paused.signal,
      frame: (told, bitmap, p) => {
        pace = p;
        view.frame(bitmap, told.width, told.height, told.faces);
        people.tell(told.faces);
      },
      state: (word, text) => { if (text) { view.say(text); people.tell([]); } else if (word === 'hidden') view.say('Paused while this page is not in view.'); },
    });
    every(1000, paused.signal, () => { if (pace) facts.textContent = pace.text('from lens to screen'); });
  };
  const toggle = button('Pause', { icon: 'pause', onclick: () => {
    if (paused) { paused.abort(); paused = null; } else start();
    put(toggle, icon(paused ? 'pause' : 'play'), paused ? 'Pause' : 'Go on');
  } });
  start();
  return layout(view, people, h('div.row.between', { style: { 'flex-wrap': 'nowrap' } }, facts, toggle));
}

function browser(signal) {
  const view = stage('Camera of this browser, live', 'browser'), people = roster();
  const video = h('video', { 'aria-hidden': 'true', class: 'sr' });
  const choose = h('select', { 'aria-label': 'Camera', hidden: true, onchange: () => camera.start(choose.value) });
  const facts = h('p.muted.small.num', { style: { 'min-height': '1.5em' } });
  let line = null, pace = null, claimed = null;
  const start = () => button('Start the camera', { icon: 'camera', kind: 'primary', onclick: () => camera.start() });
  const camera = new Camera(video, { signal, state: async (word, text) => {
    if (word === 'asking') view.say('Waiting for the camera. The browser may ask whether to allow it.');
    else if (word === 'hidden') {
      disconnect();
      view.say('Paused while this page is not in view.');
    } else if (word === 'open') {
      view.say('Asking the device…');
      stop.hidden = false;
      connect();
      const all = await Camera.list();
      put(choose, all.map(({ id, label }) => h('option', { value: id, selected: id === camera.choice }, label)));
      choose.hidden = all.length < 2;
    } else { disconnect(); view.say(text, start()); stop.hidden = true; people.tell([]); }
  } });
  const disconnect = () => { line?.abort(); line = null; };
  const connect = () => {
    disconnect();
    line = new AbortController();
    signal.addEventListener('abort', disconnect, { once: true });
    frames(`/api/compare/stream${claimed ? `?subject=${claimed.id}` : ''}`, camera, {
      signal: line.signal,
      answer: (told, canvas, p) => {
        pace = p;
        view.frame(canvas, told.width, told.height, told.faces);
        people.tell(told.faces);
      },
      state: (word, text) => { if (text) view.say(text); },
    });
  };
  const stop = button('Stop', { icon: 'pause', hidden: true, onclick: () => { camera.stop(); disconnect(); stop.hidden = true; people.tell([]); view.say('The camera is off.', start()); } });
  every(1000, signal, () => { if (pace && camera.running) facts.textContent = pace.text('from camera to overlay'); });
  view.say('Pictures of this camera go to the device, are compared there and not kept.', start());
  const who = subjectPicker('Compare with one person only', { signal, none: 'Everybody', changed: subject => { claimed = subject; if (line) connect(); } });
  return layout(view, people, h('div.row.between', null, facts, h('div.row', null, choose, stop)), h('section.card', null, h('h2', null, 'Claimed identity'), who.el, video));
}
