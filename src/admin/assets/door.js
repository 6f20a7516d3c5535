// The door: how it is, opening it, who may enter when and with what, PINs and passes, and what would happen if.

import { del, get, may, post } from './api.js';
import { h, icon, put } from './dom.js';
import { doorReasons } from './doorwords.js';
import { pairs } from './eventview.js';
import * as format from './format.js';
import { subjectPicker } from './picker.js';
import { button, check, confirm, copy, dialog, empty, field, form, notice, page, part, pill, tabs, toast, when } from './ui.js';

export const title = 'Door';

const because = code => doorReasons[code] ?? code?.replaceAll('_', ' ');
const dayNames = { mon: 'Mon', tue: 'Tue', wed: 'Wed', thu: 'Thu', fri: 'Fri', sat: 'Sat', sun: 'Sun' };
const needsWords = { face: 'Face', face_and_pin: 'Face and PIN', face_and_pass: 'Face and pass', pin: 'PIN alone', pass: 'Pass alone' };

export function show({ signal, query }) {
  const parts = [{ id: 'state', text: 'State', show: state }, { id: 'policy', text: 'Policy', show: policy }];
  if (may('operator')) parts.push({ id: 'now', text: 'Who may enter', show: preview }, { id: 'passes', text: 'PINs and passes', show: passes }, { id: 'try', text: 'What if', show: simulate });
  const t = tabs('The door', parts, query.get('tab'), id => history.replaceState(null, '', id === 'state' ? '/door' : `/door?tab=${id}`));
  signal.addEventListener('abort', t.end);
  return page('Door', { lede: 'Who may enter, when and with what; decided on this device.' }, t.list, t.panel);
}

const card = (label, ...children) => h('section.card', { 'aria-label': label }, h('h2', null, label), children);

function state(signal) {
  return part(signal, s => get('/api/door', { signal: s, background: true }), (door, again) => {
    const locked = [door.faces_locked && 'faces', door.pins_locked && 'PINs', door.passes_locked && 'passes'].filter(Boolean);
    const policies = { none: ['off', 'None', 'the door opens for nobody'], in_force: door.dry_run ? ['paused', 'Dry run', 'it only says what it would do'] : ['working', 'In force', null], unusable: ['failed', 'Not usable', 'the door opens for nobody'] };
    const [code, text, means] = policies[door.policy];
    return [
      door.alarms.map(alarm => notice('bad', `Alarm: ${because(alarm)}.`)),
      door.policy === 'none' && notice('calm', 'Nobody has written a policy yet, so the door opens for nobody but the button inside and the button here.'),
      !door.clock_trusted && notice('warn', 'The clock has not been set since this machine started. Nothing opens by a schedule until it is.'),
      card(door.name, pairs([
        ['Lock', door.relay ? pill(door.unlocked ? 'running' : 'done', door.unlocked ? 'Open' : 'Locked') : 'This device switches none; whoever listens to its events does'],
        ['Door', door.open == null ? null : pill(door.open ? 'waiting' : 'done', door.open ? 'Open' : 'Closed')],
        ['Policy', [pill(code, text), means && h('span.muted', null, ` ${means}`)]],
        ['Face unlock', door.face_unlock ? pill('working', 'On') : pill('off', 'Off')],
        ['Locked after failures', locked.length ? pill('failed', locked.join(', ')) : 'nothing'],
      ]),
      may('operator') && h('div.row', null,
        button('Open the door', { icon: 'door', kind: 'primary', onclick: async () => {
          const told = await post('/api/door/open');
          toast({ yes: 'The door is open', no_relay: 'Told: this device switches no lock itself', failed: 'The lock could not be switched: see the state of the device' }[told.switched] ?? 'Done', told.switched === 'failed' ? 'bad' : 'good');
          await again();
        } }),
        button(door.face_unlock ? 'Switch face unlock off' : 'Switch face unlock on', { onclick: async () => { await post('/api/door/face-unlock', { on: !door.face_unlock }); await again(); } }),
        locked.length > 0 && may('admin') && button('End the lock-out', { onclick: async () => { await post('/api/door/unlock'); await again(); } }))),
      may('operator') && keypad(),
    ];
  }, 4000);
}

