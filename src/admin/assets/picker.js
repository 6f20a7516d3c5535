// Choosing an enrolled person by typing: a combobox by the ARIA pattern.

import { get, query } from './api.js';
import { freshId, h, put } from './dom.js';
import { isAbort, words } from './errors.js';
import { face, field, settled } from './ui.js';

// `value` is the chosen subject or null. `none`: what an empty field means, as placeholder.
export function subjectPicker(label, { signal, none = 'Type a name', changed = () => {}, hint } = {}) {
  const id = freshId();
  const list = h('div.card.flush', { role: 'listbox', id, 'aria-label': 'People', hidden: true, style: { position: 'absolute', 'z-index': 6, left: 0, right: 0, top: '48px', 'max-height': '290px', 'overflow-y': 'auto', 'box-shadow': 'var(--shadow)' } });
  const input = h('input', { type: 'text', role: 'combobox', autocomplete: 'off', spellcheck: 'false', placeholder: none, 'aria-expanded': 'false', 'aria-controls': id, 'aria-autocomplete': 'list' });
  let found = [], at = -1, asked = 0;
  const self = { value: null };
  const open = on => { list.hidden = !on; input.setAttribute('aria-expanded', on); if (!on) { at = -1; input.removeAttribute('aria-activedescendant'); } };
  const choose = subject => {
    self.value = subject;
    input.value = subject?.name ?? '';
    open(false);
    changed(subject);
  };
  const paint = () => {
    put(list, found.length ? found.map((subject, i) => h('div.row', {
      role: 'option', id: `${id}-${i}`, 'aria-selected': String(i === at), style: { padding: '8px 12px', cursor: 'pointer', background: i === at ? 'var(--sunken)' : '' },
      onpointerdown: event => { event.preventDefault(); choose(subject); },
    }, face(subject.name, subject.picture), h('span.grow.cut', null, subject.name))) : h('div.muted', { style: { padding: '12px' }, role: 'option', 'aria-selected': 'false', 'aria-disabled': 'true' }, 'Nobody by this name.'));
    if (at >= 0) { input.setAttribute('aria-activedescendant', `${id}-${at}`); list.children[at].scrollIntoView({ block: 'nearest' }); }
  };
  const search = async () => {
    const mine = ++asked;
    try {
      const told = await get(`/api/subjects${query({ search: input.value.trim(), limit: 8 })}`, { signal });
      if (mine !== asked || document.activeElement !== input) return;
      found = told.subjects;
      at = -1;
      paint();
      open(true);
    } catch (error) {
      if (!isAbort(error)) self.el.say(words(error));
    }
  };
  const later = settled(search);
  input.addEventListener('input', () => { if (self.value) { self.value = null; changed(null); } later(); });
  input.addEventListener('focus', () => { if (!self.value) search(); });
  input.addEventListener('blur', () => { open(false); if (!self.value && input.value) input.value = ''; });
  input.addEventListener('keydown', event => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && !list.hidden && found.length) { event.preventDefault(); at = (at + step + found.length) % found.length; paint(); }
    else if (event.key === 'Enter' && at >= 0) { event.preventDefault(); choose(found[at]); }
    else if (event.key === 'Escape' && !list.hidden) { event.preventDefault(); event.stopPropagation(); open(false); }
  });
  const wrap = h('div', { style: { position: 'relative' } }, input, list);
  const el = self.el = field(label, input, { hint });
  input.replaceWith(wrap);
  wrap.prepend(input);
  self.choose = choose;
  self.input = input;
  return self;
}
