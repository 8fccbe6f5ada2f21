// Markdown as elements, made one by one: what a model writes never becomes HTML, and nothing that it
// names is fetched. Images are shown as their words, links with the address they lead to.

import { h } from "./dom.js";

/** Renders a growing text into an element; blocks that did not change stay as they are. */
export class MarkdownView {
  #element;
  #shown = [];

  constructor(element) {
    this.#element = element;
  }

  set(text) {
    const blocks = blocksOf(text);
    let same = 0;
    while (same < blocks.length && blocks[same] === this.#shown[same]) same += 1;
    while (this.#element.childNodes.length > same) this.#element.lastChild.remove();
    for (const block of blocks.slice(same)) this.#element.append(blockElement(block));
    this.#shown = blocks;
  }
}

/** Cut a text into the sources of its blocks: each is rendered by itself. */
export function blocksOf(text) {
  const blocks = [];
  let lines = [];
  let fence = "";
  const close = () => {
    if (lines.length) blocks.push(lines.join("\n"));
    lines = [];
  };
  for (const line of text.replace(/\r\n?/g, "\n").split("\n")) {
    const mark = line.match(/^ {0,3}(`{3,}|~{3,})/)?.[1] ?? "";
    if (fence) {
      lines.push(line);
      if (mark.startsWith(fence) && line.trim() === mark) {
        fence = "";
        close();
      }
    } else if (mark) {
      close();
      fence = mark;
      lines.push(line);
    } else if (!line.trim()) {
      close();
    } else if (/^ {0,3}#{1,6} /.test(line)) {
      close();
      blocks.push(line);
    } else {
      if (lines.length && kindOf(line) !== "text" && kindOf(line) !== kindOf(lines[0])) close();
      lines.push(line);
    }
  }
  close();
  return blocks;
}

function kindOf(line) {
  if (/^\s*[-*+] /.test(line)) return "bullets";
  if (/^\s*\d{1,9}[.)] /.test(line)) return "numbers";
  if (/^ {0,3}>/.test(line)) return "quote";
  if (/^\s*\|.*\|\s*$/.test(line)) return "table";
  return "text";
}

function blockElement(source) {
  const lines = source.split("\n");
  const [first] = lines;
  const fence = first.match(/^ {0,3}(`{3,}|~{3,})\s*(\S*)/);
  if (fence) return codeBlock(lines, fence[1]);
  const heading = first.match(/^ {0,3}(#{1,6}) +(.*?)(?: +#+)?$/);
  if (heading) return h(`h${Math.min(6, heading[1].length + 2)}`, {}, inline(heading[2]));
  if (/^ {0,3}([-*_])( *\1){2,} *$/.test(first) && lines.length === 1) return h("hr");
  const kind = kindOf(first);
  if (kind === "quote") return quote(lines);
  if (kind === "bullets" || kind === "numbers") return list(lines);
  if (kind === "table" && /^\s*\|[\s:|-]+\|\s*$/.test(lines[1] ?? "")) return table(lines);
  return h("p", {}, inline(source));
}

function codeBlock(lines, mark) {
  const last = lines.at(-1).trim();
  const end = lines.length > 1 && last.startsWith(mark) && !last.replaceAll(mark[0], "") ? -1 : undefined;
  return h("pre", { tabindex: 0 }, h("code", {}, lines.slice(1, end).join("\n")));
}

function quote(lines) {
  const inner = lines.map((line) => line.replace(/^ {0,3}> ?/, "")).join("\n");
  return h("blockquote", {}, blocksOf(inner).map(blockElement));
}

function list(lines) {
  const mark = lines[0].match(/^(\s*)(?:[-*+]|(\d{1,9})[.)]) /);
  const items = [];
  for (const line of lines) {
    const item = line.match(/^(\s*)(?:[-*+]|\d{1,9}[.)]) +(.*)$/);
    if (item && item[1].length <= mark[1].length + 1) items.push([item[2]]);
    else items.at(-1).push(line.replace(/^\s{1,4}/, ""));
  }
  const start = mark[2] && mark[2] !== "1" ? Number(mark[2]) : null;
  return h(mark[2] ? "ol" : "ul", { start }, items.map(listItem));
}

function listItem([head, ...rest]) {
  const at = rest.findIndex((line) => kindOf(line) !== "text");
  const text = [head, ...(at < 0 ? rest : rest.slice(0, at))].join("\n");
  const nested = at < 0 ? [] : blocksOf(rest.slice(at).join("\n")).map(blockElement);
  return h("li", {}, inline(text), nested);
}

function table(lines) {
  const [head, rule, ...rows] = lines.map(cells);
  const align = rule.map((cell) => (/:$/.test(cell) ? (/^:/.test(cell) ? "center" : "end") : null));
  const row = (tag) => (texts) =>
    h("tr", {}, head.map((_, i) => h(tag, { class: align[i] }, inline(texts[i] ?? ""))));
  return h("div", { class: "wide-table", tabindex: 0 },
    h("table", {}, h("thead", {}, row("th")(head)), h("tbody", {}, rows.map(row("td")))));
}

function cells(line) {
  const inner = line.trim().replace(/^\||\|$/g, "");
  return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

const INLINE = [
  [/(`+)([^`]|[^`].*?[^`])\1(?!`)/s, (m) => h("code", {}, m[2].trim() || m[2])],
  [/!\[([^\]]*)\]\(([^()\s]*)[^()]*\)/, (m) => h("span", { class: "image" }, `[image: ${m[1] || "without a name"}]`)],
  [/\[([^\]]+)\]\(([^()\s]+)(?:\s+"[^"]*")?\)/, (m) => link(m[2], inline(m[1]), m[1])],
  [/<(https?:\/\/[^\s<>]+)>|(?<![\w/])(https?:\/\/[^\s<>"'`)\]]*[^\s<>"'`)\].,;:!?])/, (m) => link(m[1] ?? m[2], [m[1] ?? m[2]], m[1] ?? m[2])],
  [/\*\*(?=\S)(.+?)(?<=\S)\*\*|(?<!\w)__(?=\S)(.+?)(?<=\S)__(?!\w)/s, (m) => h("strong", {}, inline(m[1] ?? m[2]))],
  [/\*(?=[^\s*])([^*]*[^\s*])\*|(?<![\w_])_(?=[^\s_])([^_]*[^\s_])_(?![\w_])/s, (m) => h("em", {}, inline(m[1] ?? m[2]))],
  [/~~(?=\S)(.+?)(?<=\S)~~/s, (m) => h("del", {}, inline(m[1]))],
  [/\\([!-/:-@[-`{-~])/, (m) => m[1]],
  [/(?: {2,}|\\)\n/, () => h("br")],
];

/** The nodes of a line: the earliest mark wins, what is around it is text. */
function inline(text) {
  const nodes = [];
  let rest = text;
  while (rest) {
    let found = null;
    for (const [pattern, make] of INLINE) {
      const match = pattern.exec(rest);
      if (match && (!found || match.index < found.match.index)) found = { match, make };
    }
    if (!found) break;
    const { match, make } = found;
    if (match.index) nodes.push(rest.slice(0, match.index));
    nodes.push(make(match));
    rest = rest.slice(match.index + match[0].length);
  }
  if (rest) nodes.push(rest);
  return nodes;
}

/** A link that says where it leads, so that its words cannot hide it. */
function link(address, children, words) {
  if (!/^https?:\/\//i.test(address)) return h("span", {}, children);
  const where = words === address ? null : h("span", { class: "address" }, ` (${address})`);
  return h("a", { href: address, target: "_blank", rel: "noopener noreferrer nofollow" }, children, where);
}