let entered = '';
function keypad() {
  const pin = h('input', { inputmode: 'numeric', autocomplete: 'off', pattern: '[0-9]{6,12}', maxlength: 12, value: entered, oninput: () => { entered = pin.value; } });
  const said = h('div', { role: 'status' });
  return card('Enter a PIN', form(async () => {
    const told = await post('/api/door/pin', { pin: pin.value.trim() });
    entered = pin.value = '';
    put(said, told.granted ? notice('good', 'Welcome.') : notice(told.reason === 'needs_face' ? 'calm' : 'warn', `${told.reason === 'needs_face' ? 'Now look at the camera' : `No: ${because(told.reason)}`}.`));
  }, { text: 'Enter' }, field('PIN', pin, { hint: 'As on a keypad beside the door.' })), said);
}

function preview(signal) {
  return part(signal, s => get('/api/door/preview', { signal: s }), told => told.rules.length === 0
    ? empty('door', 'Nobody', 'No policy with rules is in force.')
    : [h('p.muted', null, told.local ? `Beside the door it is ${told.local}.` : null),
      !told.clock_trusted && notice('warn', 'The clock has not been set since this machine started: rules with a schedule open nothing until it is.'),
      told.rules.map(rule => card(rule.name, h('div.row', null, pill(rule.open ? 'working' : 'off', rule.open ? 'Open now' : 'Closed now'), h('span', null, needsWords[rule.needs]),
        h('span.muted', null, rule.changes_at ? `${rule.open ? 'until' : 'opens'} ${format.exact(rule.changes_at)}` : 'always')),
      h('p', null, `${format.count(rule.people, 'person', 'people')}${rule.names.length ? `: ${rule.names.join(', ')}${rule.names.length < rule.people ? ' …' : ''}` : ''}`)))]);
}

// ---- the policy ----

const select = (choices, value, attributes) => h('select', attributes, choices.map(([v, text]) => h('option', { value: v, selected: v === value }, text)));
const number = (value, attributes) => h('input', { type: 'number', value, ...attributes });

function policy(signal) {
  return part(signal, async s => [await get('/api/door/policy', { signal: s }), (await get('/api/groups', { signal: s })).groups], ([told, groups], again) => {
    const editable = may('admin');
    const document = structuredClone(told.policy ?? told.example);
    return [told.problems.length > 0 && notice('bad', told.problems.map(p => `${p.place}: ${p.problem}`).join('; '), { title: 'The policy that is kept cannot be used. ' }),
      !told.policy && notice('calm', 'No policy is in force: the door opens for nobody. What you save here takes effect at once; leave the dry run on until the events say what you expect.'),
      !editable && notice('calm', 'Administrators may change this.'),
      editor(document, groups, editable, again)];
  });
}

