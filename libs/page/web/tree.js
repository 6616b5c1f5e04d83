// The process tree with the joules of a span: a node has what its process used and what its descendants did.

import { printable } from './dom.js';

/**
 * The root of the tree, whose total is that of the span. `isMerged` puts processes of one program that have
 * one parent into one node.
 */
export function processTree(data, books, isMerged, usedBy) {
  const root = node('all', 'all');
  const nodes = new Map();
  // From the oldest ancestor down, without recursion: chains of processes can be long.
  const nodeOf = (index) => {
    const path = [];
    for (let at = index; at !== undefined && !nodes.has(at); at = data.consumers[at].parent) path.push(at);
    for (const at of path.reverse()) {
      const { name, id, parent } = data.consumers[at];
      const above = parent === undefined ? root : nodes.get(parent);
      const shown = printable(name || id) || '(unknown)';
      const key = isMerged ? shown : `${shown} [${id}] ${at}`;
      if (!above.byKey.has(key)) above.byKey.set(key, node(isMerged ? shown : `${shown} [${id}]`, shown));
      nodes.set(at, above.byKey.get(key));
      nodes.get(at).processes += 1;
      // Of one process: where the document has it.
      if (!isMerged) nodes.get(at).index = at;
    }
    return nodes.get(index);
  };
  data.consumers.forEach(({ kind, name }, index) => {
    const used = kind === 'process' || kind === 'program' ? usedBy(index) : 0;
    if (used === 0) return;
    if (kind === 'process') {
      nodeOf(index).own += used;
      return;
    }
    // Only the program is known.
    const shown = printable(name) || '(unknown)';
    if (!root.byKey.has(`program ${shown}`)) root.byKey.set(`program ${shown}`, node(shown, shown));
    root.byKey.get(`program ${shown}`).own += used;
  });
  for (const entry of books.closing.filter(({ used }) => used > 0)) {
    const made = Object.assign(node(entry.name, entry.name), { own: entry.used, entry: entry.key });
    root.byKey.set(`entry ${entry.key}`, made);
  }
  addUp(root);
  return root;
}

function node(name, program) {
  return { name, program, own: 0, total: 0, processes: 0, byKey: new Map(), children: [] };
}

/** Totals of all nodes, and their children by energy. */
function addUp(root) {
  const order = [root];
  for (let at = 0; at < order.length; at += 1) {
    for (const child of order[at].byKey.values()) {
      child.parent = order[at];
      order.push(child);
    }
  }
  for (const one of order.reverse()) {
    one.children = [...one.byKey.values()].filter(({ total }) => total > 0).sort((a, b) => b.total - a.total);
    one.total = one.own + one.children.reduce((sum, child) => sum + child.total, 0);
  }
}
