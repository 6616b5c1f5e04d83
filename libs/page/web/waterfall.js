// Processes over time as a waterfall: a line for each, from its begin to its end, below the process that
// started it. The stronger the colour, the more power it drew then. A click selects the time of a process.

import { each } from './books.js';
import { element, hideTooltip, make, resized, show, tooltip } from './dom.js';
import { duration, exactJoules, joules, spanOf, watts } from './format.js';
import { styled } from './colours.js';
import { matches } from './table.js';

const LINE = 20;
const MOST = 300;
const THINNEST = 2;
const FAINTEST = 0.18;
// How many strengths there are: neighbours of one strength are one rectangle.
const LEVELS = 16;
const INDENT = 10;

/** The lines of a tree whose nodes are single processes: those of most energy, with all their ancestors. */
export function lines(root) {
  const all = [];
  const waiting = [...root.children];
  while (waiting.length) {
    const node = waiting.pop();
    if (node.index === undefined) continue;
    all.push(node);
    waiting.push(...node.children);
  }
  // A process never has more than the one that started it, so that no ancestor of what is kept is left out.
  const kept = new Set(all.sort((a, b) => b.total - a.total || a.depth - b.depth).slice(0, MOST));
  const order = [];
  const below = (node) => node.children.filter((child) => kept.has(child)).sort((a, b) => b.start - a.start);
  const next = below(root);
  while (next.length) {
    const node = next.pop();
    order.push(node);
    next.push(...below(node));
  }
  return { order, left: all.length - order.length };
}

/** The waterfall view in the page. */
export class Waterfall {
  constructor({ onSelect }) {
    this.canvas = element('waterfall');
    this.onSelect = onSelect;
    this.canvas.addEventListener('mousemove', (event) => this.hover(event));
    this.canvas.addEventListener('mouseleave', hideTooltip);
    this.canvas.addEventListener('click', (event) => {
      const node = this.at(event);
      if (node) this.onSelect(this.lifetime(node));
    });
    new ResizeObserver(() => this.paint()).observe(this.canvas.parentElement);
  }

  /** Shows the processes of a tree in the buckets from `from` to before `to`. */
  draw(data, root, { from, to, chosen, colourOf, words }) {
    Object.assign(this, { data, from, to, chosen, colourOf, words });
    this.timed(root);
    const { order, left } = lines(root);
    this.order = order;
    const hidden = left + data.processes_by_program;
    show('waterfall-note', hidden > 0 ? `${hidden} processes of less energy are not shown.` : '');
    this.paint();
  }

  /** Begins and ends of all nodes, as far as they are in the span, and how deep each is. */
  timed(root) {
    const { data, from, to } = this;
    const [first, last] = [data.edges_us[from], data.edges_us[to]];
    const waiting = root.children.map((node) => [node, 0]);
    while (waiting.length) {
      const [node, depth] = waiting.pop();
      node.depth = depth;
      const { start_us: start, end_us: end } = data.consumers[node.index] ?? {};
      node.start = start ?? first;
      node.begin = Math.min(Math.max(node.start, first), last);
      node.end = Math.max(Math.min(end ?? last, last), node.begin);
      node.children.forEach((child) => waiting.push([child, depth + 1]));
    }
  }

  /** The buckets in which a process lived. */
  lifetime({ begin, end }) {
    const { edges_us: edges, buckets } = this.data;
    const after = edges.findIndex((edge) => edge >= end);
    const from = Math.max(edges.findLastIndex((edge) => edge <= begin), 0);
    return [from, Math.max(after < 0 ? buckets : after, from + 1)];
  }

  /** Microjoules of a process by bucket of the span. */
  used({ index }) {
    const used = new Float64Array(this.to - this.from);
    each(this.data.consumers[index].used_uj, this.chosen, this.from, this.to,
      (bucket, amount) => { used[bucket - this.from] += amount; });
    return used;
  }