function editor(policy, groups, editable, saved) {
  const fence = h('fieldset.stack', { disabled: !editable, style: { border: 0, padding: 0, margin: 0 } });
  const zones = Intl.supportedValuesOf?.('timeZone') ?? [];
  const paint = () => put(fence, general(), schedules(), rules(), limits());
  const bind = (input, set) => { input.addEventListener('change', () => set(input.type === 'checkbox' ? input.checked : input.type === 'number' ? Number(input.value) : input.value)); return input; };
  const general = () => {
    const list = h('datalist', { id: 'zones' }, zones.map(zone => h('option', { value: zone })));
    const dry = check('Dry run: only say what would happen', { checked: policy.dry_run });
    bind(dry.input, v => { policy.dry_run = v; });
    return card('Where and how', list, field('Time zone of the door', bind(h('input', { value: policy.time_zone, list: 'zones', required: true }), v => { policy.time_zone = v; }), { hint: `Such as Europe/Berlin. This browser is in ${Intl.DateTimeFormat().resolvedOptions().timeZone}.` }),
      field('Holidays', bind(h('input', { value: policy.holidays.join(', ') }), v => { policy.holidays = v.split(/[\s,]+/).filter(Boolean); }), { hint: 'Dates as 2026-12-24, or 12-25 for every year.' }), dry);
  };
  const remove = (list, i, name) => h('button.icon-button.small', { type: 'button', 'aria-label': `Remove ${name}`, onclick: () => { list.splice(i, 1); paint(); } }, icon('trash'));
  const schedules = () => card('Schedules', policy.schedules.map((schedule, i) => h('div.card', { style: { background: 'var(--sunken)' } },
    h('div.row.between', null, field('Name', bind(h('input', { value: schedule.name, required: true, maxlength: 60 }), v => { for (const rule of policy.rules) if (rule.schedule === schedule.name) rule.schedule = v; schedule.name = v; paint(); })), remove(policy.schedules, i, schedule.name)),
    schedule.windows.map((window, j) => h('div.row.wrap', null, Object.entries(dayNames).map(([day, text]) => {
      const box = check(text, { checked: window.days.includes(day) });
      bind(box.input, on => { window.days = Object.keys(dayNames).filter(d => d === day ? on : window.days.includes(d)); });
      return box;
    }), bind(h('input', { value: window.from, 'aria-label': 'From', pattern: '[0-2][0-9]:[0-5][0-9]', style: { width: '5.5em' } }), v => { window.from = v; }), '–', bind(h('input', { value: window.to, 'aria-label': 'Until', pattern: '[0-2][0-9]:[0-5][0-9]', style: { width: '5.5em' } }), v => { window.to = v; }), remove(schedule.windows, j, `window ${j + 1} of ${schedule.name}`))),
    h('div.row', null, button('Add hours', { small: true, icon: 'plus', onclick: () => { schedule.windows.push({ days: ['mon', 'tue', 'wed', 'thu', 'fri'], from: '08:00', to: '18:00' }); paint(); } }),
      field('On holidays', bind(select([['closed', 'closed'], ['as_usual', 'as on other days'], ['only', 'open only then']], schedule.on_holidays), v => { schedule.on_holidays = v; }))))),
  button('Add a schedule', { icon: 'plus', small: true, onclick: () => { policy.schedules.push({ name: `Schedule ${policy.schedules.length + 1}`, windows: [{ days: ['mon', 'tue', 'wed', 'thu', 'fri'], from: '08:00', to: '18:00' }], on_holidays: 'closed' }); paint(); } }));
  const rules = () => card('Rules', h('p.muted', null, 'Each rule only allows. Whoever none is for stays outside.'), policy.rules.map((rule, i) => h('div.card', { style: { background: 'var(--sunken)' } },
    h('div.row.between', null, field('Name', bind(h('input', { value: rule.name, required: true, maxlength: 60 }), v => { rule.name = v; })), remove(policy.rules, i, rule.name)),
    h('div.grid', { style: { 'grid-template-columns': 'repeat(auto-fit, minmax(min(100%, 200px), 1fr))', gap: '12px' } },
      field('Needs', bind(select(Object.entries(needsWords), rule.needs), v => { rule.needs = v; if (!v.startsWith('face')) Object.assign(rule, { probes: 0, score_above: 0, pad: false }); paint(); })),
      field('When', bind(select([['', 'always'], ...policy.schedules.map(s => [s.name, s.name])], rule.schedule ?? ''), v => { rule.schedule = v || null; }))),
    h('div', null, h('span.label', null, 'For'), h('div.row.wrap', null, [everyone(rule), groups.map(group => {
      const box = check(group.name, { checked: rule.groups.includes(group.id), disabled: rule.everyone });
      bind(box.input, on => { rule.groups = on ? [...rule.groups, group.id] : rule.groups.filter(id => id !== group.id); });
      return box;
    })])),
    rule.needs.startsWith('face') && h('details', { open: rule.probes > 0 || rule.score_above > 0 || rule.pad }, h('summary', null, 'How surely'), h('div.grid', { style: { 'grid-template-columns': 'repeat(auto-fit, minmax(min(100%, 200px), 1fr))', gap: '12px' } },
      field('Looks in a row that agree', bind(number(rule.probes, { min: 0, max: 20 }), v => { rule.probes = v; }), { hint: '0: as many as a name needs.' }),
      field('Score above the threshold by', bind(number(rule.score_above, { min: 0, max: 0.5, step: 0.01 }), v => { rule.score_above = v; }))),
    (() => { const pad = check('Attack detection must have passed (this device has none: it would never open)', { checked: rule.pad }); bind(pad.input, v => { rule.pad = v; }); return pad; })()))),
  button('Add a rule', { icon: 'plus', small: true, onclick: () => { policy.rules.push({ name: `Rule ${policy.rules.length + 1}`, groups: [], everyone: true, schedule: null, needs: 'face', probes: 0, score_above: 0, pad: false }); paint(); } }));
  const everyone = rule => {
    const box = check('everyone', { checked: rule.everyone });
    bind(box.input, on => { rule.everyone = on; if (on) rule.groups = []; paint(); });
    return box;
  };
  const limits = () => h('details', null, h('summary', null, 'Limits and lock-outs'), h('div.grid', { style: { 'grid-template-columns': 'repeat(auto-fit, minmax(min(100%, 200px), 1fr))', gap: '12px', 'padding-top': '8px' } },
    [['cool_down_s', 'Not again for the same person (s)', 0, 3600], ['grants_per_minute', 'Openings in a minute, at most', 1, 120], ['second_factor_s', 'Wait for the second factor (s)', 5, 120]].map(([key, text, min, max]) => field(text, bind(number(policy[key], { min, max }), v => { policy[key] = v; }))),
    [['failures', 'Failures that lock', 0, 100], ['within_s', 'within (s)', 1, 86400], ['for_s', 'locked for (s)', 1, 86400]].map(([key, text, min, max]) => field(text, bind(number(policy.lock_out[key], { min, max }), v => { policy.lock_out[key] = v; })))));
  paint();
  return form(async () => {
    await post('/api/door/policy', policy);
    toast(policy.dry_run ? 'Saved; as a dry run nothing is switched' : 'Saved and in force');
    await saved();
  }, { text: 'Save the policy' }, fence);
}

