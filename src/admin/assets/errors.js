// Every failure in words: what happened, and what to do about it. Not here: showing them (ui.js).

// A refusal of the device, or no answer from it at all.
export class Failure extends Error {
  constructor({ status = 0, code = 'failed', message, details = null, retryAfter = null }) {
    super(message);
    this.name = 'Failure';
    Object.assign(this, { status, code, details, retryAfter });
  }
}

// From an answer that is not a success. The device's own words win; proxies and cut connections
// leave only a status.
export function fromAnswer(status, body, retryHeader) {
  const error = body?.error;
  const retryAfter = error?.retry_after_s ?? (Number(retryHeader) || null);
  const message = error?.message ? sentence(error.message) : byStatus(status);
  return new Failure({ status, code: error?.code ?? `http_${status}`, message, details: error?.details ?? null, retryAfter });
}

export function unreachable() {
  return new Failure({
    code: 'offline',
    message: navigator.onLine === false
      ? 'This browser is offline. Connect it to the network of the device and try again.'
      : 'The device does not answer. It may be restarting, or the network between here and there is cut.',
  });
}

// A body that went out in part. A device that refuses one early may hang up before it is heard.
export function cut() {
  return new Failure({ code: 'cut', message: 'The connection was cut while sending; nothing of it is kept. The network between here and the device failed, or the device took no more of it. Try again.' });
}

function byStatus(status) {
  const known = {
    400: 'The device did not understand the request. Reload the page; it may have been updated meanwhile.',
    401: 'You are not signed in, or the session has ended.',
    403: 'Your role does not allow this.',
    404: 'It is not there, or no longer.',
    408: 'The request took too long. Check the connection and try again.',
    409: 'This contradicts what is stored. Reload the page and look again.',
    413: 'That is too large for the device.',
    415: 'The device does not take files of this kind.',
    422: 'The device could not use these values.',
    429: 'Too many attempts. Wait a little and try again.',
    500: 'Something went wrong in the device. Its log says what.',
    502: 'Something between here and the device does not pass the request on.',
    503: 'The device is busy right now. Try again in a moment.',
    507: 'The disk of the device is full.',
  };
  return known[status] ?? `The device answered with status ${status}.`;
}

// Device messages are phrases; on the page they stand alone.
export function sentence(text) {
  const t = String(text).trim();
  // A host name or path in front keeps its letters.
  return t ? (/^[a-z]+(?=[\s,;]|$)/.test(t) ? t[0].toUpperCase() + t.slice(1) : t) + (/[.!?…]$/.test(t) ? '' : '.') : t;
}

// Why a camera of this browser could not be used. Names by the Media Capture specification.
export function cameraWords(error) {
  if (!window.isSecureContext) {
    return 'Browsers only allow the camera over HTTPS or on localhost. Open this page with https:// and try again.';
  }
  if (!navigator.mediaDevices?.getUserMedia) return 'This browser offers no access to cameras.';
  const known = {
    NotAllowedError: 'The camera was not allowed. Allow it for this site in the address bar or in the settings of the browser, then try again.',
    SecurityError: 'The browser forbids the camera on this page.',
    NotFoundError: 'No camera was found on this computer or phone.',
    NotReadableError: 'The camera is in use by another program, or cannot be read. Close the other program and try again.',
    AbortError: 'The camera stopped while it was starting. Try again.',
    OverconstrainedError: 'This camera does not offer a usable picture size.',
    TypeError: 'This browser could not understand the request for a camera.',
  };
  return known[error?.name] ?? `The camera could not be started (${error?.name ?? 'unknown error'}).`;
}

// Anything thrown, in words.
export function words(error) {
  if (error instanceof Failure) {
    return error.retryAfter && error.status === 429 && !/\d ?s\b|second|minute/i.test(error.message)
      ? `${error.message} Try again in ${error.retryAfter} s.` : error.message;
  }
  if (error?.name === 'NotAllowedError' || error?.name === 'NotFoundError') return cameraWords(error);
  if (error instanceof TypeError && /import|module|fetch/i.test(error.message)) return unreachable().message;
  return error?.message ? sentence(error.message) : 'Something went wrong on this page. Reload it.';
}

// Asked for by leaving a page; nobody has to hear of it.
export const isAbort = error => error?.name === 'AbortError';
