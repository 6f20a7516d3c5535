// The camera of the device: newest frame with what was found in it, one on its way at a time. The
// next one is asked for when this one is drawn, so a slow browser gets fewer frames, never older ones.

import { socket } from './api.js';
import { sentence } from './errors.js';

// Frames drawn a second over the last two seconds, and the age of a frame when it was drawn.
export class Pace {
  #drawn = [];
  age = 0;
  note(age) {
    const now = performance.now();
    this.#drawn.push(now);
    while (this.#drawn[0] < now - 2000) this.#drawn.shift();
    this.age += (age - this.age) * (this.#drawn.length < 3 ? 1 : 0.1);
  }
  get rate() {
    const n = this.#drawn.length;
    return n < 2 ? 0 : (n - 1) * 1000 / (this.#drawn[n - 1] - this.#drawn[0]);
  }
  text(way) { return `${this.rate.toFixed(1)} frames a second, ${Math.round(this.age)} ms ${way}`; }
}

// One message: length of the JSON (u32, little endian), JSON, JPEG.
export function parse(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const told = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  return { told, jpeg: new Blob([new Uint8Array(buffer, 4 + length)], { type: 'image/jpeg' }) };
}

// `frame(told, bitmap, pace)` draws; `state(word, text)` hears "connecting", "open", "hidden",
// "waiting" and "refused" with the reason in words. `least`: milliseconds between frames at least.
export function deviceStream(path, { signal, frame, state, least = 0 }) {
  const pace = new Pace();
  let heard = 0;
  const next = () => { if (!signal.aborted) line.send('next'); };
  const line = socket(path, {
    signal,
    state: (word, failure) => state(word, failure?.message),
    // The first frame comes unasked; where it does not, it is asked for.
    opened: () => { const before = heard; setTimeout(() => { if (heard === before) next(); }, 1000); },
    told: async data => {
      const came = performance.now();
      heard += 1;
      if (typeof data === 'string') {
        const { error } = JSON.parse(data);
        // The device sends on by itself when the camera is back.
        if (error) state('refused', sentence(error.message));
        return;
      }
      try {
        const { told, jpeg } = parse(data);
        const bitmap = await createImageBitmap(jpeg);
        // Decoding takes a moment, in which the page may have been left or hidden.
        if (!signal.aborted && !document.hidden) {
          frame(told, bitmap, pace);
          pace.note((told.age_ms ?? 0) + performance.now() - came);
        }
        bitmap.close();
      } catch {
        state('refused', 'A frame arrived damaged.');
      }
      const rest = least - (performance.now() - came);
      if (rest > 0) setTimeout(next, rest); else next();
    },
  });
  return line;
}