// ---- PINs and passes ----

const kindWords = { pin: 'PIN', pass: 'Pass', rotating_pass: 'Rotating pass' };

function passes(signal) {
  return part(signal, async s => [(await get('/api/credentials', { signal: s })).credentials, (await get('/api/groups', { signal: s })).groups], ([list, groups], again) => [
    notice('calm', 'A picture of a pass is as good as the pass. One that works once is used up before a copy of it helps anybody; a rotating one changes every half minute.'),
    h('div.row', null, button('New PIN or pass', { icon: 'plus', kind: 'primary', onclick: async () => { if (await make(groups, signal)) await again(); } })),
    h('section.card.flush', { 'aria-label': 'PINs and passes' }, list.length ? h('div.list', null, list.map(each => h('div.wrap', null,
      h('span.grow', { style: { 'min-width': '150px' } }, h('span.line.cut', { style: { 'font-weight': 580 } }, each.name ?? 'Somebody erased'), h('span.line.muted.small', null, [`${kindWords[each.kind]} ${each.id}`,
        each.valid_until && [' · until ', format.exact(each.valid_until)], each.uses_left != null && ` · ${format.count(each.uses_left, 'use', 'uses')} left`, each.last_used_at && [' · used ', when(each.last_used_at)]])),
      !each.valid && pill('off', 'Over'),
      each.kind !== 'pin' && h('a.button.small', { href: `/api/credentials/${each.id}/code`, download: `pass-${each.id}.png` }, icon('down'), 'Code'),
      button('Take back', { small: true, kind: 'danger', 'aria-label': `Take back number ${each.id}`, onclick: async () => { if (await confirm(`Take back ${kindWords[each.kind]} ${each.id}?`, 'It opens nothing any more, at once.', { action: 'Take back', work: () => del(`/api/credentials/${each.id}`).then(() => true) })) await again(); } }))))
      : empty('lock', 'No PIN and no pass', 'They are ways in for visitors, and for whoever does not want to be recognised.'))]);
}

