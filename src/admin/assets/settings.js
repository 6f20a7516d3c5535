// Every setting of the device, made from what it says about itself: kind, limits, default, where the
// value comes from, and when a change takes effect.

import { get, patch, post } from './api.js';
import { h, icon, put } from './dom.js';
import { isAbort, sentence, words } from './errors.js';
import * as format from './format.js';
import { bones, button, confirm, failed, field, link, notice, page, settled, toast } from './ui.js';

export const title = 'Settings';

const names = { mqtt: 'MQTT', http: 'Web server', litert: 'Runtime', home_assistant: 'Home Assistant', models: 'Networks', log: 'Log', state: 'Storage', sightings: 'Unknown faces', admin: 'Admin page' };
const plain = key => key.replaceAll('_', ' ').replace(/ (px|ms|s|hz|deg|us|days|count)$/, '').replace(/^./, c => c.toUpperCase()).replace(/\bId\b/i, 'ID').replace(/\btls\b/i, 'TLS').replace(/\bCa\b/, 'CA').replace(/\burl\b/i, 'URL');
const sectionName = name => names[name] ?? plain(name);

// What a threshold means for the people before the door.
const meaning = {
  'identification.threshold': ['Lower: strangers are more often taken for somebody enrolled.', 'Higher: people who are enrolled are more often turned away.', 'identification'],
  'identification.margin': ['Lower: people who look alike are more often confused.', 'Higher: they are more often not told apart, and nobody is named.', 'margin'],
  'enrolment.conflict_threshold': ['Lower: enrolment warns more often, also without need.', 'Higher: it may miss that somebody is enrolled already.', 'conflict'],
  'verification.threshold': ['Lower: a wrong claim is more often accepted.', 'Higher: a right claim is more often refused.', 'verification'],
};

// What a camera may or may not let itself be told.
const adjustable = ['camera.exposure_us', 'camera.gain', 'camera.backlight_compensation'];

