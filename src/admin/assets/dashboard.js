// The overview: is everything well, who is there, what was today.

import { get, may, query, socket } from './api.js';
import { visits } from './chart.js';
import { h, icon, put } from './dom.js';
import { isAbort } from './errors.js';
import { eventRow } from './eventview.js';
import * as format from './format.js';
import { renewTemplates } from './jobview.js';
import { draw } from './overlay.js';
import { deviceStream } from './stream.js';
import { bones, button, empty, every, failed, link, notice, page, pill, stateOf } from './ui.js';

export const title = 'Overview';

export const parts = { camera: 'Camera', recognition: 'Recognition', storage: 'Storage', broker: 'MQTT broker', http: 'Web server' };

export function show({ signal, go }) {
  const status = h('div', { 'aria-live': 'polite', style: { 'min-height': '74px' } }, bones(1, 74));
  const today = h('div.card', null, h('h2', null, 'Last 24 hours'), bones(1, 296));
  const latest = h('div.list', { 'aria-busy': 'true', style: { 'min-height': '360px' } }, h('div', null, h('div.bone.grow', { style: { height: '320px' } })));
  const preview = liveTile(signal);
  const health = h('div.card', null, h('h2', null, 'Device'), bones(1, 180));

  const load = async ({ background } = {}) => {
    try {
      const device = await get('/api/device', { signal, background });
      put(status, banner(device, go));
      put(health, h('div.head', null, h('h2', null, 'Device'), link('Details', '/about', { kind: 'quiet', small: true })), ...conditions(device));
    } catch (error) {
      if (!isAbort(error)) { put(status, failed(error, load)); put(health, h('h2', null, 'Device'), notice('calm', 'Nothing known right now.')); }
    }
  };
  const count = async ({ background } = {}) => {
    try {
      const to = Date.now(), from = to - 86_400_000;
      const told = await get(`/api/events/summary${query({ from, to })}`, { signal, background });
      const sum = key => told.hours.reduce((n, hour) => n + (hour[key] ?? 0), 0);
      put(today, h('div.head', null, h('h2', null, 'Last 24 hours'), told.latency?.count > 0 && h('span.muted.small.num', null, `decided in ${format.ms(told.latency.median_ms)} (median)`)),
        h('div.figures', null, figure(sum('identified'), 'identified', 'Recognised'), figure(sum('unknown'), 'unknown', 'Unknown'), figure(sum('undecided'), 'undecided', 'Inconclusive')),
        visits(told.hours, from, to));
    } catch (error) {
      if (!isAbort(error)) put(today, h('h2', null, 'Last 24 hours'), failed(error, count));
    }
  };
  const events = async () => {
    try {
      const told = await get('/api/events?limit=6', { signal });
      latest.removeAttribute('aria-busy');
      put(latest, told.events.length ? told.events.map(event => eventRow(event, { compact: true })) : empty('events', 'Nothing yet', 'Events appear here as people come by.'));
    } catch (error) {
      if (!isAbort(error)) put(latest, h('div', null, failed(error, events)));
    }
  };
  load();
  count();
  events();
  every(15_000, signal, () => load({ background: true }));
  every(120_000, signal, () => count({ background: true }));
  socket('/api/events/live', { signal, told: data => {
    const { event } = JSON.parse(data);
    if (!event) return;
    latest.querySelector('.empty')?.remove();
    latest.prepend(eventRow(event, { compact: true }));
    while (latest.children.length > 6) latest.lastChild.remove();
  } });

  return page('Overview', { actions: may('operator') && link('Enrol a person', '/enrol', { icon: 'plus', kind: 'primary' }) },
    status, h('div.wide-left', null,
      h('div.stack', { style: { gap: 'var(--gap)' } }, preview, today),
      h('div.stack', { style: { gap: 'var(--gap)' } },
        h('section.card.flush', { 'aria-label': 'Latest events' }, h('div.head.card-head', null, h('h2', null, 'Latest'), link('All events', '/events', { kind: 'quiet', small: true })), latest),
        health)));
}

const figure = (n, code, word) => h('div.figure', null, h('b', null, format.number(n)), h('span', null, icon(stateOf(code)[1], `toned ${stateOf(code)[0]}`), word));

