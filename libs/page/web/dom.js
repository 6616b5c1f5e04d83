// Elements of the page. What comes from outside is inserted as text, never as markup.

/** The element of this id. */
export const element = (id) => document.getElementById(id);

/** A new element with attributes and children; strings become text. */
export function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Shows `value` in the element of this id, and hides the element if there is none. */
export function show(id, value) {
  const found = element(id);
  found.textContent = value ?? '';
  found.hidden = !value;
}

/** Sizes a canvas in pixels of the page, as sharp as the screen is. Returns a context to draw it with. */
export function resized(canvas, width, height) {
  const ratio = devicePixelRatio;
  [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
  [canvas.style.width, canvas.style.height] = [`${width}px`, `${height}px`];
  const context = canvas.getContext('2d');
  context.scale(ratio, ratio);
  context.font = '12px system-ui, sans-serif';
  context.textBaseline = 'middle';
  return context;
}

// Characters that would reorder the text around them, or that nobody sees.
const unsafe = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

/** A name from outside as it may be shown. */
export const printable = (name) => name.replace(unsafe, '\uFFFD');

/** Shows lines beside the pointer. */
export function tooltip(event, ...lines) {
  const tip = element('tooltip');
  tip.replaceChildren(...lines);
  tip.hidden = false;
  const [width, height] = [tip.offsetWidth, tip.offsetHeight];
  const left = Math.min(event.clientX + 14, innerWidth - width - 8);
  const top = event.clientY + 18 + height > innerHeight ? event.clientY - height - 10 : event.clientY + 18;
  tip.style.left = `${Math.max(left, 4)}px`;
  tip.style.top = `${Math.max(top, 4)}px`;
}

export function hideTooltip() {
  element('tooltip').hidden = true;
}
