// What is shown: the state of the page, and what changes it.

import { CLOSING, chosenDomains, layers, ledger, levels, prepare, sum } from './books.js';
import { PowerChart } from './chart.js';
import { colourLayers, styled } from './colours.js';
import { element, hideTooltip, make, show, tooltip } from './dom.js';
import { Flame } from './flame.js';
import { duration, exactJoules, joules, spanOf, watts } from './format.js';
import { Table } from './table.js';
import { processTree } from './tree.js';
import { Waterfall } from './waterfall.js';

// Rows with a colour of their own.
const TOP = 20;

const state = {
  data: null,
  level: 'program',
  // '' for all domains that a total counts.
  domain: '',
  // The selected times, in microseconds since the Unix epoch; null: all.
  span: null,
  words: [],
  view: 'table',
  isPaused: false,
  isPressed: false,
  // What part of a file is asked for.
  range: null,
};

// Views by the name of their tab.
const VIEWS = ['table', 'flame', 'waterfall'];

let [chart, table, flame, waterfall] = [];

/** The document: of this file, or from the server beside the page. */
async function load() {
  const embedded = element('document').textContent;
  if (embedded) return JSON.parse(embedded);
  const range = state.range ? `?from_us=${state.range[0]}&to_us=${state.range[1]}` : '';
  const answer = await fetch(`data${range}`);
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

async function reload() {
  try {
    const data = prepare(await load());
    const isNew = state.data === null;
    state.data = data;
    element('content').hidden = false;
    show('message', data.buckets === 0 ? 'No energy was measured or estimated in this time.' : '');
    if (isNew) begin();
    describe();
    drawAll();
  } catch (error) {
    show('message', `The data cannot be shown: ${error.message}`);
  }
  const { refresh_ms: refresh } = state.data ?? {};
  if (refresh) setTimeout(refreshed, refresh);
}

/** Loads what is new, but never while a span is being selected. */
function refreshed() {
  if (state.isPaused || state.isPressed) setTimeout(refreshed, 200);
  else reload();
}

function begin() {
  chart = new PowerChart(element('chart'), { onSelect: select, onHover: hover });
  table = new Table();
  flame = new Flame();
  waterfall = new Waterfall({ onSelect: select });
}

/** Title, origins, and what can be chosen. */
function describe() {
  const { data } = state;
  document.title = `${data.title} – Wattrace`;
  show('title', data.title);
  const origins = [...new Set(data.domains.map(({ origin }) => origin))].join(', ');
  show('origin', origins);
  element('origin').dataset.origin = origins;
  if (data.refresh_ms) show('live', state.isPaused ? 'paused' : 'live');
  options('level', levels(data).map((level) => [level, level]), state.level);
  const inner = data.domains.map(({ name }, index) => [String(index), name]);
  options('domain', [['', 'all domains'], ...inner], state.domain);
  state.level = element('level').value;
  state.domain = element('domain').value;
}

function options(id, choices, chosen) {
  const made = choices.map(([value, text]) => make('option', { value }, text));
  element(id).replaceChildren(...made);
  element(id).value = choices.some(([value]) => value === chosen) ? chosen : choices[0][0];
}

const view = () => ({ level: state.level, chosen: chosenDomains(state.data, state.domain) });

function drawAll() {
  const { data } = state;
  state.layers = layers(data, view(), TOP);
  state.colours = colourLayers(state.layers);
  chart.draw(data, state.layers, state.colours);
  drawSpan();
}

/** The selected buckets: those that begin and end in the selected times. */
function buckets() {
  const { data, span } = state;
  if (!span) return [0, data.buckets];
  const from = data.edges_us.findIndex((edge) => edge >= span[0]);
  const after = data.edges_us.findIndex((edge) => edge > span[1]);
  const to = (after < 0 ? data.edges_us.length : after) - 1;
  return from >= 0 && from < to ? [from, to] : [0, data.buckets];
}

function drawSpan() {
  const { data } = state;
  const [from, to] = buckets();
  const isAll = from === 0 && to === data.buckets;
  chart.select(isAll ? null : [from, to]);
  state.books = ledger(data, { ...view(), from, to });
  const lengths = data.lengths.filter((_, at) => at >= from && at < to && !data.isGap.has(at));
  state.seconds = lengths.reduce((total, length) => total + length, 0);
  if (data.buckets > 0) show('span-time', spanOf(data.times[from], data.times[to], data.is_relative));
  Object.assign(element('span').dataset, { fromUs: data.edges_us[from], toUs: data.edges_us[to] });
  const power = state.seconds > 0 ? `, ${watts(state.books.total / 1e6 / state.seconds)} W on average` : '';
  show('span-length', `${duration(state.seconds)}${power}`);
  drawBooks();
  const hasServer = !element('document').textContent;
  element('clear').hidden = isAll;
  element('zoom').hidden = isAll || !hasServer || Boolean(data.refresh_ms);
  element('all').hidden = !hasServer || !data.extent_us || isWhole();
  drawViews();
}

/** Whether all that the file has is shown. */
function isWhole() {
  const { edges_us: edges, extent_us: extent } = state.data;
  return edges.length === 0 || (edges[0] - 1e6 <= extent[0] && edges.at(-1) + 1e6 >= extent[1]);
}

function drawBooks() {
  const { rows, closing, total, measured } = state.books;
  const consumers = rows.reduce((all, { used }) => all + used, 0);
  const parts = [`consumers ${exactJoules(consumers)}`];
  closing.forEach(({ name, used }) => parts.push(`${name} ${exactJoules(used)}`));
  const difference = measured - total;
  const verdict = difference === 0 ? `meter ${exactJoules(measured)} J`
    : `${exactJoules(total)} J; the meter differs by ${exactJoules(difference)} J`;
  show('books', `${parts.join(' + ')} = ${verdict}`);
  Object.assign(element('books').dataset, { total, measured, difference });
}

function drawViews() {
  for (const name of VIEWS) {
    element(`view-${name}`).hidden = name !== state.view;
    element(`tab-${name}`).setAttribute('aria-selected', String(name === state.view));
  }
  element('column-name').textContent = state.level;
  if (state.view === 'table') {
    table.draw(state.books, state.colours, state.seconds, state.words);
    return;
  }
  const { data } = state;
  const [from, to] = buckets();
  const { chosen } = view();
  const usedBy = (index) => sum(data.consumers[index].used_uj, chosen, from, to);
  const isMerged = state.view === 'flame' && element('merge').checked;
  const root = processTree(data, state.books, isMerged, usedBy);
  const programs = colourLayers(layers(data, { level: 'program', chosen }, TOP));
  const colourOf = ({ program, entry, parent }) => {
    if (entry) return programs.get(entry);
    return parent ? programs.get(`program ${program}`) ?? programs.get('rest') : styled('--line');
  };
  if (state.view === 'waterfall') {
    waterfall.draw(data, root, { from, to, chosen, colourOf, words: state.words });
    return;
  }
  flame.draw(root, colourOf, state.words);
  const left = data.processes_by_program;
  show('flame-note', left > 0 ? `${left} processes of least energy are shown by their program alone.` : '');
}

function select(span) {
  state.span = span && span.map((bucket) => state.data.edges_us[bucket]);
  drawSpan();
}

/** What the power is made of under the pointer. */
function hover(bucket) {
  if (bucket === null) {
    hideTooltip();
    return;
  }
  const { data, colours } = state;
  const seconds = data.lengths[bucket];
  const parts = state.layers.map(({ key, name, used }) => ({ key, name, used: used[bucket] }));
  const all = parts.reduce((total, { used }) => total + used, 0);
  const entries = parts.filter(({ key, used }) => used > 0 && CLOSING.includes(key));
  const top = parts.filter(({ key, used }) => used > 0 && !CLOSING.includes(key))
    .sort((a, b) => b.used - a.used).slice(0, 6);
  const lines = [...top, ...entries].map(({ key, name, used }) => {
    const swatch = make('i', { class: 'swatch' });
    swatch.style.background = colours.get(key);
    return make('div', {}, swatch, `${name}  ${watts(used / 1e6 / seconds)} W`);
  });
  const head = data.isGap.has(bucket) ? 'not measured'
    : `${watts(all / 1e6 / seconds)} W, ${joules(all)} J`;
  const time = spanOf(data.times[bucket], data.times[bucket + 1], data.is_relative);
  tooltip(state.pointer, make('div', { class: 'muted' }, time), make('strong', {}, head), ...lines);
}

function listen() {
  const on = (id, event, action) => element(id).addEventListener(event, action);
  on('controls', 'submit', (event) => event.preventDefault());
  on('level', 'change', () => { state.level = element('level').value; drawAll(); });
  on('domain', 'change', () => { state.domain = element('domain').value; drawAll(); });
  on('search', 'input', () => {
    state.words = element('search').value.toLowerCase().split(/\s+/).filter(Boolean);
    drawViews();
  });
  on('clear', 'click', () => select(null));
  on('zoom', 'click', () => { state.range = state.span; state.span = null; reload(); });
  on('all', 'click', () => { state.range = state.data.extent_us; state.span = null; reload(); });
  VIEWS.forEach((name) => on(`tab-${name}`, 'click', () => { state.view = name; drawViews(); }));
  on('merge', 'change', drawViews);
  on('live', 'click', () => { state.isPaused = !state.isPaused; describe(); });
  // Before uPlot reports what is under it.
  addEventListener('mousemove', (event) => { state.pointer = event; }, { capture: true });
  addEventListener('pointerdown', () => { state.isPressed = true; });
  for (const end of ['pointerup', 'pointercancel']) addEventListener(end, () => { state.isPressed = false; });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => state.data && drawAll());
}

state.pointer = { clientX: 0, clientY: 0 };
listen();
await reload();
// A frame later everything is on the screen.
requestAnimationFrame(() => requestAnimationFrame(() => {
  document.documentElement.dataset.firstViewMs = Math.round(performance.now());
}));
