// The device about itself: health, version, the fingerprint to compare, and what it measures.

import { get } from './api.js';
import { h, put } from './dom.js';
import { isAbort } from './errors.js';
import { parts } from './dashboard.js';
import * as format from './format.js';
import { pairs } from './eventview.js';
import { bones, copy, every, failed, page, pill, when } from './ui.js';

export const title = 'About';

export function show({ signal }) {
  const body = h('div.stack', { style: { gap: 'var(--gap)' } }, bones(3, 220));
  const load = async ({ background } = {}) => {
    try { put(body, shown(await get('/api/device', { signal, background }))); } catch (error) { if (!isAbort(error) && !body.querySelector('.card')) put(body, failed(error, load)); }
  };
  load();
  every(10_000, signal, () => { if (!body.querySelector('details[open]')) load({ background: true }); });
  return page('About this device', {}, body);
}

const figure = (value, word) => h('div.figure', null, h('b', { style: { 'font-size': '1.35rem' } }, value), h('span', null, word));
const median = told => told?.median_ms ?? told?.p50_ms;

function shown(device) {
  const { health } = device, { camera, recognition, machine } = health, cpu = machine.cpu_s == null || !health.uptime_s ? null : machine.cpu_s / health.uptime_s;
  return [
    h('section.card', null, h('div.head', null, h('h2', null, device.name), pill(health.status)),
      h('ul.stack', null, Object.entries(health.parts).map(([name, part]) => h('li', null, h('div.row.between', null, parts[name] ?? name, h('span.row', null, part.since && h('span.muted.small', null, when(part.since)), pill(part.state))), part.reason && h('p.small.warn.toned', null, part.reason))))),
    h('section.card', null, h('h2', null, 'Measured'), h('div.figures', null,
      figure(camera.fps == null ? '–' : format.number(camera.fps, 1), 'frames a second'), recognition.latency && figure(format.ms(median(recognition.latency)), 'to a decision, median'), recognition.latency && figure(format.ms(recognition.latency.p99_ms), '99 of 100 within'),
      health.publish && figure(format.ms(median(health.publish)), 'to the broker'), cpu != null && figure(format.percent(cpu), 'of one core'), figure(format.bytes(machine.memory_bytes), 'memory'), machine.temperature_c != null && figure(`${format.number(machine.temperature_c)} °C`, 'hottest sensor')),
    machine.slowed_by.length > 0 && h('p.warn.toned.small', null, `The board runs slower than it could: ${machine.slowed_by.map(by => ({ heat: 'too hot', supply: 'weak power supply' })[by] ?? by).join(', ')}.`),
    h('p.muted.small.num', null, `${format.number(camera.delivered)} frames since the start, ${format.number(camera.overwritten)} passed over for a newer one, ${format.number(camera.discarded + camera.undecodable)} broken. ${format.number(recognition.looks)} looks, ${format.number(recognition.probes)} comparisons.`)),
    h('div.grid', null,
      h('section.card', null, h('h2', null, 'Gallery'), pairs([['People recognised', format.number(device.gallery.subjects)], ['Templates', format.number(device.gallery.templates)], ['People expired', device.gallery.expired ? format.number(device.gallery.expired) : null], ['Samples of another network', device.gallery.stale && format.number(device.gallery.stale.samples)]]),
        h('h3', null, 'Thresholds in force'), pairs([['Who is it', format.score(device.thresholds.identification)], ['Lead needed', format.score(device.thresholds.margin)], ['Is it them', format.score(device.thresholds.verification)], ['Warning at enrolment', format.score(device.thresholds.conflict)]])),
      h('section.card', null, h('h2', null, 'Program'), pairs([['Version', device.version], ['Running for', format.duration(health.uptime_s * 1000)], ['Camera', device.camera && facts(device.camera)]]),
        h('p.hint', null, 'This version opens no lock and does not update itself: it tells home automation who is there, and new versions are installed on the device.'),
        device.fingerprint && [h('h3', null, 'Fingerprint of the certificate'), h('code', null, device.fingerprint), h('p.hint', null, 'The browser shows the same under “certificate”. If it differs, somebody stands between.'), h('div.row', null, copy(device.fingerprint))],
        device.models && h('details', null, h('summary', null, 'Networks'), h('div.stack', null, Object.entries(device.models).map(([name, model]) => h('div', null, h('h3', null, name.replaceAll('_', ' ')), typeof model === 'object' && model ? pairs(Object.entries(model).map(([key, value]) => [key.replaceAll('_', ' '), typeof value === 'object' ? JSON.stringify(value) : String(value)])) : h('code', null, String(model)))))))),
  ];
}

const facts = camera => typeof camera === 'object' ? [camera.label, camera.size && `${camera.size.width}×${camera.size.height}`, camera.format, camera.rate_hz && `${format.number(camera.rate_hz, 0)} Hz`].filter(Boolean).join(', ') : String(camera);
