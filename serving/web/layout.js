// Where the nodes and edges of a graph are drawn: layer by layer, from top to bottom.
//
// Source: Sugiyama, Tagawa, Toda, "Methods for visual understanding of hierarchical system
// structures", 1981; ordering by barycentres.

export const NODE = { width: 132, height: 40 };
const GAP = { x: 22, y: 42 };
const SWEEPS = 6;

/** Return {width, height, nodes: [{…node, x, y}], edges: [{…edge, points, back}]}; x, y are centres. */
export function layout(graph) {
  const names = graph.nodes.map((node) => node.name);
  const edges = merged(graph.edges);
  const back = backEdges(names, edges);
  const forward = edges.filter((edge) => !back.has(edge));
  const layerOf = layers(names, forward);
  const { rows, chains } = withDummies(names, forward, layerOf);
  order(rows, chains);
  const place = places(rows);
  const width = Math.max(...[...place.values()].map((p) => p.x)) + NODE.width / 2 + (back.size ? 40 : 8);
  return {
    width,
    height: rows.length * (NODE.height + GAP.y) - GAP.y + 16,
    nodes: graph.nodes.map((node) => ({ ...node, ...place.get(node.name) })),
    edges: edges.map((edge) => ({
      ...edge,
      back: back.has(edge),
      points: (chains.get(edge) ?? [edge.from, edge.to]).map((name) => place.get(name)),
    })),
  };
}

/** Edges between the same nodes are drawn as one, with all their types. */
function merged(edges) {
  const found = new Map();
  for (const edge of edges) {
    const pair = JSON.stringify([edge.from, edge.to]);
    const known = found.get(pair);
    if (known) known.type += ` | ${edge.type}`;
    else found.set(pair, { ...edge });
  }
  return [...found.values()];
}

/** Edges that close a loop, found by going through the graph in depth. */
function backEdges(names, edges) {
  const found = new Set();
  const state = new Map();
  const visit = (name) => {
    state.set(name, "open");
    for (const edge of edges.filter((item) => item.from === name)) {
      if (state.get(edge.to) === "open") found.add(edge);
      else if (!state.has(edge.to)) visit(edge.to);
    }
    state.set(name, "closed");
  };
  for (const name of names) if (!state.has(name)) visit(name);
  return found;
}

/** The longest way to each node decides its layer; the output stands below all. */
function layers(names, edges) {
  const layerOf = new Map(names.map((name) => [name, 0]));
  for (let changed = true; changed; ) {
    changed = false;
    for (const { from, to } of edges) {
      if (layerOf.get(to) <= layerOf.get(from)) {
        layerOf.set(to, layerOf.get(from) + 1);
        changed = true;
      }
    }
  }
  const others = names.filter((name) => name !== "output").map((name) => layerOf.get(name));
  if (layerOf.has("output")) layerOf.set("output", Math.max(...others) + 1);
  return layerOf;
}

/** Rows of names, where an edge over several layers has a place of its own in each. */
function withDummies(names, edges, layerOf) {
  const rows = Array.from({ length: Math.max(...layerOf.values()) + 1 }, () => []);
  for (const name of names) rows[layerOf.get(name)].push(name);
  const chains = new Map();
  for (const edge of edges) {
    const chain = [edge.from];
    for (let layer = layerOf.get(edge.from) + 1; layer < layerOf.get(edge.to); layer += 1) {
      const dummy = `\0${edge.from}\0${edge.to}\0${layer}`;
      rows[layer].push(dummy);
      chain.push(dummy);
    }
    chains.set(edge, [...chain, edge.to]);
  }
  return { rows, chains };
}

/** Let each name stand near the middle of its neighbours in the row before, and then after. */
function order(rows, chains) {
  const above = new Map();
  const below = new Map();
  for (const chain of chains.values()) {
    for (let i = 1; i < chain.length; i += 1) {
      above.set(chain[i], [...(above.get(chain[i]) ?? []), chain[i - 1]]);
      below.set(chain[i - 1], [...(below.get(chain[i - 1]) ?? []), chain[i]]);
    }
  }
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    for (let i = 1; i < rows.length; i += 1) sortBy(rows[i], rows[i - 1], above);
    for (let i = rows.length - 2; i >= 0; i -= 1) sortBy(rows[i], rows[i + 1], below);
  }
}

function sortBy(row, fixed, neighbours) {
  const at = new Map(fixed.map((name, i) => [name, i]));
  const middle = new Map(
    row.map((name, i) => {
      const near = (neighbours.get(name) ?? []).filter((other) => at.has(other));
      return [name, near.length ? near.reduce((sum, other) => sum + at.get(other), 0) / near.length : i];
    }),
  );
  row.sort((a, b) => middle.get(a) - middle.get(b));
}

function places(rows) {
  const widthOf = (name) => (name.startsWith("\0") ? 24 : NODE.width);
  const widths = rows.map((row) => row.reduce((sum, name) => sum + widthOf(name) + GAP.x, -GAP.x));
  const widest = Math.max(...widths);
  const found = new Map();
  rows.forEach((row, layer) => {
    let x = 8 + (widest - widths[layer]) / 2;
    for (const name of row) {
      found.set(name, { x: x + widthOf(name) / 2, y: 8 + NODE.height / 2 + layer * (NODE.height + GAP.y) });
      x += widthOf(name) + GAP.x;
    }
  });
  return found;
}
