// The look into one run: its graph, what its agents used, every prompt, and every event.

import { count, h, put, say, seconds } from "./dom.js";
import { GraphView } from "./graph.js";

const TABS = ["Agents", "Prompts", "Events"];
const MOST_ROWS = 1000; // newer events are shown first; older ones on request

export class Inspector {
  #view = null;
  #graph = null;
  #parts = {};
  #tab = "Agents";
  #shownPrompts = new Map(); // call's path -> the state it is shown in
  #eventsShown = 0;
  #hidesText = true;

  constructor(element, { close, cancel }) {
    const parts = this.#parts;
    parts.id = h("code", { class: "id" });
    parts.state = h("span", { class: "chip" });
    parts.sum = h("p", { class: "sum" });
    parts.graph = h("div", { class: "graph", tabindex: 0, role: "region", "aria-label": "Graph of the run" });
    parts.cancel = h("button", { type: "button", class: "quiet", hidden: true, onclick: () => cancel(this.#view) }, "Cancel run");
    parts.tabs = TABS.map((name) => this.#tabButton(name));
    parts.panels = new Map(TABS.map((name) => [name, h("div", { role: "tabpanel", id: `panel-${name}`, "aria-labelledby": `tab-${name}`, tabindex: 0 })]));
    parts.body = h("div", { class: "inside" },
      h("section", { class: "head" }, h("div", { class: "row" }, parts.state, parts.id, parts.cancel), parts.sum),
      parts.graph,
      h("div", { role: "tablist", "aria-label": "What to see of the run", class: "tabs" }, parts.tabs),
      [...parts.panels.values()],
    );
    parts.empty = h("p", { class: "empty" }, "What a run does is shown here: its graph, its agents, every prompt and every event.");
    put(element, h("header", {}, h("h2", {}, "Run"), h("button", { type: "button", class: "quiet close", onclick: close }, "Close")), parts.empty, parts.body);
    this.#select("Agents");
    this.select(null, null);
  }

  /** Show this run from now on; `graph` is its workflow's, or null if that is not known. */
  select(view, graph) {
    this.#view = view;
    this.#shownPrompts.clear();
    this.#eventsShown = 0;
    const parts = this.#parts;
    parts.empty.hidden = Boolean(view);
    parts.body.hidden = !view;
    for (const panel of parts.panels.values()) put(panel);
    this.#graph = graph ? new GraphView(parts.graph, graph) : null;
    if (!graph) put(parts.graph);
    if (view) this.show();
  }

  show() {
    const view = this.#view;
    if (!view) return;
    const parts = this.#parts;
    say(parts.id, view.id);
    say(parts.state, view.status);
    parts.state.dataset.state = view.status;
    parts.cancel.hidden = !view.isOpen;
    this.#graph?.show(view);
    this.tick();
    if (this.#tab === "Prompts") this.#showPrompts();
    if (this.#tab === "Events") this.#showEvents();
  }

  /** Show what changes with time alone. */
  tick() {
    const view = this.#view;
    if (!view) return;
    const facts = [`${view.workflow} ${view.version}`, seconds(view.seconds), count(view.tokens, "token"), count(view.offset, "event")];
    say(this.#parts.sum, facts.join(" · "));
    if (this.#tab === "Agents") this.#showAgents();
  }

  #showAgents() {
    const rows = this.#view.perAgent();
    const panel = this.#parts.panels.get("Agents");
    if (!rows.length) return put(panel, h("p", { class: "empty" }, "No agent has begun to work."));
    const cells = rows.map((row) => h("tr", { "data-agent": row.name },
      h("th", { scope: "row" }, row.name, h("small", {}, tasks(row))),
      h("td", {}, tokens(row, row.read)),
      h("td", {}, tokens(row, row.written)),
      h("td", {}, seconds(row.seconds))));
    return put(panel, h("table", { class: "agents" },
      h("thead", {}, h("tr", {}, ["Agent", "Tokens in", "out", "Time"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, cells)));
  }

  #showPrompts() {
    const panel = this.#parts.panels.get("Prompts");
    const calls = [...this.#view.calls.values()];
    if (!calls.length) return put(panel, h("p", { class: "empty" }, "No model was asked anything."));
    panel.querySelector(":scope > .empty")?.remove();
    for (const call of calls) this.#showPrompt(panel, call);
  }

  #showPrompt(panel, call) {
    if (this.#shownPrompts.get(call.path) === call.state) return;
    const old = [...panel.children].find((child) => child.dataset.path === call.path);
    const facts = [call.state === "done" ? null : call.state, call.answeredBy ?? call.model, call.usage ? count((call.usage.input_tokens ?? 0) + (call.usage.output_tokens ?? 0), "token") : null, call.seconds != null ? seconds(call.seconds) : null];
    const fresh = lazy(
      { class: "prompt", "data-path": call.path },
      [h("span", { class: "path" }, call.path), h("small", {}, facts.filter(Boolean).join(" · "))],
      () => this.#messages(call),
      old?.open,
    );
    if (old) old.replaceWith(fresh);
    else panel.append(fresh);
    this.#shownPrompts.set(call.path, call.state);
  }

  #messages(call) {
    const earlier = call.history ? h("p", { class: "empty" }, `… ${count(call.history, "message")} of earlier turns`) : null;
    const sent = this.#view.messagesOf(call).map((message) => messageItem(message, message.role));
    const answer = call.reply?.text != null || call.reply?.tool_calls?.length ? messageItem(call.reply, "reply") : null;
    const error = call.error ? h("div", { class: "message failed" }, h("h4", {}, call.error.type), h("pre", {}, call.error.message)) : null;
    const [first, ...rest] = sent;
    return first ? [first, earlier, ...rest, answer, error] : [earlier, answer, error];
  }

  #showEvents() {
    const panel = this.#parts.panels.get("Events");
    if (!panel.firstChild) this.#beginEvents(panel);
    const list = panel.querySelector("ol");
    const fresh = this.#view.events.slice(this.#eventsShown);
    this.#eventsShown = this.#view.events.length;
    list.append(...fresh.map((event) => eventItem(event, this.#view.startedAt)));
  }

  #beginEvents(panel) {
    const box = h("input", { type: "checkbox", onchange: () => {
      this.#hidesText = box.checked;
      list.classList.toggle("no-text", box.checked);
    } });
    box.checked = this.#hidesText;
    const list = h("ol", { class: this.#hidesText ? "events no-text" : "events" });
    const skipped = Math.max(0, this.#view.events.length - MOST_ROWS);
    this.#eventsShown = skipped;
    const more = h("button", { type: "button", class: "link", onclick: () => {
      const older = this.#view.events.slice(0, skipped);
      list.prepend(...older.map((event) => eventItem(event, this.#view.startedAt)));
      more.remove();
    } }, `Show ${count(skipped, "earlier event")}`);
    put(panel, h("label", { class: "check" }, box, " without the answer's pieces"), skipped ? more : null, list);
  }

  #tabButton(name) {
    return h("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": `panel-${name}`,
      onclick: () => this.#select(name),
      onkeydown: (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        const next = TABS[(TABS.indexOf(name) + step + TABS.length) % TABS.length];
        this.#select(next);
        document.getElementById(`tab-${next}`).focus();
      } }, name);
  }

  #select(name) {
    this.#tab = name;
    for (const tab of this.#parts.tabs) {
      const chosen = tab.id === `tab-${name}`;
      tab.setAttribute("aria-selected", String(chosen));
      tab.tabIndex = chosen ? 0 : -1;
    }
    for (const [other, panel] of this.#parts.panels) panel.hidden = other !== name;
    if (this.#view) this.show();
  }
}

function tasks(row) {
  const parts = [count(row.tasks, "task")];
  if (row.running) parts.push(row.running === row.tasks ? "running" : `${row.running} running`);
  if (row.failed) parts.push(`${row.failed} failed`);
  return parts.join(", ");
}

/** Tokens are counted when a call is done. */
function tokens(row, number) {
  return number || !row.running ? number.toLocaleString("en") : "…";
}

function messageItem(message, role) {
  const calls = (message.tool_calls ?? []).map((call) => h("pre", { class: "call" }, `${call.name}(${JSON.stringify(call.arguments)})`));
  const text = message.text ? h("pre", { tabindex: 0 }, message.text) : null;
  return h("div", { class: `message ${role}` }, h("h4", {}, role), text, calls);
}

function eventItem(event, startedAt) {
  const item = lazy(
    {},
    [
      h("span", { class: "offset" }, String(event.offset)),
      h("span", { class: "kind" }, event.kind),
      h("span", { class: "path" }, h("bdi", {}, event.path)),
      h("time", {}, `+${(event.at - startedAt).toFixed(2)}`),
    ],
    () => [h("pre", { tabindex: 0 }, JSON.stringify(event.data, null, 2))],
  );
  return h("li", { class: event.kind.startsWith("text.") ? "text" : null, "data-offset": event.offset }, item);
}

/** Details whose content is made when they are opened. */
function lazy(properties, summary, content, open = false) {
  const details = h("details", properties, h("summary", {}, summary));
  const fill = () => {
    if (details.open && details.childNodes.length === 1) details.append(...content().filter(Boolean));
  };
  details.addEventListener("toggle", fill);
  details.open = open;
  fill();
  return details;
}
