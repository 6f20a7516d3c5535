// Draws one frame and what was found in it, in one go on one canvas, so that a box can never lie over
// another frame than its own. Sharp on dense screens. A state is told by colour, symbol and word.

import { score } from './format.js';

const tones = { identified: '#62e3a4', unknown: '#ffc75f', undecided: '#cfd8e6' };
const states = { match: 'identified', no_match: 'unknown', inconclusive: 'undecided' };
const fonts = 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';

// The device camera says `state`, a comparison says `decision`, an unusable face `problem`.
export const stateOfFace = face => face.state ?? states[face.decision] ?? 'undecided';

// Name or word, and the line below it.
export function captions(face) {
  const state = stateOfFace(face), why = face.reason?.message ?? face.problem?.message;
  const head = face.name ? `${face.name}${face.score == null ? '' : `  ${score(face.score)}`}`
    : state === 'unknown' ? `Unknown${face.score == null ? '' : `  ${score(face.score)}`}` : why ? 'Not yet' : 'Looking…';
  const quality = face.quality?.score ?? face.quality;
  const parts = [];
  if (why && state !== 'identified') parts.push(why);
  if (typeof quality === 'number') parts.push(`quality ${score(quality)}`);
  return { state, head, detail: parts.join(' · ') };
}

// `image`: anything drawable, `width`×`height`: the frame whose pixels the boxes count.
// `cover` fills the canvas and cuts what stands out, as a preview does.
export function draw(canvas, image, width, height, faces = [], { cover } = {}) {
  const dense = Math.min(devicePixelRatio || 1, 2.5);
  const w = canvas.clientWidth, hgt = canvas.clientHeight;
  if (!w || !hgt) return;
  if (canvas.width !== Math.round(w * dense) || canvas.height !== Math.round(hgt * dense)) {
    canvas.width = Math.round(w * dense);
    canvas.height = Math.round(hgt * dense);
  }
  const c = canvas.getContext('2d', { alpha: false });
  c.setTransform(dense, 0, 0, dense, 0, 0);
  const scale = Math[cover ? 'max' : 'min'](w / width, hgt / height), left = (w - width * scale) / 2, top = (hgt - height * scale) / 2;
  c.fillStyle = '#0c0e0d';
  c.fillRect(0, 0, w, hgt);
  c.drawImage(image, left, top, width * scale, height * scale);
  const taken = [];
  for (const face of faces) outline(c, face, { scale, left, top, w, h: hgt, taken });
}

function outline(c, face, { scale, left, top, w, h, taken }) {
  const { state, head, detail } = captions(face), tone = tones[state];
  const x = left + face.bbox.x * scale, y = top + face.bbox.y * scale;
  const bw = face.bbox.width * scale, bh = face.bbox.height * scale, r = Math.min(12, bw / 5);
  c.lineJoin = c.lineCap = 'round';
  for (const [style, line] of [['#000a', 5], [tone, 2.5]]) {
    c.strokeStyle = style;
    c.lineWidth = line;
    // Who is not decided yet has a broken outline: readable without the colour.
    c.setLineDash(state === 'undecided' ? [7, 7] : []);
    c.beginPath();
    c.roundRect(x, y, bw, bh, r);
    c.stroke();
  }
  c.setLineDash([]);
  const font = size => `${size === 14 ? 600 : 450} ${size}px ${fonts}`;
  c.font = font(14);
  const most = w - 16, text = fit(c, head, most - 34), headWidth = c.measureText(text).width + 30;
  c.font = font(12);
  const small = detail && fit(c, detail, most - 16), width = Math.max(headWidth, small ? c.measureText(small).width : 0) + 14;
  const height = small ? 44 : 27;
  const lx = Math.min(Math.max(x - 2, 4), Math.max(w - width - 4, 4));
  // Above the box, else below it, wherever no other label lies.
  const free = y => y >= 4 && y + height <= h - 4 && !taken.some(t => lx < t.x + t.width && t.x < lx + width && y < t.y + t.height && t.y < y + height);
  const ly = [y - height - 6, y + bh + 6, y + 4, h - height - 4].find(free) ?? Math.max(y - height - 6, 4);
  taken.push({ x: lx, y: ly, width, height });
  c.fillStyle = '#0c0e0de0';
  c.beginPath();
  c.roundRect(lx, ly, width, height, 9);
  c.fill();
  symbol(c, state, lx + 16, ly + 13.5, tone);
  c.textBaseline = 'middle';
  c.fillStyle = '#fff';
  c.font = font(14);
  c.fillText(text, lx + 30, ly + 14);
  if (small) {
    c.fillStyle = '#d5dbd8';
    c.font = font(12);
    c.fillText(small, lx + 8, ly + 33);
  }
}

function symbol(c, state, x, y, tone) {
  c.fillStyle = tone;
  c.beginPath();
  c.arc(x, y, 8, 0, 7);
  c.fill();
  c.strokeStyle = c.fillStyle = '#0c0e0d';
  c.lineWidth = 2;
  c.beginPath();
  if (state === 'identified') {
    c.moveTo(x - 3.5, y); c.lineTo(x - 1, y + 3); c.lineTo(x + 3.8, y - 3); c.stroke();
  } else if (state === 'unknown') {
    c.font = `700 12px ${fonts}`;
    c.textAlign = 'center';
    c.textBaseline = 'middle';
    c.fillText('?', x, y + 0.5);
    c.textAlign = 'left';
  } else {
    c.moveTo(x - 3.5, y); c.lineTo(x + 3.5, y); c.stroke();
  }
}

function fit(c, text, most) {
  if (c.measureText(text).width <= most) return text;
  let n = text.length;
  while (n > 1 && c.measureText(`${text.slice(0, n)}…`).width > most) n -= 1;
  return `${text.slice(0, n)}…`;
}
