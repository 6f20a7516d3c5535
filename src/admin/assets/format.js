// Numbers and moments as this browser's owner writes them, in this browser's time zone.

const made = new Map();
function maker(kind, options) {
  const key = kind.name + JSON.stringify(options);
  if (!made.has(key)) made.set(key, new kind(undefined, options));
  return made.get(key);
}
const date = (at, options) => maker(Intl.DateTimeFormat, options).format(new Date(at));

export const clock = at => date(at, { hour: '2-digit', minute: '2-digit', second: '2-digit' });
export const hour = at => date(at, { hour: '2-digit', minute: '2-digit' });
export const day = at => date(at, { weekday: 'long', day: 'numeric', month: 'long', ...(sameYear(at) ? {} : { year: 'numeric' }) });
export const shortDay = at => date(at, { day: 'numeric', month: 'short', year: 'numeric' });
export const moment = at => date(at, { dateStyle: 'medium', timeStyle: 'short' });
export const exact = at => date(at, { dateStyle: 'full', timeStyle: 'long' });
const sameYear = at => new Date(at).getFullYear() === new Date().getFullYear();
export const dayKey = at => { const d = new Date(at); return `${d.getFullYear()}-${String(d.getMonth() + 1).padStart(2, '0')}-${String(d.getDate()).padStart(2, '0')}`; };

// Today's midnight, or another day's.
export function midnight(days = 0) {
  const d = new Date();
  d.setHours(0, 0, 0, 0);
  d.setDate(d.getDate() + days);
  return d.getTime();
}

// "3 minutes ago", "in 2 days".
export function ago(at) {
  const seconds = (at - Date.now()) / 1000;
  const steps = [[60, 'second', 1], [3600, 'minute', 60], [86400, 'hour', 3600], [2592000, 'day', 86400], [31536000, 'month', 2592000], [Infinity, 'year', 31536000]];
  const [, unit, size] = steps.find(([below]) => Math.abs(seconds) < below);
  return maker(Intl.RelativeTimeFormat, { numeric: 'auto' }).format(Math.round(seconds / size), unit);
}

export const number = (n, digits = 0) => n == null ? '–' : maker(Intl.NumberFormat, { maximumFractionDigits: digits, minimumFractionDigits: digits }).format(n);
export const score = n => n == null ? '–' : number(n, 2);
export const percent = n => n == null ? '–' : maker(Intl.NumberFormat, { style: 'percent', maximumFractionDigits: 0 }).format(n);
export const ms = n => n == null ? '–' : n < 10_000 ? `${number(n)} ms` : duration(n);

export function bytes(n) {
  if (n == null) return '–';
  const units = ['B', 'KB', 'MB', 'GB'];
  let i = 0;
  while (n >= 1000 && i < 3) { n /= 1000; i += 1; }
  return `${number(n, i && n < 10 ? 1 : 0)} ${units[i]}`;
}

export function duration(milliseconds) {
  const s = Math.round(milliseconds / 1000);
  if (s < 60) return `${milliseconds < 10_000 ? number(milliseconds / 1000, 1) : s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 172_800) return `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`;
  return `${Math.floor(s / 86_400)} days ${Math.floor(s % 86_400 / 3600)} h`;
}

// 1 person, 2 people.
export const count = (n, one, many) => `${number(n)} ${n === 1 ? one : many}`;
