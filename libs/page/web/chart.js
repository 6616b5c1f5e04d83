// Power over time: layers on top of each other, drawn by uPlot. A span of buckets is selected with the mouse,
// a finger or the arrow keys.

import { axisWatts, clock } from './format.js';
import { styled } from './colours.js';

// A finger that moves less, in pixels, taps.
const FARTHEST_TAP = 8;

const HEIGHT = () => (innerWidth < 600 ? 220 : 300);

/** A chart in `container`. `onSelect` gets the first bucket and the one after the last, or null for all. */
export class PowerChart {
  constructor(container, { onSelect, onHover }) {
    this.container = container;
    this.onSelect = onSelect;
    this.onHover = onHover;
    new ResizeObserver(() => this.resize()).observe(container);
    container.addEventListener('keydown', (event) => this.key(event));
  }

  /** Draws layers, the lowest first, in the colours of `colours`. */
  draw(data, layers, colours) {
    this.plot?.destroy();
    [this.data, this.layers] = [data, layers];
    const time = clock(data.is_relative);
    const axis = {
      stroke: styled('--muted'),
      grid: { stroke: styled('--line'), width: 1 },
      ticks: { stroke: styled('--line'), width: 1 },
      font: '12px system-ui, sans-serif',
    };
    const series = layers.map(({ key }) => ({
      fill: colours.get(key) ?? colours.get('rest'),
      width: 0,
      points: { show: false },
      // A bucket's power is that since its begin.
      paths: uPlot.paths.stepped({ align: -1 }),
    }));
    this.plot = new uPlot({
      width: this.container.clientWidth,
      height: HEIGHT(),
      legend: { show: false },
      // Half of the last time's label.
      padding: [8, 36, 0, 0],
      cursor: { y: false, points: { show: false }, drag: { x: true, y: false, setScale: false, dist: 3 } },
      scales: {
        x: { time: !data.is_relative },
        y: { range: (_, __, most) => [0, most > 0 ? most * 1.05 : 1] },
      },
      axes: [
        { ...axis, values: (_, splits, __, ___, step) => splits.map((at) => time(at, step)), space: 90, size: 34 },
        { ...axis, values: (_, splits, __, ___, step) => splits.map((value) => axisWatts(value, step)), size: 70 },
      ],
      // The highest one first: the others are painted over it.
      series: [{}, ...series.reverse()],
      hooks: {
        setSelect: [(plot) => this.dragged(plot)],
        setCursor: [(plot) => this.hovered(plot)],
        setSize: [() => this.select(this.span)],
      },
    }, [data.times, ...this.sums().reverse()], this.container);
    this.plot.over.addEventListener('click', () => { if (!this.wasDragged) this.onSelect(null); });
    this.plot.over.addEventListener('mousedown', () => { this.wasDragged = false; });
    this.plot.over.addEventListener('mouseleave', () => this.onHover(null));
    this.touch(this.plot);
  }

  /** A finger that moves sideways selects; uPlot knows the mouse alone. Up and down scrolls the page. */
  touch(plot) {
    const { over } = plot;
    let began = null;
    const at = ({ clientX }) => {
      const { left, width } = over.getBoundingClientRect();
      return Math.min(Math.max(clientX - left, 0), width);
    };
    const choose = (event, isDone) => {
      const [left, right] = [began, at(event)].sort((a, b) => a - b);
      plot.setSelect({ left, top: 0, width: right - left, height: over.clientHeight }, isDone);
    };
    over.addEventListener('pointerdown', (event) => {
      if (event.pointerType === 'mouse' || !event.isPrimary) return;
      began = at(event);
      this.wasDragged = false;
    });
    over.addEventListener('pointermove', (event) => { if (began !== null) choose(event, false); });
    over.addEventListener('pointerup', (event) => {
      if (began !== null && Math.abs(at(event) - began) >= FARTHEST_TAP) choose(event, true);
      else if (began !== null) this.select(this.span);
      began = null;
    });
    // The browser scrolls.
    over.addEventListener('pointercancel', () => {
      if (began !== null) this.select(this.span);
      began = null;
    });
  }

  /** Watts of each layer and those below it. Where nothing was measured there is nothing. */
  sums() {
    const { data } = this;
    const below = new Float64Array(data.buckets);
    return this.layers.map(({ used }) => {
      const line = new Array(data.buckets + 1).fill(null);
      for (let bucket = 0; bucket < data.buckets; bucket += 1) {
        below[bucket] += used[bucket];
        if (data.isGap.has(bucket)) continue;
        line[bucket + 1] = below[bucket] / 1e6 / data.lengths[bucket];
        // A step ends at its point, so it needs one to begin at.
        line[bucket] ??= line[bucket + 1];
      }
      return line;
    });
  }

  /** Shows which buckets are selected; null: none. */
  select(span) {
    this.span = span;
    if (!this.plot) return;
    const position = (bucket) => this.plot.valToPos(this.data.times[bucket], 'x');
    const [left, right] = span ? span.map(position) : [0, 0];
    const height = span ? this.plot.over.clientHeight : 0;
    this.plot.setSelect({ left, top: 0, width: right - left, height }, false);
  }

  /** The bucket at a time. */
  bucket(time) {
    const { times, buckets } = this.data;
    let [low, high] = [0, buckets];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (times[middle + 1] < time) low = middle + 1;
      else high = middle;
    }
    return Math.min(low, buckets - 1);
  }

  dragged(plot) {
    const { left, width } = plot.select;
    if (width <= 0 || this.data.buckets === 0) return;
    this.wasDragged = true;
    const [from, to] = [left, left + width].map((at) => this.bucket(plot.posToVal(at, 'x')));
    this.onSelect([from, to + 1]);
  }

  hovered(plot) {
    const { left } = plot.cursor;
    this.onHover(left >= 0 && this.data.buckets > 0 ? this.bucket(plot.posToVal(left, 'x')) : null);
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === 'Escape') this.onSelect(null);
    if (!step || this.data.buckets === 0) return;
    event.preventDefault();
    const [from, to] = this.span ?? (step > 0 ? [-1, 0] : [this.data.buckets, this.data.buckets + 1]);
    const keep = (at) => Math.min(Math.max(at, 0), this.data.buckets);
    const moved = event.shiftKey && this.span ? [from, Math.max(keep(to + step), from + 1)]
      : [keep(from + step), keep(to + step)];
    if (moved[0] < moved[1]) this.onSelect(moved);
  }

  resize() {
    if (!this.plot || this.container.clientWidth === this.plot.width) return;
    this.plot.setSize({ width: this.container.clientWidth, height: HEIGHT() });
  }
}
