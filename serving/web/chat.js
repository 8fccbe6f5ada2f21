// One turn of a conversation: what was asked, the answer as it comes, and what it rests on.

import { count, h, put, say, seconds } from "./dom.js";
import { MarkdownView } from "./markdown.js";
import { textOf } from "./run.js";

const LABELS = { running: "running", completed: "done", failed: "failed", cancelled: "cancelled" };

export class TurnView {
  #parts = {};
  #markdown;
  #cards = new Map(); // of questions, by path
  #done = "";

  /** `acts` are what a person may do: select(), answer(key, value) -> a promise. */
  constructor(view, acts) {
    this.view = view;
    this.acts = acts;
    const parts = this.#parts;
    parts.answer = h("div", { class: "answer" });
    parts.activity = h("p", { class: "activity", role: "status" });
    parts.asks = h("div", { class: "asks" });
    parts.error = h("div", { class: "error", role: "alert", hidden: true });
    parts.sources = h("div", { class: "sources" });
    parts.facts = h("span", { class: "facts" });
    parts.select = h("button", { type: "button", class: "link", onclick: () => acts.select() }, "Look into this run");
    this.#markdown = new MarkdownView(parts.answer);
    this.element = h(
      "li",
      { class: "turn", "data-run": view.id },
      h("div", { class: "asked" }, textOf(view.input)),
      parts.answer,
      parts.activity,
      parts.asks,
      parts.error,
      parts.sources,
      h("footer", {}, parts.facts, parts.select),
    );
    this.show();
  }

  show() {
    const { view } = this;
    this.element.dataset.status = view.status;
    this.element.setAttribute("aria-busy", String(view.isOpen));
    this.#markdown.set(view.text);
    this.#showActivity();
    this.#showQuestions();
    this.#showEnd();
    this.tick();
  }

  /** Show what changes with time alone. */
  tick() {
    const { view } = this;
    const state = view.status === "waiting" ? waitsFor(view) : LABELS[view.status];
    const facts = [view.workflow, state, seconds(view.seconds)];
    if (view.tokens) facts.push(count(view.tokens, "token"));
    say(this.#parts.facts, facts.join(" · "));
  }

  mark(selected) {
    this.element.classList.toggle("selected", selected);
    this.#parts.select.setAttribute("aria-pressed", String(selected));
  }

  #showActivity() {
    const { view } = this;
    const { activity } = this.#parts;
    activity.hidden = view.status !== "running";
    if (activity.hidden) return;
    const working = [...view.nodes()].filter(([, counts]) => counts.running || counts.retrying);
    const names = working.map(([name, counts]) => (counts.running > 1 ? `${name} × ${counts.running}` : name));
    const doing = names.join(", ") || (view.offset > 1 ? "going on" : "waiting for its turn");
    say(activity, view.note ? `${doing} — ${view.note.text}` : doing);
  }

  #showQuestions() {
    const { view } = this;
    for (const [path, card] of this.#cards) {
      if (view.questions.has(path)) continue;
      card.remove();
      this.#cards.delete(path);
    }
    for (const [path, question] of view.questions) {
      if (this.#cards.has(path)) continue;
      const card = question.to
        ? h("p", { class: "awaited" }, awaited(question))
        : questionCard(question, (value) => this.acts.answer(path, value));
      this.#cards.set(path, card);
      this.#parts.asks.append(card);
    }
  }

  #showEnd() {
    const { view } = this;
    const { error, sources } = this.#parts;
    const trouble = troubleOf(view);
    error.hidden = !trouble;
    if (trouble && error.dataset.of !== trouble.title) {
      error.dataset.of = trouble.title;
      put(error, h("strong", {}, trouble.title), h("p", {}, trouble.text));
    }
    if (view.status === this.#done) return;
    this.#done = view.status;
    put(sources, view.status === "completed" ? sourcesOf(view.output) : []);
  }
}