async function make(groups, signal) {
  let chosen = null;
  const made = await dialog('New PIN or pass', close => {
    const kind = select([['pass', 'Pass: a code on paper or a telephone'], ['rotating_pass', 'Rotating pass: a page that shows a changing code'], ['pin', 'PIN']], 'pass');
    const picker = subjectPicker('Enrolled person (for a second factor)', { signal, none: 'Nobody: a visitor', changed: subject => { chosen = subject; } });
    const name = h('input', { maxlength: 120 }), group = select([['', 'none'], ...groups.map(g => [String(g.id), g.name])], '');
    const until = h('input', { type: 'datetime-local' }), uses = select([['', 'as is usual: a pass once, others without limit'], ['1', 'once'], ['5', '5 times'], ['20', '20 times'], ['unlimited', 'without limit']], '');
    return form(async () => close(await post('/api/credentials', {
      kind: kind.value, subject: chosen?.id, name: chosen ? undefined : name.value.trim() || undefined, group: chosen || !group.value ? undefined : Number(group.value),
      valid_until: until.value ? new Date(until.value).getTime() : undefined, uses: Number(uses.value) || undefined, unlimited: uses.value === 'unlimited' || undefined,
    })), { text: 'Make it' }, field('Kind', kind), picker.el, field('Name of the visitor', name), field('Rules of the group', group, { hint: 'A visitor may do what this group may.' }), field('Valid until (optional)', until), field('How often', uses));
  });
  if (!made) return false;
  await dialog(made.pin ? 'The PIN' : 'The pass', close => h('div.stack', null,
    made.pin && [notice('warn', 'It is shown only now.'), h('p', { style: { 'font-size': '2rem', 'letter-spacing': '0.2em' } }, h('code', null, made.pin)), copy(made.pin)],
    made.link && [h('p', null, 'Send this link to the visitor. The page shows the code of each half minute; it has to reach this device.'), h('code', { style: { 'overflow-wrap': 'anywhere' } }, linkOf(made.link)), copy(linkOf(made.link))],
    !made.pin && h('img', { src: `/api/credentials/${made.id}/code`, alt: 'The code of the pass', style: { 'max-width': '320px', width: '100%', 'image-rendering': 'pixelated' } }),
    h('div.row', null, button('Done', { kind: 'primary', onclick: () => close() }))));
  return true;
}

const linkOf = link => link.startsWith('/') ? location.origin + link : link;

// ---- what if ----

function simulate(signal) {
  let chosen = null;
  const said = h('div.stack', { role: 'status' });
  const picker = subjectPicker('Who comes', { signal, none: 'A visitor without a group', changed: subject => { chosen = subject; } });
  const at = h('input', { type: 'datetime-local' }), face = check('their face is recognised', { checked: true }), pin = check('they enter their PIN'), pass = check('they show their pass');
  return h('div.stack', null, card('What would happen', form(async () => {
    const told = await post('/api/door/simulate', { subject: chosen?.id, at: at.value ? new Date(at.value).getTime() : undefined, face: face.input.checked, pin: pin.input.checked, pass: pass.input.checked });
    put(said, told.granted ? notice('good', `The door would open, by the rule “${told.rule}”.`) : notice('warn', `The door would stay shut: ${because(told.reason)}${told.rule ? ` (rule “${told.rule}”)` : ''}.`),
      h('p.muted', null, [told.local && `Beside the door it is ${told.local} then. `, told.until && `That rule changes at ${format.exact(told.until)}.`]),
      Object.keys(told.by_rule).length > 0 && h('table', null, h('thead', null, h('tr', null, h('th', { scope: 'col' }, 'Rule'), h('th', { scope: 'col' }, 'By itself'))), h('tbody', null, Object.entries(told.by_rule).map(([rule, reason]) => h('tr', null, h('td', null, rule), h('td', null, reason ? because(reason) : 'would open'))))));
  }, { text: 'Try' }, picker.el, field('When', at, { hint: 'In the time of this browser. Empty: now.' }), face, pin, pass)), said);
}