function banner(device, go) {
  const degraded = Object.entries(device.health.parts).filter(([, part]) => part.state === 'degraded');
  if (device.health.status === 'dead') return notice('bad', 'A part of the program is stuck; it is about to restart by itself.', { title: 'Not working' });
  if (degraded.length) return notice('warn', h('ul', null, degraded.map(([name, part]) => h('li', null, h('b', null, `${parts[name] ?? name}: `), part.reason))), { title: 'Something needs a look' });
  const missing = waiting(device.gallery, go);
  if (missing) return missing;
  if (!device.gallery.subjects && device.gallery.expired) return notice('warn', [`The time of everybody enrolled is over (${format.count(device.gallery.expired, 'person', 'people')}), so nobody can be recognised. `, may('operator') && h('a', { href: '/faces', 'data-link': '' }, 'Look at people')], { title: 'Nobody is recognised' });
  if (!device.gallery.subjects) return notice('calm', may('operator') ? ['Nobody is enrolled yet, so nobody can be recognised. ', h('a', { href: '/enrol', 'data-link': '' }, 'Enrol the first person')] : 'Nobody is enrolled yet, so nobody can be recognised.', { title: 'Ready' });
  return notice('good', `${format.count(device.gallery.subjects, 'person', 'people')} enrolled, up ${format.duration(device.health.uptime_s * 1000)}`, { title: device.health.status === 'starting' ? 'Starting' : 'Everything works' });
}

// After a change of the recognition network: who is not recognised, or worse than before, until templates
// of the present one are made.
function waiting({ subjects, stale }, go) {
  if (!stale || (!stale.renewable && !stale.subjects)) return null;
  const people = format.count(stale.subjects, 'person', 'people');
  const what = stale.subjects ? `${subjects ? people : `All enrolled people (${format.number(stale.subjects)})`} cannot be recognised: their templates were made by another recognition network.`
    : `${format.count(stale.samples, 'sample has', 'samples have')} templates of another recognition network only.`;
  const kept = stale.renewable === stale.samples ? 'All pictures are kept, so new templates can be made of them.'
    : stale.renewable ? `Of ${format.number(stale.renewable)} of ${format.count(stale.samples, 'sample', 'samples')} the picture is kept, so that new templates can be made; the others have to be enrolled again.`
      : 'No picture of theirs is kept: they have to be enrolled again.';
  return notice('warn', [what, ' ', kept], { title: 'Templates of another network',
    action: stale.renewable ? may('admin') ? button('Renew templates', { small: true, onclick: async () => { if (await renewTemplates()) go('/jobs'); } }) : 'An admin can start that on the page Jobs.' : null });
}

function conditions({ health, gallery }) {
  return [h('ul.stack.tight', null, Object.entries(health.parts).map(([name, part]) => h('li.row.between', null, parts[name] ?? name, pill(part.state)))),
    h('div.figures', null,
      small(format.number(gallery.subjects), 'people'), small(health.camera.fps == null ? '–' : format.number(health.camera.fps, 1), 'frames a second'),
      small(health.recognition.latency ? format.ms(health.recognition.latency.median_ms ?? health.recognition.latency.p50_ms) : '–', 'to a decision'),
      health.machine.temperature_c != null && small(`${format.number(health.machine.temperature_c)} °C`, 'board'))];
}

const small = (value, word) => h('div.figure', null, h('b', { style: { 'font-size': '1.25rem' } }, value), h('span', null, word));

// A calm look at the camera: four frames a second are enough here.
function liveTile(signal) {
  const canvas = h('canvas', { role: 'img', 'aria-label': 'Camera of the device, live' });
  const over = h('div.over', null, icon('camera', 'big'), h('p', null, 'Connecting to the camera…'));
  const stage = h('div.stage', { style: { 'aspect-ratio': '16 / 9' } }, canvas, over, h('a', { href: '/live', 'data-link': '', 'aria-label': 'Open the live view' }));
  deviceStream('/api/live', {
    signal, least: 250,
    frame: (told, bitmap) => { over.hidden = true; draw(canvas, bitmap, told.width, told.height, told.faces, { cover: true }); },
    state: (word, text) => {
      if (!text) return;
      over.hidden = false;
      put(over, icon('camera', 'big'), h('p', null, text));
    },
  });
  return stage;
}
