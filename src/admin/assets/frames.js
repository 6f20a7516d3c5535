// Frames of a video to the device and its answers back: camera, canvas, JPEG, WebSocket, answer,
// overlay, next frame. One on its way at a time; what the camera shows meanwhile is passed over, so
// the newest always wins. Each answer is handed on with the very frame it is about.

import { socket } from './api.js';
import { sentence } from './errors.js';
import { Pace } from './stream.js';

// An answer that does not come within this time is not waited for any longer.
const PATIENCE_MS = 8000;

// JPEG of what a video or canvas shows, its longest side at most `most` pixels; the canvas holds the
// same picture.
export async function grab(source, canvas, most) {
  const w = source.videoWidth ?? source.width, h = source.videoHeight ?? source.height;
  const scale = Math.min(1, most / Math.max(w, h));
  canvas.width = Math.round(w * scale);
  canvas.height = Math.round(h * scale);
  canvas.getContext('2d', { alpha: false }).drawImage(source, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise(done => canvas.toBlob(done, 'image/jpeg', 0.85));
  if (!blob) throw new Error('this browser could not make a picture of the camera');
  return blob;
}

// `answer(told, canvas, pace)` draws; `state(word, text)` as in stream.js. `most`: longest side.
export function frames(path, camera, { signal, answer, state, most = 640 }) {
  const pace = new Pace();
  const canvas = document.createElement('canvas');
  let flying = 0, timer = 0, turn = 0;
  const { video } = camera;
  const soon = then => video.requestVideoFrameCallback ? video.requestVideoFrameCallback(then) : requestAnimationFrame(then);
  const ask = async mine => {
    if (signal.aborted || mine !== turn || flying) return;
    if (!camera.running) { setTimeout(() => ask(mine), 100); return; }
    flying = performance.now();
    try {
      const blob = await grab(video, canvas, most);
      if (mine !== turn) return;
      line.send(blob);
      timer = setTimeout(() => line.again(), PATIENCE_MS);
    } catch (error) {
      flying = 0;
      state('refused', sentence(error.message));
    }
  };
  const line = socket(path, {
    signal,
    state: (word, failure) => {
      if (word !== 'open') { turn += 1; flying = 0; clearTimeout(timer); }
      state(word, failure?.message);
    },
    opened: () => { turn += 1; ask(turn); },
    told: data => {
      clearTimeout(timer);
      const told = JSON.parse(data), age = performance.now() - flying;
      flying = 0;
      if (told.error) {
        state('refused', sentence(told.error.message));
        setTimeout(ask, 1000 * (told.error.retry_after_s ?? 1), turn);
        return;
      }
      state('answered');
      answer(told, canvas, pace);
      pace.note(age);
      const mine = turn;
      soon(() => ask(mine));
    },
  });
  signal.addEventListener('abort', () => clearTimeout(timer));
  return line;
}