  paint() {
    const width = this.canvas.parentElement.clientWidth;
    if (!this.order || width === 0) return;
    const height = LINE * Math.max(this.order.length, 1);
    const context = resized(this.canvas, width, height);
    const { edges_us: edges, lengths } = this.data;
    const [first, last] = [edges[this.from], edges[this.to]];
    this.position = (time) => ((time - first) / Math.max(last - first, 1)) * width;
    const power = (used, at) => used / lengths[this.from + at];
    const powers = this.order.map((node) => this.used(node).map(power));
    this.ink = styled('--text');
    this.peak = powers.reduce((most, line) => line.reduce((a, b) => Math.max(a, b), most), 0);
    this.order.forEach((node, row) => this.line(context, node, row, powers[row], width));
    this.canvas.dataset.lines = this.order.length;
  }

  line(context, node, row, powers, width) {
    const { edges_us: edges } = this.data;
    const isFound = this.words.length === 0 || matches(node.name, this.words);
    const [left, right] = [this.position(node.begin), this.position(node.end)];
    const top = row * LINE + 1;
    const strength = isFound ? 1 : 0.3;
    context.fillStyle = this.colourOf(node);
    context.globalAlpha = FAINTEST * strength;
    context.fillRect(left, top, Math.max(right - left, THINNEST), LINE - 2);
    // The eye sees small differences of faint colours best.
    const level = (at) => Math.round(Math.sqrt(powers[at] / this.peak) * LEVELS);
    for (let at = 0, next; at < powers.length; at = next) {
      const own = level(at);
      for (next = at + 1; next < powers.length && level(next) === own;) next += 1;
      // Of a bucket the part in which the process lived.
      const [begin, end] = [edges[this.from + at], edges[this.from + next]].map(this.position);
      const [x, until] = [Math.max(begin, left), Math.min(end, Math.max(right, left + THINNEST))];
      if (!(own > 0) || until <= x) continue;
      context.globalAlpha = (FAINTEST + ((1 - FAINTEST) * own) / LEVELS) * strength;
      context.fillRect(x, top, Math.max(until - x, 0.5), LINE - 2);
    }
    context.globalAlpha = strength;
    context.fillStyle = this.ink;
    this.label(context, node, row, [left, right, width]);
    context.globalAlpha = 1;
  }

  /** Who it is and what it used: inside its bar, or beside it where there is more room. */
  label(context, node, row, [left, right, width]) {
    const indent = Math.min(node.depth, 8) * INDENT;
    const room = [right - left - 8, width - right - 8, left - 8];
    const texts = [`${node.name}  ${joules(node.own)} J`, node.name];
    for (const text of texts) {
      const needed = context.measureText(text).width;
      const place = room.findIndex((space) => needed <= space);
      if (place < 0) continue;
      const shift = Math.min(indent, room[place] - needed);
      const x = [left + 4 + shift, right + 4, left - 4 - needed][place];
      context.fillText(text, x, row * LINE + LINE / 2);
      return;
    }
  }

  at(event) {
    return this.order?.[Math.floor(event.offsetY / LINE)];
  }

  hover(event) {
    const node = this.at(event);
    this.canvas.classList.toggle('over', Boolean(node));
    if (!node) return hideTooltip();
    const { data } = this;
    const zero = data.is_relative ? data.edges_us[0] : 0;
    const seconds = (node.end - node.begin) / 1e6;
    const [begin, end] = [node.begin, node.end].map((time) => (time - zero) / 1e6);
    const power = seconds > 0 ? `, ${watts(node.own / 1e6 / seconds)} W on average` : '';
    const lines = [
      make('strong', {}, node.name),
      make('div', { class: 'muted' }, `${spanOf(begin, end, data.is_relative)}, ${duration(seconds)}`),
      make('div', {}, `${exactJoules(node.own)} J${power}`),
    ];
    const all = `with all it started ${exactJoules(node.total)} J`;
    if (node.total > node.own) lines.push(make('div', {}, all));
    return tooltip(event, ...lines);
  }
}
