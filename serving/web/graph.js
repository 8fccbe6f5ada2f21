// The drawing of a workflow, whose nodes show what their steps are at.

import { put, s, say } from "./dom.js";
import { NODE, layout } from "./layout.js";

const STATES = ["failed", "waiting", "retrying", "running", "cancelled", "done"]; // what shows first

export class GraphView {
  #nodes = new Map();
  #edges = [];

  constructor(element, graph) {
    const drawn = layout(graph);
    this.#edges = drawn.edges.map((edge) => ({ edge, line: s("path", { class: "edge", d: line(edge) }) }));
    const labels = drawn.edges.filter((edge) => edge.type && !edge.back).map((edge) => label(edge, drawn.edges));
    const boxes = drawn.nodes.map((node) => this.#box(node));
    const picture = s(
      "svg",
      { viewBox: `0 0 ${drawn.width} ${drawn.height}`, role: "img", "aria-label": words(graph) },
      s("defs", {}, arrow()),
      this.#edges.map((item) => item.line),
      labels,
      boxes,
    );
    picture.style.minWidth = `${Math.round(drawn.width * 0.8)}px`; // a wide one is scrolled
    picture.style.maxWidth = `${Math.round(drawn.width * 1.1)}px`;
    put(element, picture);
  }

  show(view) {
    const counts = view.nodes();
    for (const [name, node] of this.#nodes) {
      const found = this.#ends(name, view) ?? counts.get(name) ?? {};
      const state = STATES.find((item) => found[item]) ?? "idle";
      node.box.setAttribute("class", `node ${node.kind} ${state}`);
      node.box.dataset.state = state;
      say(node.text, name === "input" || name === "output" ? "" : counted(found));
    }
    for (const { edge, line: drawn } of this.#edges) {
      const went = edge.to === "output" ? view.status === "completed" : counts.has(edge.to);
      drawn.classList.toggle("went", went && (edge.from === "input" || counts.has(edge.from)));
    }
  }

  #ends(name, view) {
    if (name === "input") return { done: 1 };
    if (name === "output") return view.status === "completed" ? { done: 1 } : {};
    return null;
  }

  #box(node) {
    const isEnd = node.kind === "input" || node.kind === "output";
    const size = isEnd ? { width: 76, height: 26 } : NODE;
    const text = s("text", { class: "counts", y: 12 });
    const title = s("text", { class: "name", y: isEnd ? 4 : -3 }, short(node.name));
    const box = s(
      "g",
      { class: `node ${node.kind} idle`, transform: `translate(${node.x} ${node.y})`, "data-node": node.name },
      s("title", {}, node.name),
      s("rect", { x: -size.width / 2, y: -size.height / 2, ...size, rx: isEnd ? 13 : 9 }),
      title,
      text,
    );
    this.#nodes.set(node.name, { box, text, kind: node.kind });
    return box;
  }
}

/** "2 running · 3 done", in the order in which one wants to know it. */
function counted(counts) {
  const found = STATES.filter((state) => counts[state]);
  if (found.length === 1 && found[0] === "done") return counts.done === 1 ? "done" : `done × ${counts.done}`;
  return found.map((state) => (counts[state] === 1 && found.length === 1 ? state : `${counts[state]} ${state}`)).join(" · ");
}

function words(graph) {
  return `Graph: ${graph.edges.map((edge) => `${edge.from} to ${edge.to}`).join(", ")}`;
}

function short(name) {
  return name.length > 15 ? `${name.slice(0, 14)}…` : name;
}

function half(name) {
  return name === "input" || name === "output" ? 13 : NODE.height / 2;
}

function line({ points, from, to, back }) {
  const first = points[0];
  const last = points.at(-1);
  if (back) return backLine(first, last);
  const way = [{ x: first.x, y: first.y + half(from) }, ...points.slice(1, -1), { x: last.x, y: last.y - half(to) - 5 }];
  let path = `M${way[0].x} ${way[0].y}`;
  for (let i = 1; i < way.length; i += 1) {
    const middle = (way[i - 1].y + way[i].y) / 2;
    path += `C${way[i - 1].x} ${middle} ${way[i].x} ${middle} ${way[i].x} ${way[i].y}`;
  }
  return path;
}

function backLine(first, last) {
  const side = Math.max(first.x, last.x) + NODE.width / 2 + 30;
  const x = NODE.width / 2;
  return `M${first.x + x} ${first.y}C${side} ${first.y} ${side} ${last.y} ${last.x + x + 5} ${last.y}`;
}

/** A type stands beside its edge, at that end which the edge shares with fewer others. */
function label({ points, from, to, type, list }, edges) {
  const atTaker = edges.filter((edge) => edge.from === from).length > 1;
  const [near, far] = atTaker ? [points.at(-1), points.at(-2)] : points;
  const y = atTaker ? near.y - half(to) - 11 : near.y + half(from) + 16;
  const isLeft = near.x < far.x;
  const side = isLeft ? -8 : 8;
  return s("text", { class: isLeft ? "type before" : "type", x: near.x + side, y }, short(list ? `${type} ×n` : type));
}

function arrow() {
  return s(
    "marker",
    { id: "arrow", viewBox: "0 0 8 8", refX: 3, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" },
    s("path", { d: "M1 1 6 4 1 7", class: "head" }),
  );
}