export function show({ signal, query, block }) {
  const changes = new Map(), fields = new Map(), offers = new Map();
  let told = null, device = null, section = query.get('section'), leave = new AbortController();
  const search = h('input', { type: 'search', placeholder: 'Search settings', 'aria-label': 'Search settings', spellcheck: 'false', value: query.get('search') ?? '' });
  const chips = h('nav.chips.slide.rows', { 'aria-label': 'Sections' });
  const top = h('div.stack', { 'aria-live': 'polite' }), body = h('div.stack', null, bones(1, 520));
  const bar = h('div.save-bar', { role: 'region', 'aria-label': 'Changes', hidden: true });
  signal.addEventListener('abort', () => leave.abort());

  const load = async () => {
    try {
      [told, device] = await Promise.all([get('/api/settings', { signal }), get('/api/device', { signal })]);
      paint();
    } catch (error) {
      if (!isAbort(error)) put(body, failed(error, load));
    }
  };

  const paint = () => {
    leave.abort();
    leave = new AbortController();
    fields.clear();
    offers.clear();
    const wanted = search.value.trim().toLowerCase();
    if (!told.sections.some(({ name }) => name === section)) section = told.sections[0].name;
    history.replaceState(null, '', `/settings?${wanted ? `search=${encodeURIComponent(wanted)}` : `section=${section}`}`);
    put(chips, told.sections.map(({ name }) => h('button.chip', { type: 'button', 'aria-pressed': String(!wanted && name === section), onclick: () => { section = name; search.value = ''; paint(); chips.querySelector('[aria-pressed=true]')?.focus(); } }, sectionName(name))));
    put(top, told.restart_needed && notice('warn', 'Some changes take effect at the next start of the program.', { title: 'A restart is needed', action: button('Restart now', { small: true, onclick: restart }) }));
    if (wanted) {
      const found = told.sections.map(each => ({ ...each, settings: each.settings.filter(setting => `${setting.path} ${plain(setting.key)} ${setting.doc}`.toLowerCase().includes(wanted)) })).filter(each => each.settings.length);
      put(body, found.length ? found.map(each => card(each)) : notice('calm', 'No setting speaks of that.'));
    } else put(body, card(told.sections.find(({ name }) => name === section)), beside(section));
    dirty();
  };

  const card = ({ name, doc, settings }) => {
    const drawn = name === 'camera' ? settings.filter(setting => ['area', 'list'].includes(setting.kind)) : [];
    return h('section.card.flush', { 'aria-label': sectionName(name) },
      h('div.card-head', null, h('h2', null, sectionName(name)), h('p.muted.small', null, sentence(doc))),
      drawn.length > 0 && h('div.card-head', null, editor(drawn)),
      settings.filter(setting => !drawn.includes(setting)).map(row));
  };

  const editor = drawn => {
    const holder = h('div.bone', { style: { 'aspect-ratio': '4 / 3' } }), mine = leave.signal;
    const area = drawn.find(({ kind }) => kind === 'area'), list = drawn.find(({ kind }) => kind === 'list');
    const now = setting => setting && (changes.has(setting.path) ? changes.get(setting.path) : setting.value);
    const say = h('div');
    for (const setting of drawn) fields.set(setting.path, { say: text => put(say, text && notice('bad', text)) });
    import('./region.js').then(({ regionEditor }) => {
      if (mine.aborted) return;
      holder.replaceWith(regionEditor({ region: now(area) || null, masks: now(list) ?? [] }, {
        signal: mine, locked: { region: !area || area.locked, masks: !list || list.locked },
        changed: (kind, value) => change(kind === 'region' ? area : list, kind === 'region' ? value ?? '' : value),
      }));
    }, error => holder.replaceWith(failed(error)));
    return h('div.stack', null, holder, say);
  };

  const change = (setting, value) => {
    if (JSON.stringify(value) === JSON.stringify(setting.value)) changes.delete(setting.path); else changes.set(setting.path, value);
    fields.get(setting.path)?.say(null);
    dirty();
  };

  const row = setting => {
    const { input, el } = control(setting, changes.has(setting.path) ? changes.get(setting.path) : setting.value, value => change(setting, value));
    const facts = [setting.allowed && setting.kind !== 'switch' && sentence(setting.allowed.replace(/^"" or /, 'empty, or ')),
      setting.default != null && setting.default !== '' && !Array.isArray(setting.default) && JSON.stringify(setting.default) !== JSON.stringify(setting.value) && `Default: ${setting.default}.`,
      { restart: 'Takes effect at the next start.', file: 'Only a file of the device can change it.' }[setting.effect]].filter(Boolean);
    const holder = field(plain(setting.key) + (setting.unit && !setting.key.includes(setting.unit) || ['px', 'ms', 's', 'hz'].includes(setting.unit?.toLowerCase()) ? ` (${setting.unit})` : ''), el ?? input, { hint: facts.join(' ') || null });
    if (el) { holder.querySelector('label').htmlFor = input.id; }
    fields.set(setting.path, holder);
    const label = holder.querySelector('label');
    label.className = 'label';
    const reset = !setting.locked && byPage(setting) && button('Back to the default', { kind: 'quiet', small: true, 'aria-label': `${plain(setting.key)}: back to what the file or the default says`, onclick: () => { changes.set(setting.path, null); return save(); } });
    const words = meaning[setting.path], force = words && device.thresholds?.[words[2]];
    const offer = adjustable.includes(setting.path) && h('p.small.muted.offer', { style: { 'min-height': '1.4em' } });
    if (offer) offers.set(setting.path, offer);
    return h('div.setting', { id: `set-${setting.path}` },
      h('div.stack.tight', null, label, h('p.small.muted', null, documented(setting.doc)),
        words && h('ul.small.muted', null, h('li', null, words[0]), h('li', null, words[1]), force != null && h('li', null, h('b', null, `In force now: ${format.score(force)}`))),
        offer,
        setting.note && h('p.small.warn.toned', null, sentence(setting.note)),
        setting.locked && h('p.small.row', { style: { gap: '6px' } }, icon('lock'), setting.origin === 'default' ? 'Cannot be changed here.' : `Set by ${setting.origin}; cannot be changed here.`),
        !setting.locked && !byPage(setting) && setting.origin !== 'default' && h('p.small.muted', null, `Now from ${setting.origin}.`)),
      h('div.stack.tight', null, holder, reset && h('div', null, reset)));
  };

  const dirty = () => {
    const n = changes.size;
    block(n ? 'Changed settings are not saved yet. Leave anyway?' : null);
    bar.hidden = !n;
    if (!n) return;
    put(bar, h('span.grow', { role: 'status' }, format.count(n, 'change', 'changes')), button('Discard', { onclick: () => { changes.clear(); paint(); } }), button('Save', { kind: 'primary', onclick: save }));
  };
  const save = async () => {
    try {
      const sent = Object.fromEntries(changes);
      told = await patch('/api/settings', { changes: sent });
      device = await get('/api/device', { signal });
      changes.clear();
      toast('Saved');
      paint();
    } catch (error) {
      const problems = error.details?.problems ?? [];
      if (!problems.length) throw error;
      const first = problems.find(({ key }) => key);
      if (first && !fields.has(first.key)) { section = first.key.split('.')[0]; search.value = ''; paint(); }
      for (const { key, message } of problems) {
        if (fields.has(key)) fields.get(key).say(sentence(message)); else toast(sentence(message), 'bad');
      }
      if (first) document.getElementById(`set-${first.key}`)?.querySelector('input, select, textarea')?.focus();
      toast(`Not saved: ${format.count(problems.length, 'value', 'values')} cannot be taken`, 'bad');
    }
  };

  const restart = async () => {
    if (!await confirm('Restart the program?', 'Recognition pauses for a few seconds.', { action: 'Restart', danger: false, work: () => post('/api/restart').then(() => true) })) return;
    put(top, notice('calm', 'The program restarts. This page comes back by itself.', { title: 'Restarting' }));
    const started = Date.now();
    let gone = false;
    while (!signal.aborted && Date.now() - started < 90_000) {
      await new Promise(then => setTimeout(then, 1000));
      try { await get('/api/session', { signal }); if (gone || Date.now() - started > 8000) { toast('The program is back'); return load(); } } catch { gone = true; }
    }
    put(top, notice('bad', 'The device has not come back within a minute and a half. Look at its log.'));
  };

  // The cameras that are plugged in, to be chosen from.
  const cameras = () => {
    const list = h('div.list', null, h('div', null, h('div.bone.grow'))), mine = leave.signal;
    const source = told.sections.find(({ name }) => name === 'camera').settings.find(({ key }) => key === 'source');
    get('/api/cameras', { signal: mine }).then(({ cameras }) => { offered(cameras, source); put(list, cameras.length ? cameras.map(camera => h('div.wrap', null,
      h('span.grow', { style: { 'min-width': '180px' } }, h('b', null, camera.card ?? camera.path), h('span.line.muted.small', null, [camera.path, ...(camera.formats ?? []).map(format => `${format.fourcc}${format.sizes?.length ? ` up to ${largest(format.sizes)}` : ''}`)].join(', ')), camera.problem && h('span.line.small.warn.toned', null, sentence(camera.problem))),
      source && !source.locked && button('Use it', { small: true, 'aria-label': `Use ${camera.card ?? camera.path}`, onclick: () => { change(source, camera.path); paint(); } }))) : h('div.muted', null, 'No camera is plugged in.')); }, error => { if (!isAbort(error)) put(list, h('div', null, failed(error))); });
    return h('section.card.flush', { 'aria-label': 'Cameras of this device' }, h('div.card-head', null, h('h2', null, 'Cameras of this device')), list);
  };

  // What the camera in use makes of exposure, gain and backlight, beside each of them.
  const offered = (cameras, source) => {
    const path = String(source?.value ?? 'auto').replace(/^v4l2:/, '');
    const camera = path === 'auto' ? cameras.find(each => !each.problem) : cameras.find(each => each.path === path);
    for (const [setting, el] of offers) {
      const control = camera?.controls?.find(each => each.setting === setting);
      el.textContent = !camera ? 'No camera that is plugged in is in use now.'
        : !control ? `${camera.card || camera.path} lacks this control: the setting has no effect.`
          : `${camera.card || camera.path} takes ${format.number(control.minimum)} to ${format.number(control.maximum)}${control.step > 1 ? ` in steps of ${format.number(control.step)}` : ''} and starts with ${format.number(control.default)}${control.value == null || control.value === control.default ? '' : `; now ${format.number(control.value)}`}.`;
    }
  };

  // What belongs to a section besides its values.
  const beside = name => {
    if (name === 'camera') return cameras();
    if (name !== 'mqtt') return null;
    const said = h('div', { 'aria-live': 'polite' });
    return h('section.card', null, h('h2', null, 'Test the connection'), h('p.muted.small', null, 'Connects to the broker with the values above, saved or not, and says what happened.'),
      h('div.row', null, button('Test now', { icon: 'verify', onclick: async () => {
        put(said);
        try {
          const answer = await post('/api/settings/test-broker', { changes: Object.fromEntries(changes) });
          put(said, notice(answer.ok ? 'good' : 'bad', sentence(answer.message)));
        } catch (error) { put(said, notice('bad', words(error))); }
      } })), said);
  };

  search.addEventListener('input', settled(() => told && paint(), 150));
  load();
  return page('Settings', { lede: 'Checked before they are taken, noted in the audit log.', actions: [link('Users', '/users', { icon: 'users', small: true }), link('Backup', '/jobs', { icon: 'down', small: true }), link('Health', '/about', { icon: 'about', small: true })] },
    top, h('div.search', null, icon('search'), search), chips, body, bar);
}

