// Charts as SVG, drawn to the width they have, each with the same numbers as a table. Series differ by
// pattern as well as by colour.

import { freshId, h, put, svg } from './dom.js';
import * as format from './format.js';

const HOUR = 3_600_000;
export const series = [['identified', 'Recognised', 'var(--good)'], ['unknown', 'Unknown', 'var(--warn)'], ['undecided', 'Inconclusive', 'var(--edge)']];

// `draw(width)` gives the SVG; it is drawn again when the width changes.
function responsive(height, label, draw) {
  const el = h('div.chart', { role: 'img', 'aria-label': label, style: { height: `${height}px` } });
  let width = 0;
  const watch = new ResizeObserver(([entry]) => {
    const now = Math.round(entry.contentRect.width);
    if (now && now !== width) { width = now; put(el, draw(now)); }
    if (!el.isConnected) watch.disconnect();
  });
  watch.observe(el);
  return el;
}

function table(head, rows) {
  return h('details', null, h('summary', null, 'As a table'), h('div.scroll', { tabindex: 0 }, h('table', null,
    h('thead', null, h('tr', null, head.map(text => h('th', { scope: 'col' }, text)))),
    h('tbody', null, rows.map(row => h('tr', null, row.map((cell, i) => i ? h('td', null, cell) : h('th', { scope: 'row' }, cell))))))));
}

// A round number at or above n, for the top of an axis.
function ceiling(n) {
  if (n <= 4) return 4;
  const power = 10 ** Math.floor(Math.log10(n));
  return [1, 2, 3, 4, 5, 6, 8, 10].map(k => k * power).find(top => top >= n);
}

function frame(width, height, top, y) {
  const lines = [0, 0.5, 1].map(part => svg('g', null,
    svg('line', { x1: 34, x2: width, y1: y(top * part), y2: y(top * part) }),
    svg('text', { x: 28, y: y(top * part) + 4, 'text-anchor': 'end' }, format.number(top * part))));
  return svg('svg', { width, height, viewBox: `0 0 ${width} ${height}`, 'aria-hidden': 'true' }, lines);
}

function patterns(id) {
  return svg('defs', null,
    svg('pattern', { id: `${id}u`, width: 6, height: 6, patternUnits: 'userSpaceOnUse', patternTransform: 'rotate(45)' },
      svg('rect', { width: 6, height: 6, fill: 'var(--warn)', opacity: 0.45 }), svg('rect', { width: 3, height: 6, fill: 'var(--warn)' })),
    svg('pattern', { id: `${id}n`, width: 5, height: 5, patternUnits: 'userSpaceOnUse' },
      svg('rect', { width: 5, height: 5, fill: 'var(--edge)', opacity: 0.35 }), svg('circle', { cx: 2.5, cy: 2.5, r: 1.2, fill: 'var(--edge)' })));
}

// Visits by hour, or by day where the span is long, stacked by verdict.
export function visits(hours, from, to) {
  const byDay = to - from > 50 * HOUR, slots = new Map();
  const start = at => { const d = new Date(at); d.setMinutes(0, 0, 0); if (byDay) d.setHours(0); return d.getTime(); };
  for (let at = start(from); at < to && slots.size < 400;) {
    slots.set(at, { at, identified: 0, unknown: 0, undecided: 0 });
    const d = new Date(at);
    if (byDay) d.setDate(d.getDate() + 1); else d.setTime(at + HOUR);
    at = d.getTime();
  }
  for (const told of hours) {
    const slot = slots.get(start(told.at));
    if (slot) for (const [key] of series) slot[key] += told[key] ?? 0;
  }
  const all = [...slots.values()], sum = slot => series.reduce((n, [key]) => n + slot[key], 0);
  const name = slot => byDay ? format.shortDay(slot.at) : new Intl.DateTimeFormat(undefined, { hour: 'numeric' }).format(slot.at);
  const height = 190, id = freshId();
  const total = all.reduce((n, slot) => n + sum(slot), 0);
  const chart = responsive(height, `Visits by ${byDay ? 'day' : 'hour'}, ${format.count(total, 'visit', 'visits')} in all; the numbers are in the table below`, width => {
    const top = ceiling(Math.max(...all.map(sum), 1)), base = height - 22, y = n => base - n / top * (base - 10);
    const el = frame(width, height, top, y), step = (width - 38) / all.length, bar = Math.max(Math.min(step - Math.max(step * 0.28, 1.5), 34), 1);
    const every = Math.max(1, Math.ceil((byDay ? 62 : 46) / step));
    el.prepend(patterns(id));
    const fills = { identified: 'var(--good)', unknown: `url(#${id}u)`, undecided: `url(#${id}n)` };
    all.forEach((slot, i) => {
      const x = 38 + i * step + (step - bar) / 2;
      let n = 0;
      for (const [key, word] of series) {
        if (!slot[key]) continue;
        n += slot[key];
        el.append(svg('rect', { x, y: y(n), width: bar, height: Math.max(base - y(slot[key]) - 1, 1), rx: Math.min(3, bar / 3), fill: fills[key] },
          svg('title', null, `${name(slot)}: ${word} ${slot[key]}`)));
      }
      if (i % every === 0 && x + bar / 2 + 18 < width) el.append(svg('text', { x: x + bar / 2, y: height - 5, 'text-anchor': 'middle' }, byDay ? new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' }).format(slot.at) : name(slot)));
    });
    return el;
  });
  const key = h('div.legend', { 'aria-hidden': 'true' }, series.map(([kind, word]) => h('span', null,
    svg('svg', { width: 14, height: 14 }, svg('rect', { width: 14, height: 14, rx: 4, fill: { identified: 'var(--good)', unknown: `url(#${id}u)`, undecided: `url(#${id}n)` }[kind] })), word)));
  return h('div.stack.tight', null, chart, key, table([byDay ? 'Day' : 'Hour', ...series.map(([, word]) => word)],
    all.filter(sum).map(slot => [byDay ? name(slot) : format.moment(slot.at), ...series.map(([k]) => format.number(slot[k]))])));
}

// How long decisions took, as a histogram. `buckets`: [{up_to_ms, count}], the last may be open.
export function latency(told) {
  const buckets = told.buckets.slice();
  while (buckets.length > 4 && !buckets.at(-1).count) buckets.pop();
  const word = bucket => bucket.up_to_ms == null ? 'more' : `≤ ${format.number(bucket.up_to_ms)} ms`;
  const height = 150;
  const chart = responsive(height, `Time from capture to decision, median ${format.ms(told.median_ms)}; the numbers are in the table below`, width => {
    const top = ceiling(Math.max(...buckets.map(bucket => bucket.count), 1)), base = height - 22, y = n => base - n / top * (base - 10);
    const el = frame(width, height, top, y), step = (width - 38) / buckets.length, every = Math.max(1, Math.ceil(44 / step));
    buckets.forEach((bucket, i) => {
      const x = 38 + i * step;
      if (bucket.count) el.append(svg('rect', { x: x + 1.5, y: y(bucket.count), width: Math.max(step - 3, 1), height: base - y(bucket.count), rx: 3, fill: 'var(--accent)' }, svg('title', null, `${word(bucket)}: ${bucket.count}`)));
      if (i % every === 0) el.append(svg('text', { x: x + step / 2, y: height - 5, 'text-anchor': 'middle' }, bucket.up_to_ms == null ? '∞' : format.number(bucket.up_to_ms)));
    });
    return el;
  });
  return h('div.stack.tight', null, chart, table(['Time', 'Decisions'], buckets.map(bucket => [word(bucket), format.number(bucket.count)])));
}
