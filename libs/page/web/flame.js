// The process tree as a flame view: a box is as wide as its joules, and its children hang below it. A click
// on a box makes it as wide as the page.

import { element, hideTooltip, make, resized, show, tooltip } from './dom.js';
import { exactJoules, joules, percent } from './format.js';
import { styled } from './colours.js';
import { matches } from './table.js';

const ROW = 22;
const NARROWEST = 0.5;

/** The flame view in the page. */
export class Flame {
  constructor() {
    this.canvas = element('flame');
    this.canvas.addEventListener('mousemove', (event) => this.hover(event));
    this.canvas.addEventListener('mouseleave', hideTooltip);
    this.canvas.addEventListener('click', (event) => {
      const box = this.at(event);
      if (box) this.zoom(box.node);
    });
    element('flame-up').addEventListener('click', () => this.zoom(this.top.parent));
    new ResizeObserver(() => this.paint()).observe(this.canvas.parentElement);
  }

  /** Shows a tree. What was zoomed in on stays, if it is there. */
  draw(root, colourOf, words) {
    const path = [];
    for (let at = this.top; at?.parent; at = at.parent) path.unshift(at.name);
    [this.root, this.colourOf, this.words] = [root, colourOf, words];
    this.top = path.reduce((at, name) => at?.children.find((child) => child.name === name), root) ?? root;
    this.paint();
  }

  zoom(node) {
    this.top = node ?? this.root;
    hideTooltip();
    this.paint();
  }

  /** Boxes by row: the ancestors of what is zoomed in on, and below it everything that is wide enough. */
  layout(width) {
    const boxes = [];
    const above = [];
    for (let at = this.top.parent; at; at = at.parent) above.unshift(at);
    above.forEach((node, row) => boxes.push({ node, row, left: 0, width, isAbove: true }));
    const scale = this.top.total > 0 ? width / this.top.total : 0;
    const waiting = [{ node: this.top, row: above.length, left: 0, width }];
    while (waiting.length) {
      const box = waiting.pop();
      boxes.push(box);
      let { left } = box;
      for (const child of box.node.children) {
        const part = child.total * scale;
        // They are sorted: those that follow are narrower.
        if (part < NARROWEST) break;
        waiting.push({ node: child, row: box.row + 1, left, width: part });
        left += part;
      }
    }
    return boxes;
  }

  paint() {
    const width = this.canvas.parentElement.clientWidth;
    if (!this.root || width === 0) return;
    this.boxes = this.layout(width);
    const height = ROW * (1 + Math.max(...this.boxes.map(({ row }) => row)));
    const context = resized(this.canvas, width, height);
    this.boxes.forEach((box) => this.box(context, box));
    show('flame-path', this.top.parent ? `${this.top.name}: ${joules(this.top.total)} J` : '');
    element('flame-up').hidden = !this.top.parent;
    this.canvas.dataset.boxes = this.boxes.length;
  }

  box(context, { node, row, left, width, isAbove }) {
    const isFound = this.words.length > 0 && matches(node.name, this.words);
    context.globalAlpha = isAbove || (this.words.length > 0 && !isFound) ? 0.35 : 1;
    context.fillStyle = this.colourOf(node);
    context.fillRect(left, row * ROW, Math.max(width - 1, NARROWEST), ROW - 1);
    const isPale = isAbove || node === this.root || context.globalAlpha < 1 || node.entry;
    context.globalAlpha = 1;
    context.fillStyle = styled(isPale ? '--text' : '--on-colour');
    const label = width < 24 ? '' : this.label(context, node, width - 10);
    context.fillText(label, left + 5, row * ROW + ROW / 2);
  }

  /** As much of what a box says as fits: a number is never cut. */
  label(context, node, width) {
    const many = node.processes > 1 ? ` ×${node.processes}` : '';
    const texts = [`${node.name}${many}  ${joules(node.total)} J`, node.name + many, node.name];
    const fits = (text) => context.measureText(text).width <= width;
    const whole = texts.find(fits);
    if (whole !== undefined) return whole;
    let length = Math.min(node.name.length, Math.floor(width / 4));
    while (length > 0 && !fits(`${node.name.slice(0, length)}…`)) length -= 1;
    return length > 0 ? `${node.name.slice(0, length)}…` : '';
  }

  at(event) {
    const { offsetX, offsetY } = event;
    const row = Math.floor(offsetY / ROW);
    return this.boxes?.find(
      (box) => box.row === row && offsetX >= box.left && offsetX < box.left + Math.max(box.width, 2));
  }

  hover(event) {
    const box = this.at(event);
    this.canvas.classList.toggle('over', Boolean(box));
    if (!box) return hideTooltip();
    const { node } = box;
    const share = this.root.total > 0 ? node.total / this.root.total : 0;
    const total = `${exactJoules(node.total)} J, ${percent(share)}`;
    const lines = [make('strong', {}, node.name), make('div', {}, total)];
    const hasBoth = node.own > 0 && node.children.length > 0;
    if (hasBoth) lines.push(make('div', {}, `itself ${exactJoules(node.own)} J`));
    if (node.processes > 1) lines.push(make('div', {}, `${node.processes} processes`));
    return tooltip(event, ...lines);
  }
}