const largest = sizes => { const most = sizes.reduce((a, b) => b.width * b.height > a.width * a.height ? b : a); return `${most.width}×${most.height}`; };

// Whether the value was set here, and may be given back.
const byPage = setting => setting.origin === 'admin page';

// `code` in a description is shown as such.
const documented = text => text.split(/`([^`]+)`/).map((part, i) => i % 2 ? h('code', null, part) : part);

// The control for a setting. `el` where the control is more than its input.
function control(setting, value, changed) {
  const base = { disabled: Boolean(setting.locked) };
  switch (setting.kind) {
    case 'switch': {
      const input = h('input.switch', { type: 'checkbox', role: 'switch', checked: value === true, ...base, onchange: () => changed(input.checked) });
      return { input };
    }
    case 'choice': {
      const input = h('select', { ...base, onchange: () => changed(input.value) }, setting.choices.map(choice => h('option', { value: choice, selected: String(choice) === String(value) }, String(choice))));
      return { input };
    }
    case 'integer': case 'number': {
      const whole = setting.kind === 'integer';
      const input = h('input', { type: 'number', inputmode: whole ? 'numeric' : 'decimal', step: whole ? 1 : 'any', min: setting.minimum ?? null, max: setting.maximum ?? null, value: value ?? '', placeholder: setting.optional ? 'not set' : '', ...base,
        oninput: () => changed(input.value !== '' ? Number(input.value) : setting.value === null ? null : '') });
      return { input };
    }
    case 'secret': {
      const input = h('input', { type: 'password', autocomplete: 'new-password', placeholder: setting.set ? 'set; type to replace it' : 'not set', value: typeof value === 'string' ? value : '', ...base, oninput: () => changed(input.value || setting.value) });
      return { input };
    }
    case 'area': case 'list': {
      const input = h('textarea', { rows: 2, spellcheck: 'false', value: value == null || value === '' ? '' : JSON.stringify(value), ...base, onchange: () => {
        try { changed(input.value.trim() ? JSON.parse(input.value) : setting.kind === 'list' ? [] : ''); } catch { changed(input.value); }
      } });
      return { input };
    }
    default: {
      const input = h('input', { type: 'text', spellcheck: 'false', autocapitalize: 'off', autocomplete: 'off', value: value ?? '', placeholder: setting.optional ? 'not set' : '', ...base, oninput: () => changed(input.value === '' && setting.value === null ? null : input.value) });
      return { input };
    }
  }
}
