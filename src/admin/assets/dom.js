// Makes elements. Text only ever becomes text: nothing here, and nothing else on these pages, parses
// markup at run time.

const SVG = 'http://www.w3.org/2000/svg';
const properties = new Set(['value', 'checked', 'disabled', 'hidden', 'selected', 'multiple', 'required', 'open', 'readOnly', 'indeterminate', 'srcObject', 'muted', 'noValidate']);

// h('p.muted', {id: 'x', onclick: f}, 'text', child, [more]) makes <p class="muted" id="x">.
export function h(what, attributes, ...children) {
  const [tag, ...classes] = what.split('.');
  const el = document.createElement(tag || 'div');
  if (classes.length) el.className = classes.join(' ');
  return fill(apply(el, attributes), children);
}

// The same for SVG elements.
export function svg(tag, attributes, ...children) {
  const el = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value != null) el.setAttribute(name, value);
  }
  return fill(el, children);
}

function apply(el, attributes) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null) continue;
    if (name.startsWith('on')) el.addEventListener(name.slice(2), value);
    else if (name === 'class') el.className = `${el.className} ${value}`.trim();
    // Through the CSSOM, which the content security policy allows; style attributes it does not.
    else if (name === 'style') for (const [key, v] of Object.entries(value)) el.style.setProperty(key, v);
    else if (properties.has(name)) el[name] = value;
    else if (value !== false) el.setAttribute(name, value === true ? '' : value);
  }
  return el;
}

function fill(el, children) {
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) el.append(child);
  }
  return el;
}

// Puts children in place of whatever an element holds.
export function put(el, ...children) {
  el.replaceChildren();
  return fill(el, children);
}

export function icon(name, extra) {
  const el = svg('svg', { class: `icon ${extra ?? ''}`.trim(), 'aria-hidden': 'true' });
  el.append(svg('use', { href: `#i-${name}` }));
  return el;
}

let last = 0;
// An id of its own, for labels and descriptions.
export const freshId = () => `e${++last}`;