function troubleOf(view) {
  if (view.error) return { title: `${view.error.type} in ${view.error.path || "the run"}`, text: view.error.message };
  if (view.status === "cancelled") return { title: "Cancelled", text: "The run was stopped before its answer was complete." };
  if (view.parked) {
    const { reason, detail } = view.parked;
    return { title: `Parked: ${reason}`, text: `${detail} — choose a way on with: crew show ${view.id}` };
  }
  if (view.isOpen && view.unloaded) return { title: "Its code is not loaded", text: view.unloaded };
  return null;
}

function waitsFor(view) {
  const asked = [...view.questions.values()];
  if (asked.length && asked.every(({ to }) => to)) return awaited(asked[0]);
  return view.parked ? "waiting for a decision" : "waiting for you";
}

/** What a conversation says of a question that is for somebody else: it is answered under Questions. */
function awaited({ to }) {
  return `waiting for ${to}`;
}

/** What a claim rests on: word for word quotes with their source, or code that ran. */
function sourcesOf(output) {
  if (output === null || typeof output !== "object") return [];
  const claims = Array.isArray(output.claims) ? output.claims.filter((claim) => typeof claim?.text === "string") : [];
  const proven = claims.filter((claim) => claim.quotes?.length || claim.code);
  if (proven.length) {
    return [h("details", { open: true }, h("summary", {}, `Where this comes from (${count(proven.length, "claim")})`), h("ol", {}, proven.map(claimItem)))];
  }
  const names = Array.isArray(output.sources) ? output.sources.filter((name) => typeof name === "string" && name) : [];
  if (!names.length) return [];
  return [h("details", {}, h("summary", {}, count(names.length, "source")), h("ul", {}, names.map((name) => h("li", {}, name))))];
}

function claimItem(claim) {
  const quotes = (claim.quotes ?? []).map((quote) =>
    h("figure", {}, h("blockquote", {}, quote.text), h("figcaption", {}, [quote.source, quote.heading].filter(Boolean).join(" · "))));
  const code = claim.code
    ? h("figure", {}, h("pre", { tabindex: 0 }, h("code", {}, claim.code)), h("figcaption", {}, "this code ran and printed ", h("samp", {}, claim.printed.trim())))
    : null;
  return h("li", {}, h("p", {}, claim.text), quotes, code);
}

/** A question that is answered here; `answer(value)` returns a promise. */
export function questionCard(question, answer) {
  const trouble = h("p", { class: "trouble", role: "alert", hidden: true });
  const form = h("form", { class: "ask", "data-key": question.key }, h("p", {}, question.question));
  const send = async (value) => {
    form.inert = true;
    trouble.hidden = true;
    try {
      await answer(value);
    } catch (error) {
      trouble.hidden = false;
      say(trouble, error.message);
      form.inert = false;
    }
  };
  form.append(...controls(question.schema ?? {}, send, trouble), trouble);
  return form;
}

function controls(schema, send, trouble) {
  if (schema.type === "boolean") return choices([["Yes", true], ["No", false]], send);
  if (Array.isArray(schema.enum)) return choices(schema.enum.map((value) => [textOf(value), value]), send);
  const isText = schema.type === "string";
  const field = h("textarea", { rows: isText ? 1 : 3, "aria-label": "Your answer", placeholder: isText ? "Your answer" : skeleton(schema), class: isText ? null : "code", spellcheck: String(isText) });
  const submit = (event) => {
    event.preventDefault();
    try {
      send(isText ? field.value : JSON.parse(field.value));
    } catch (error) {
      trouble.hidden = false;
      say(trouble, `This must be JSON: ${error.message}`);
    }
  };
  const button = h("button", { type: "button", class: "primary", onclick: submit }, "Answer");
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
  });
  return [h("div", { class: "row" }, field, button)];
}

function choices(pairs, send) {
  return [h("div", { class: "row" }, pairs.map(([name, value], i) => h("button", { type: "button", class: i ? null : "primary", onclick: () => send(value) }, name)))];
}

/** An object of a schema's fields to begin with, as JSON. */
export function skeleton(schema) {
  if (!schema.properties) return schema.type ? `JSON: ${schema.type}` : "JSON";
  const fields = Object.entries(schema.properties).map(([name, part]) => `"${name}": ${part.default !== undefined ? JSON.stringify(part.default) : "…"}`);
  return `{${fields.join(", ")}}`;
}
