// Pictures on their way to the device, and the faces it finds in them. Owned here: choosing, dropping
// and taking pictures, one card for each with what was found, and which face is meant. The device
// keeps them in memory for a quarter of an hour; what is enrolled of them is decided elsewhere.

import { MOST_PICTURE_BYTES, del, post } from './api.js';
import { Camera } from './camera.js';
import { h, icon, put } from './dom.js';
import { Failure, isAbort, sentence, words } from './errors.js';
import { grab } from './frames.js';
import * as format from './format.js';
import { button, dialog } from './ui.js';

const kinds = ['image/jpeg', 'image/png', 'image/webp'];
const extensions = /\.(jpe?g|png|webp)$/i;
export const accept = [...kinds, '.jpg', '.jpeg', '.png', '.webp'].join(',');

// Why a file is not even sent, or null. Its content is judged by the device.
function unfit(file) {
  if (!kinds.includes(file.type) && !extensions.test(file.name)) {
    return /hei[cf]/i.test(file.type + file.name) ? 'HEIC pictures cannot be read. Set the phone to “most compatible”, or send it as JPEG.' : 'Not a JPEG, PNG or WebP picture.';
  }
  if (file.size > MOST_PICTURE_BYTES) return `This file has ${format.bytes(file.size)}; a picture may have at most ${format.bytes(MOST_PICTURE_BYTES)}. Give a smaller copy of it.`;
  return file.size ? null : 'The file is empty.';
}

// Few at a time: the device examines one after the other, and memory there is small.
const LANES = 2;
let busy = 0;
const queue = [];
function lane(work) {
  return new Promise((resolve, reject) => {
    const run = async () => {
      busy += 1;
      try { resolve(await work()); } catch (error) { reject(error); } finally { busy -= 1; queue.shift()?.(); }
    };
    if (busy < LANES) run(); else queue.push(run);
  });
}

const pause = (seconds, signal) => new Promise((resolve, reject) => {
  const timer = setTimeout(resolve, seconds * 1000);
  signal.addEventListener('abort', () => { clearTimeout(timer); reject(new DOMException('left', 'AbortError')); }, { once: true });
});

async function send(blob, signal) {
  const type = kinds.includes(blob.type) ? blob.type : /png$/i.test(blob.name) ? 'image/png' : /webp$/i.test(blob.name) ? 'image/webp' : 'image/jpeg';
  for (let tries = 0; ; tries += 1) {
    try {
      return await post('/api/pictures', blob, { signal, type });
    } catch (error) {
      if (![429, 503].includes(error.status) || tries === 4) throw error;
      await pause(Math.min(error.retryAfter ?? 2, 20), signal);
    }
  }
}

// A place to drop pictures on, with every other way to give one beneath. `given(blobs)`;
// `device(promise)` hears of a picture the device takes itself.
export function dropZone({ signal, multiple, given, device, small }) {
  const file = h('input', { type: 'file', accept, multiple: Boolean(multiple), class: 'sr', tabindex: -1, 'aria-label': multiple ? 'Choose pictures' : 'Choose a picture' });
  const photo = h('input', { type: 'file', accept: 'image/*', class: 'sr', tabindex: -1, 'aria-label': 'Take a picture with the phone' });
  photo.setAttribute('capture', 'user');
  for (const input of [file, photo]) input.addEventListener('change', () => { if (input.files.length) given([...input.files]); input.value = ''; });
  const touch = matchMedia('(pointer: coarse)').matches;
  const el = h('div.drop', { style: small ? { padding: '18px 14px' } : null }, icon('picture'),
    h('p', null, touch ? (multiple ? 'Give one or more pictures of the face.' : 'Give a picture of the face.') : multiple ? 'Drop pictures here, paste them, or' : 'Drop a picture here, paste it, or'),
    h('div.row', { style: { 'justify-content': 'center' } },
      button(multiple ? 'Choose pictures' : 'Choose a picture', { icon: 'picture', kind: small ? '' : 'primary', small, onclick: () => file.click() }),
      touch ? button('Take a picture', { icon: 'phone', small, onclick: () => photo.click() })
        : button('This camera', { icon: 'phone', small, title: 'Take a picture with the camera of this browser', onclick: async () => { const blob = await snapshot(); if (blob) given([blob]); } }),
      button('Device camera', { icon: 'camera', small, title: 'Take a picture with the camera of the device', onclick: () => device(post('/api/pictures/camera', undefined, { signal })) })),
    h('p.hint', null, 'JPEG, PNG or WebP.'), file, photo);
  const over = on => event => { if ([...event.dataTransfer.types].includes('Files')) { event.preventDefault(); el.classList.toggle('over', on); } };
  el.addEventListener('dragenter', over(true));
  el.addEventListener('dragover', over(true));
  el.addEventListener('dragleave', over(false));
  el.addEventListener('drop', event => {
    over(false)(event);
    const files = [...event.dataTransfer.files];
    if (files.length) given(multiple ? files : files.slice(0, 1));
  });
  // A picture dropped beside the zone would otherwise replace the page.
  for (const kind of ['dragover', 'drop']) document.addEventListener(kind, event => event.preventDefault(), { signal });
  document.addEventListener('paste', event => {
    const files = [...event.clipboardData?.files ?? []];
    if (files.length && el.isConnected) given(multiple ? files : files.slice(0, 1));
  }, { signal });
  return el;
}

