// Adds up whose joules a span holds. All of it is in whole microjoules, so rows, closing entries and meters
// are compared to the last digit.

import { printable } from './dom.js';

/** What closes the books, in the order in which it is shown. */
export const CLOSING = ['other', 'irq', 'idle', 'unattributed'];
const GROUPS = ['unit', 'container', 'pod', 'job', 'machine', 'user'];

/** By what consumers can be told apart here. */
export function levels(data) {
  const has = (kind) => data.consumers.some((consumer) => consumer.kind === kind && consumer.id !== '');
  return ['program', 'process', ...GROUPS.filter(has)];
}

/** The indices of the domains that a choice means: all that a total counts, or one. */
export function chosenDomains(data, choice) {
  const indices = data.domains.map((_, index) => index);
  return new Set(choice === '' ? indices.filter((at) => data.domains[at].in_total) : [Number(choice)]);
}

/** Calls `visit` with bucket and microjoules of the chosen domains in a span of buckets. */
export function each(used, chosen, from, to, visit) {
  for (const [domain, amounts] of used) {
    if (!chosen.has(domain)) continue;
    for (let at = 0; at < amounts.length; at += 2) {
      if (amounts[at] >= to) break;
      if (amounts[at] >= from) visit(amounts[at], amounts[at + 1]);
    }
  }
}

/** The microjoules of the chosen domains in a span of buckets. */
export function sum(used, chosen, from, to) {
  let total = 0;
  each(used, chosen, from, to, (_, microjoules) => { total += microjoules; });
  return total;
}

const isClosing = (consumer) => CLOSING.includes(consumer.kind);
const isWorker = (consumer) => consumer.kind === 'process' || consumer.kind === 'program';

/** The row that a consumer belongs to; undefined if it is in none at this level. */
function rowOf(consumer, index, level) {
  if (level === 'program' && isWorker(consumer)) return `program ${consumer.name}`;
  if (level === 'process' && isWorker(consumer)) return `process ${index}`;
  return consumer.kind === level && consumer.id !== '' ? `${level} ${consumer.id}` : undefined;
}

function closingName(data, kind) {
  const entry = data.consumers.find((consumer) => consumer.kind === kind);
  return printable(entry?.name || kind);
}

function nameOf(consumer, level) {
  const name = printable(consumer.name || consumer.id);
  if (!name) return '(unknown)';
  return level === 'process' && consumer.kind === 'process' ? `${name} [${consumer.id}]` : name;
}

/**
 * Whose joules the buckets from `from` to before `to` hold: `rows` by energy, `closing` entries, their sum
 * `total`, and what the meters `measured`.
 */
export function ledger(data, { level, chosen, from, to }) {
  const rows = new Map();
  const closing = new Map(CLOSING.map((kind) => [kind, 0]));
  let [workers, grouped] = [0, 0];
  data.consumers.forEach((consumer, index) => {
    const used = sum(consumer.used_uj, chosen, from, to);
    if (used === 0) return;
    if (isClosing(consumer)) closing.set(consumer.kind, closing.get(consumer.kind) + used);
    if (isWorker(consumer)) workers += used;
    const key = rowOf(consumer, index, level);
    if (key === undefined) return;
    grouped += used;
    const row = rows.get(key) ?? { key, name: nameOf(consumer, level), used: 0, processes: 0 };
    row.used += used;
    row.processes += consumer.kind === 'process' ? 1 : 0;
    rows.set(key, row);
  });
  // Processes that are in no group of this level.
  const rest = workers - grouped;
  if (rest !== 0) rows.set('rest', { key: 'rest', name: `(no ${level})`, used: rest, processes: 0 });
  const sorted = [...rows.values()].sort((a, b) => b.used - a.used || (a.name < b.name ? -1 : 1));
  const entries = CLOSING.map((key) => ({ key, name: closingName(data, key), used: closing.get(key) }));
  const measured = data.domains.reduce(
    (all, domain, index) => all + sum([[index, domain.measured_uj]], chosen, from, to), 0);
  return {
    rows: sorted,
    closing: entries.filter(({ key, used }) => used !== 0 || key === 'idle' || key === 'unattributed'),
    total: workers + entries.reduce((all, entry) => all + entry.used, 0),
    measured,
  };
}

/**
 * Microjoules by bucket for the chart, the lowest layer first: the closing entries, what is in none of the
 * other layers, and the rows of most energy.
 */
export function layers(data, { level, chosen }, most) {
  const all = ledger(data, { level, chosen, from: 0, to: data.buckets });
  const top = all.rows.filter(({ key }) => key !== 'rest').slice(0, most);
  const found = new Map();
  const layer = (key, name) => {
    if (!found.has(key)) found.set(key, { key, name, used: new Float64Array(data.buckets) });
    return found.get(key).used;
  };
  top.forEach(({ key, name }) => layer(key, name));
  const rest = layer('rest', all.rows.length > top.length + 1 ? `other ${level}s` : `(no ${level})`);
  data.consumers.forEach((consumer, index) => {
    const add = (used, sign) => each(
      consumer.used_uj, chosen, 0, data.buckets, (at, amount) => { used[at] += sign * amount; });
    if (isClosing(consumer)) add(layer(consumer.kind, closingName(data, consumer.kind)), 1);
    // All that processes use is in the rest, and what has a layer of its own is taken out again.
    if (isWorker(consumer)) add(rest, 1);
    const own = found.get(rowOf(consumer, index, level));
    if (own !== undefined) {
      add(own.used, 1);
      add(rest, -1);
    }
  });
  const order = [...[...CLOSING].reverse(), 'rest', ...top.map(({ key }) => key).reverse()];
  return order.map((key) => found.get(key)).filter((one) => one?.used.some((amount) => amount !== 0));
}

/** The document, with what is computed of it once. */
export function prepare(fields) {
  const edges = fields.edges_us;
  const zero = fields.is_relative && edges.length ? edges[0] : 0;
  return {
    ...fields,
    buckets: Math.max(edges.length - 1, 0),
    // In seconds, as the chart has them.
    times: edges.map((edge) => (edge - zero) / 1e6),
    lengths: edges.slice(1).map((edge, at) => (edge - edges[at]) / 1e6),
    isGap: new Set(fields.gaps),
  };
}
