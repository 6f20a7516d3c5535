// The camera of this browser. Owned here: asking for it, choosing one, and letting go of it: at the
// end of the page, while the page is hidden, and when another one is chosen.

import { cameraWords } from './errors.js';

// `state(word, text)` hears "asking", "open", "hidden", "ended" and "refused" with words.
export class Camera {
  #stream = null;
  #wanted = false;
  #turn = 0;

  constructor(video, { signal, state }) {
    Object.assign(this, { video, signal, state });
    video.muted = video.playsInline = true;
    signal.addEventListener('abort', () => this.stop());
    document.addEventListener('visibilitychange', () => {
      if (!this.#wanted) return;
      if (document.hidden) { this.#release(); state('hidden'); } else this.start(this.choice);
    }, { signal });
  }

  async start(choice = this.choice) {
    this.choice = choice;
    this.#wanted = true;
    this.#release();
    const mine = ++this.#turn;
    this.state('asking');
    try {
      if (!navigator.mediaDevices?.getUserMedia) throw new TypeError('no media devices');
      const stream = await navigator.mediaDevices.getUserMedia({
        audio: false,
        video: { width: { ideal: 1280 }, height: { ideal: 720 }, ...(choice ? { deviceId: { exact: choice } } : { facingMode: 'user' }) },
      });
      if (mine !== this.#turn || this.signal.aborted || document.hidden) {
        for (const track of stream.getTracks()) track.stop();
        return false;
      }
      this.#stream = stream;
      const [track] = stream.getVideoTracks();
      this.choice = track.getSettings().deviceId ?? choice;
      track.addEventListener('ended', () => {
        if (this.#stream === stream) { this.stop(); this.state('ended', 'The camera was unplugged, or taken by another program.'); }
      });
      this.video.srcObject = stream;
      await this.video.play();
      this.state('open');
      return true;
    } catch (error) {
      if (mine !== this.#turn || this.signal.aborted) return false;
      this.#release();
      this.#wanted = false;
      this.state('refused', cameraWords(error));
      return false;
    }
  }

  stop() {
    this.#wanted = false;
    this.#turn += 1;
    this.#release();
  }

  #release() {
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#stream = null;
    this.video.srcObject = null;
  }

  get running() { return this.#stream !== null && this.video.videoWidth > 0; }

  // Cameras to choose from; their names are known once one was allowed.
  static async list() {
    const all = await navigator.mediaDevices?.enumerateDevices?.() ?? [];
    return all.filter(device => device.kind === 'videoinput' && device.deviceId).map((device, i) => ({ id: device.deviceId, label: device.label || `Camera ${i + 1}` }));
  }
}