// Takes one picture with the camera of this browser; null when nobody pressed the button.
export function snapshot() {
  const leave = new AbortController();
  return dialog('Take a picture', close => {
    const video = h('video', { 'aria-label': 'Camera of this browser' }), over = h('div.over', { role: 'status' });
    const take = button('Take the picture', { icon: 'camera', kind: 'primary', disabled: true, onclick: async () => {
      const blob = await grab(video, document.createElement('canvas'), 1600);
      close(new File([blob], `camera-${format.clock(Date.now())}.jpg`, { type: 'image/jpeg' }));
    } });
    const camera = new Camera(video, { signal: leave.signal, state: (word, text) => {
      take.disabled = word !== 'open';
      over.hidden = word === 'open';
      put(over, h('p', null, text ?? 'Waiting for the camera…'), text && button('Try again', { onclick: () => camera.start() }));
    } });
    camera.start();
    return h('div.stack', null, h('div.stage', null, video, over), h('div.row', null, take));
  }).finally(() => leave.abort());
}

// A face by its box on the preview: a button, since with several the right one is chosen here.
function mark(picture, face, chosen, choose) {
  const part = (n, of) => `${n / of * 100}%`, { x, y, width, height } = face.bbox;
  const left = Math.max(x, 0), top = Math.max(y, 0);
  return h('button.mark-face', {
    type: 'button', 'aria-pressed': String(chosen), 'aria-label': `Face ${face.index + 1}: ${face.usable ? 'usable' : sentence(face.problem?.message ?? 'not usable')}`,
    style: { left: part(left, picture.width), top: part(top, picture.height), width: part(Math.min(x + width, picture.width) - left, picture.width), height: part(Math.min(y + height, picture.height) - top, picture.height), '--mark': face.usable ? (chosen ? '#62e3a4' : '#ffffff') : '#ffc75f' },
    onclick: () => choose(face),
  }, h('span', { 'aria-hidden': 'true' }, `${chosen ? '✓ ' : face.usable ? '' : '! '}${face.index + 1}`));
}

// One picture: on its way, refused with the reason, or with its faces. `value` is {picture, face} of
// the chosen usable face, else null. `changed()` hears when it, or the card, changes.
export class PictureCard {
  value = null;
  constructor(name, work, { signal, changed, removed, strict = true }) {
    Object.assign(this, { name, signal, changed, strict });
    this.say = h('div.stack.tight', { 'aria-live': 'polite' });
    this.view = h('div.picture.bone', { style: { 'aspect-ratio': '4 / 3' } });
    this.el = h('article.card.flush', { 'aria-label': name }, this.view,
      h('div', { style: { padding: '10px 12px 12px' } }, h('div.row', { style: { 'flex-wrap': 'nowrap' } }, h('span.grow.cut.small', { style: { 'font-weight': 560 } }, name),
        h('button.icon-button.small', { type: 'button', 'aria-label': `Remove ${name}`, onclick: () => { this.drop(); removed(this); } }, icon('close'))), this.say));
    put(this.say, h('p.hint', null, 'Looking for faces…'));
    this.ready = work.then(picture => this.examined(picture), error => this.refused(error));
  }

  refused(error) {
    if (isAbort(error)) return;
    this.view.classList.remove('bone');
    put(this.view, h('div.empty', { style: { padding: '16px' } }, icon('warn')));
    put(this.say, h('p.small.bad.toned', null, words(error)));
    this.changed(this);
  }

  examined(picture) {
    this.picture = picture;
    this.view.classList.remove('bone');
    this.view.style.aspectRatio = `${picture.width} / ${picture.height}`;
    const usable = picture.faces.filter(face => face.usable);
    this.choose(usable.length === 1 ? usable[0] : usable.length ? null : picture.faces[0] ?? null);
  }

  choose(face) {
    const { picture } = this;
    this.face = face;
    this.value = face && (face.usable || !this.strict) ? { picture: picture.id, face: face.index } : null;
    put(this.view, h('img', { src: `/api/pictures/${picture.id}/preview`, alt: '', width: picture.width, height: picture.height }), picture.faces.map(each => mark(picture, each, each === face, it => this.choose(it))));
    const faces = picture.faces.length, said = [];
    if (!face) said.push(h('p.small.warn.toned', null, `${faces} faces. Choose the right one.`));
    else if (face.problem) said.push(h('p.small.bad.toned', null, sentence(face.problem.message)));
    else said.push(h('p.small.good.toned', null, `${faces > 1 ? `Face ${face.index + 1} of ${faces}` : 'Face found'}, quality ${format.score(face.quality?.score)}`));
    if (face?.looks_like && this.strict) said.push(h('p.small.warn.toned', null, `Looks like ${face.looks_like.name} (${format.score(face.looks_like.score)})`));
    put(this.say, said);
    this.changed(this);
  }

  drop() {
    this.value = null;
    this.el.remove();
    // It would run out by itself; this only frees the memory sooner.
    if (this.picture) del(`/api/pictures/${this.picture.id}`).catch(() => {});
  }
}

// Cards for files and for pictures the device takes.
export function cardsFor(blobs, options) {
  return blobs.map(blob => {
    const wrong = unfit(blob);
    const work = wrong ? Promise.reject(new Failure({ message: wrong })) : lane(() => send(blob, options.signal));
    return new PictureCard(blob.name || 'Picture', work, options);
  });
}

// One picture with one face, to be replaced by another. `value` as above.
export function facePicker(label, { signal, changed }) {
  const holder = h('div.stack');
  const self = { value: null };
  const show = card => {
    put(holder, card.el);
    self.value = null;
    changed();
  };
  const again = () => { self.value = null; put(holder, zone()); changed(); };
  const options = { signal, strict: false, removed: again, changed: card => { self.value = card.value; changed(); } };
  const zone = () => dropZone({
    signal, small: true,
    given: ([blob]) => show(cardsFor([blob], options)[0]),
    device: promise => show(new PictureCard('Device camera', promise, options)),
  });
  again();
  self.el = h('section.stack', { 'aria-label': label }, h('h2', null, label), holder);
  return self;
}
