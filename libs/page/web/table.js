// The table of consumers in a span: the rows of most energy, what closes the books, and their sum.

import { element, make } from './dom.js';
import { exactJoules, joules, percent, watts } from './format.js';

const FIRST = 50;
const MORE = 500;

/** Whether a name has every word of what is searched for. */
export const matches = (name, words) => {
  const lower = name.toLowerCase();
  return words.every((word) => lower.includes(word));
};

/** The table in the page. */
export class Table {
  constructor() {
    this.limit = FIRST;
    element('more').addEventListener('click', () => {
      this.limit += MORE;
      this.draw(...this.drawn);
    });
  }

  /** Shows a ledger. `words` select rows; `seconds` is the length of the span. */
  draw(books, colours, seconds, words) {
    this.drawn = [books, colours, seconds, words];
    this.widest = Math.max(...[...books.rows.slice(0, 1), ...books.closing].map(({ used }) => used));
    const row = (entry, attributes) => this.row(entry, { books, colours, seconds, ...attributes });
    const found = words.length ? books.rows.filter(({ name }) => matches(name, words)) : books.rows;
    const shown = found.slice(0, this.limit);
    element('rows').replaceChildren(...shown.map((entry) => row(entry, {})));
    if (words.length) {
      const used = found.reduce((sum, entry) => sum + entry.used, 0);
      const processes = found.reduce((sum, entry) => sum + entry.processes, 0);
      const name = `found: ${found.length} of ${books.rows.length}`;
      element('rows').append(row({ key: 'found', name, used, processes }, { kind: 'found' }));
    }
    element('closing').replaceChildren(...books.closing.map((entry) => row(entry, { kind: 'entry' })));
    const total = { key: 'total', name: 'total', used: books.total, processes: 0 };
    element('total').replaceChildren(row(total, { kind: 'total' }));
    const left = found.length - shown.length;
    element('more').hidden = left === 0;
    element('more').textContent = `Show ${Math.min(left, MORE)} of ${left} more`;
  }

  row({ key, name, used, processes }, { books, colours, seconds, kind }) {
    const share = books.total === 0 ? 0 : used / books.total;
    const swatch = make('i', { class: 'swatch' });
    swatch.style.background = colours.get(key) ?? colours.get('rest');
    const bar = make('i', { class: 'bar' });
    bar.style.inlineSize = `${(used / Math.max(this.widest, 1)) * 5}em`;
    bar.style.background = swatch.style.background;
    swatch.hidden = kind === 'total' || kind === 'found';
    bar.hidden = swatch.hidden;
    return make('tr', { class: kind ?? '', 'data-name': name, 'data-uj': used },
      make('td', { class: 'name', title: name }, swatch, make('span', {}, name)),
      make('td', { title: `${exactJoules(used)} J` }, joules(used)),
      make('td', { class: 'wide share' }, make('span', {}, percent(share)), bar),
      make('td', {}, seconds > 0 ? watts(used / 1e6 / seconds) : ''),
      make('td', { class: 'wide' }, processes > 0 ? String(processes) : ''));
  }
}
