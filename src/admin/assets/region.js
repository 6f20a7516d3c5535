// Marking parts of the camera's picture: one region that faces are searched in, and any number of
// masks. Drawn with the pointer on the live picture, or by numbers with the keyboard; both show the
// same. A rectangle is [left, top, width, height] in parts of the picture, 0 to 1.

import { h, icon, put } from './dom.js';
import { deviceStream } from './stream.js';
import { button, field } from './ui.js';

const clamp = (n, low, high) => Math.min(Math.max(n, low), high);
const round = n => Math.round(n * 1000) / 1000;
// Smaller than this is a slip of the pointer.
const LEAST = 0.02;

// `regions`: {region: rect|null, masks: [rect]}; `changed(key, value)` hears of 'region' or 'masks'.
export function regionEditor(regions, { signal, changed, locked = {} }) {
  const state = { region: regions.region ?? null, masks: [...regions.masks ?? []] };
  const canvas = h('canvas.region', { role: 'img', 'aria-label': 'Camera of the device with the region and masks' });
  const over = h('div.over', { role: 'status' }, icon('camera', 'big'), h('p', null, 'Connecting to the camera…'));
  const stage = h('div.stack', null, h('div.stage', null, canvas, over));
  const fields = h('div.stack');
  let mode = 'masks', picture = null, draft = null, drag = null;

  const mark = (c, rect, w, hgt, colour, label, shade) => {
    const [x, y, rw, rh] = [rect[0] * w, rect[1] * hgt, rect[2] * w, rect[3] * hgt];
    if (shade) { c.fillStyle = shade; c.fillRect(x, y, rw, rh); }
    c.lineWidth = 3;
    c.strokeStyle = '#000a';
    c.strokeRect(x, y, rw, rh);
    c.lineWidth = 2;
    c.strokeStyle = colour;
    c.strokeRect(x, y, rw, rh);
    c.fillStyle = '#0c0e0de0';
    const wide = c.measureText(label).width + 12;
    c.fillRect(x, y, wide, 20);
    c.fillStyle = '#fff';
    c.fillText(label, x + 6, y + 14);
  };
  const paint = () => {
    const w = canvas.clientWidth, hgt = canvas.clientHeight, dense = devicePixelRatio || 1;
    if (!w) return;
    canvas.width = w * dense;
    canvas.height = hgt * dense;
    const c = canvas.getContext('2d');
    c.scale(dense, dense);
    c.font = '600 12px system-ui, sans-serif';
    if (picture) c.drawImage(picture, 0, 0, w, hgt);
    const region = drag?.kind === 'region' && draft ? draft : state.region;
    if (region) {
      c.fillStyle = '#0c0e0d99';
      c.beginPath();
      c.rect(0, 0, w, hgt);
      c.rect(region[0] * w, region[1] * hgt, region[2] * w, region[3] * hgt);
      c.fill('evenodd');
      mark(c, region, w, hgt, '#62e3a4', 'Region');
    }
    const masks = [...state.masks];
    if (drag?.kind === 'masks' && draft) masks[drag.at ?? masks.length] = draft;
    masks.forEach((mask, i) => mark(c, mask, w, hgt, '#ff9d92', `Mask ${i + 1}`, '#0c0e0dd0'));
  };

  const point = event => {
    const box = canvas.getBoundingClientRect();
    return [clamp((event.clientX - box.left) / box.width, 0, 1), clamp((event.clientY - box.top) / box.height, 0, 1)];
  };
  const inside = ([x, y], r) => r && x >= r[0] && x <= r[0] + r[2] && y >= r[1] && y <= r[1] + r[3];
  canvas.addEventListener('pointerdown', event => {
    if (event.button || locked[mode]) return;
    const at = point(event), hit = mode === 'masks' ? state.masks.findIndex(mask => inside(at, mask)) : inside(at, state.region) ? 0 : -1;
    const rect = hit < 0 ? null : mode === 'masks' ? state.masks[hit] : state.region;
    // The region usually covers most of the picture: it is drawn anew rather than moved.
    drag = { kind: mode, from: at, rect: mode === 'masks' ? rect : null, at: rect && mode === 'masks' ? hit : null };
    draft = drag.rect;
    canvas.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  canvas.addEventListener('pointermove', event => {
    if (!drag) return;
    const [x, y] = point(event), [fx, fy] = drag.from;
    draft = drag.rect ? [clamp(drag.rect[0] + x - fx, 0, 1 - drag.rect[2]), clamp(drag.rect[1] + y - fy, 0, 1 - drag.rect[3]), drag.rect[2], drag.rect[3]]
      : [Math.min(x, fx), Math.min(y, fy), Math.abs(x - fx), Math.abs(y - fy)];
    paint();
  });
  const end = () => {
    if (!drag) return;
    const { kind, at } = drag, rect = draft?.map(round);
    drag = draft = null;
    if (rect && rect[2] >= LEAST && rect[3] >= LEAST) {
      if (kind === 'region') state.region = rect; else state.masks[at ?? state.masks.length] = rect;
      tell(kind);
      list();
    }
    paint();
  };
  canvas.addEventListener('pointerup', end);
  canvas.addEventListener('pointercancel', () => { drag = draft = null; paint(); });

  const tell = kind => changed(kind, kind === 'region' ? state.region : [...state.masks]);

  // The same rectangles in percent.
  const numbers = (label, kind, rect, set, remove) => {
    const inputs = ['Left', 'Top', 'Width', 'Height'].map((word, i) => {
      const input = h('input', { type: 'number', min: 0, max: 100, step: 0.1, value: round(rect[i] * 100), disabled: Boolean(locked[kind]) });
      input.addEventListener('change', () => {
        const next = [...rect];
        next[i] = clamp(Number(input.value) / 100 || 0, i < 2 ? 0 : LEAST, 1);
        next[0] = Math.min(next[0], 1 - LEAST);
        next[1] = Math.min(next[1], 1 - LEAST);
        next[2] = Math.min(next[2], 1 - next[0]);
        next[3] = Math.min(next[3], 1 - next[1]);
        rect = next.map(round);
        set(rect);
        tell(kind);
        inputs.forEach((each, k) => { each.querySelector('input').value = round(rect[k] * 100); });
        paint();
      });
      return field(`${word} %`, input);
    });
    return h('fieldset', null, h('legend.label', null, label), h('div.numbers', null, inputs,
      h('button.icon-button', { type: 'button', 'aria-label': `Remove: ${label}`, disabled: Boolean(locked[kind]), onclick: () => { remove(); tell(kind); list(); paint(); mine.focus(); } }, icon('trash'))));
  };
  const list = () => put(fields,
    state.region && numbers('Region', 'region', state.region, rect => { state.region = rect; }, () => { state.region = null; }),
    state.masks.map((mask, i) => numbers(`Mask ${i + 1}`, 'masks', mask, rect => { state.masks[i] = rect; }, () => state.masks.splice(i, 1))));
  const mine = h('div.segments', { role: 'group', 'aria-label': 'What to draw', tabindex: -1 });
  const choose = kind => {
    mode = kind;
    put(mine, [['masks', 'Masks'], ['region', 'Region']].map(([value, text]) => h('button', { type: 'button', 'aria-pressed': String(value === kind), onclick: () => { choose(value); mine.querySelector('[aria-pressed=true]').focus(); } }, text)));
  };
  const add = button('Add by numbers', { small: true, onclick: () => {
    if (locked[mode]) return;
    if (mode === 'region') state.region = [0.1, 0.1, 0.8, 0.8]; else state.masks.push([0.4, 0.4, 0.2, 0.2]);
    tell(mode);
    list();
    paint();
    fields.lastChild.querySelector('input').focus();
  } });

  choose('masks');
  list();
  deviceStream('/api/live', {
    signal, least: 200,
    frame: async (told, bitmap) => {
      over.hidden = true;
      stage.firstChild.style.aspectRatio = `${told.width} / ${told.height}`;
      picture ??= document.createElement('canvas');
      picture.width = bitmap.width;
      picture.height = bitmap.height;
      picture.getContext('2d').drawImage(bitmap, 0, 0);
      paint();
    },
    state: (word, text) => { if (text) { over.hidden = false; put(over, icon('camera', 'big'), h('p', null, text)); } },
  });
  const watch = new ResizeObserver(paint);
  watch.observe(canvas);
  signal.addEventListener('abort', () => watch.disconnect());
  stage.append(h('div.row.between', null, mine, add),
    h('p.hint', null, 'Masks are blackened before anything else sees the picture. With a region, faces are searched only within it. Drag on the picture to draw; drag a mask to move it.'), fields);
  return stage;
}
