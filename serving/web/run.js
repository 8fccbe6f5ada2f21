// A run as it is seen: the fold of its events. Pure; time comes with the events.

const ENDS = { "run.completed": "completed", "run.failed": "failed", "run.cancelled": "cancelled" };

const STATES = { completed: "done", failed: "failed", cancelled: "cancelled" };

export class RunView {
  constructor(run) {
    this.id = run.id;
    this.workflow = run.workflow;
    this.version = run.version;
    this.thread = run.thread;
    this.input = run.input;
    this.offset = 0;
    this.events = [];
    this.status = "running"; // until the events tell another
    this.pieces = []; // [path, text]
    this.steps = new Map(); // by path
    this.agents = new Map(); // by path
    this.calls = new Map(); // of models, by path
    this.questions = new Map(); // by path
    this.note = null; // {text, step}: the newest line about a step's work
    this.parked = null;
    this.unloaded = run.unloaded ?? null; // what to do where nobody has the run's code
    this.error = null;
    this.output = undefined;
    this.usage = null;
    this.startedAt = run.created_at;
    this.lastAt = run.created_at;
    this.receivedAt = performance.now();
  }

  get isOpen() {
    return this.status === "running" || this.status === "waiting";
  }

  /** What there is of the answer, as a person reads it. */
  get text() {
    if (this.pieces.length) return this.pieces.map(([, text]) => text).join("");
    return this.output === undefined ? "" : textOf(this.output);
  }

  /** Unix seconds, by the server's clock. */
  get now() {
    return this.isOpen ? this.lastAt + (performance.now() - this.receivedAt) / 1000 : this.lastAt;
  }

  get seconds() {
    return Math.max(0, this.now - this.startedAt);
  }

  get tokens() {
    const spent = this.usage ?? sum([...this.calls.values()].map((call) => call.usage));
    return (spent.input_tokens ?? 0) + (spent.output_tokens ?? 0);
  }

  add(event) {
    if (event.offset !== this.offset + 1) return; // it came twice
    this.offset = event.offset;
    this.events.push(event);
    if (event.offset === 1) this.startedAt = event.at;
    this.lastAt = Math.max(this.lastAt, event.at);
    this.receivedAt = performance.now();
    this.parked = event.kind === "run.parked" ? event.data : null;
    this.#take(event);
    if (this.isOpen) this.status = this.parked || this.questions.size ? "waiting" : "running";
  }

  #take(event) {
    const { kind, path, data, at } = event;
    if (kind in ENDS) return this.#end(event);
    switch (kind) {
      case "run.started":
        this.input = data.input;
        break;
      case "text.emitted":
        this.pieces.push([path, data.text]);
        break;
      case "text.discarded":
        this.pieces = this.pieces.filter(([where]) => where !== path && !where.startsWith(`${path}/`));
        break;
      case "progress.made":
        this.note = { text: data.text, step: stepOf(path) };
        break;
      case "step.started":
      case "step.completed":
        this.#step(path, kind === "step.started" ? "running" : "done");
        if (this.note?.step === stepOf(path)) this.note = null;
        break;
      case "step.failed":
        this.#step(path, data.final ? "failed" : "retrying");
        this.note = { text: `tried again after: ${data.error.message}`, step: stepOf(path) };
        break;
      case "agent.started":
        this.agents.set(path, { path, name: data.agent, state: "running", began: at });
        break;
      case "agent.completed":
      case "agent.failed":
      case "agent.cancelled":
        this.#finish(this.agents.get(path), event);
        if (kind !== "agent.completed") {
          for (const call of this.#callsOf({ path })) cancel(call, at);
        }
        break;
      case "model.started":
        this.calls.set(path, { path, ...data, state: "running", began: at });
        break;
      case "model.completed":
      case "model.failed":
      case "model.cancelled":
        this.#finish(this.calls.get(path), event);
        break;
      case "ask.opened":
        this.questions.set(path, { path, ...data });
        break;
      case "ask.answered":
      case "ask.failed":
      case "ask.cancelled":
        this.questions.delete(path);
        break;
    }
  }

  #end({ kind, data, at }) {
    this.status = ENDS[kind];
    this.output = data.output;
    this.error = data.error ?? null;
    this.usage = data.usage ?? null;
    this.questions.clear();
    for (const item of [...this.steps.values(), ...this.agents.values(), ...this.calls.values()]) {
      cancel(item, at, this.status === "failed" ? "failed" : "cancelled");
    }
  }

  /** Steps are told apart by their place; another attempt (`look_up[2]~2`) is the same step. */
  #step(path, state) {
    const place = stepOf(path);
    this.steps.set(place, { path: place, state });
  }

  #finish(item, { kind, data, at }) {
    if (!item) return;
    item.state = STATES[kind.split(".")[1]];
    item.ended = at;
    item.error = data.error;
    item.reply = { text: data.text, tool_calls: data.tool_calls };
    item.usage = data.usage;
    item.seconds = data.seconds ?? at - item.began;
    item.answeredBy = data.model;
  }

  /** How many steps of each state every node has: name -> {running, done, failed, waiting, …}. */
  nodes() {
    const asked = new Set([...this.questions.keys()].map((path) => stepOf(path)));
    if (this.parked) asked.add("");
    const found = new Map();
    for (const { path, state } of this.steps.values()) {
      const counts = found.get(nodeOf(path)) ?? {};
      const shown = state === "running" && asked.has(path) ? "waiting" : state;
      counts[shown] = (counts[shown] ?? 0) + 1;
      found.set(nodeOf(path), counts);
    }
    return found;
  }

  /** Tokens and seconds of each agent, over all of its tasks. */
  perAgent() {
    const found = new Map();
    for (const agent of this.agents.values()) {
      const row = found.get(agent.name) ?? { name: agent.name, tasks: 0, running: 0, failed: 0, read: 0, written: 0, seconds: 0 };
      const spent = sum(this.#callsOf(agent).map((call) => call.usage));
      row.tasks += 1;
      row.running += agent.state === "running";
      row.failed += agent.state === "failed";
      row.read += spent.input_tokens ?? 0;
      row.written += spent.output_tokens ?? 0;
      row.seconds += Math.max(0, (agent.ended ?? this.now) - agent.began);
      found.set(agent.name, row);
    }
    return [...found.values()];
  }

  #callsOf(agent) {
    return [...this.calls.values()].filter((call) => call.path.startsWith(`${agent.path}/`));
  }

  /** Every message that a model call was sent; those it shares with the call before come first. */
  messagesOf(call) {
    const base = this.calls.get(call.base);
    const before = base ? [...this.messagesOf(base), { role: "assistant", ...base.reply }] : [];
    return [...before, ...call.messages];
  }
}

/** End what is still under way where more than it has ended: it has no event of its own. */
function cancel(item, at, state = "cancelled") {
  if (item.state !== "running" && item.state !== "retrying") return;
  item.state = state;
  item.ended = at;
}

/** What a person reads of an input or output: itself, its `text`, or its JSON. */
export function textOf(value) {
  if (typeof value === "string") return value;
  if (value !== null && typeof value === "object" && typeof value.text === "string") return value.text;
  return JSON.stringify(value);
}

export function nodeOf(path) {
  return path.slice(0, path.search(/\[|\/|$/));
}

function stepOf(path) {
  return path.split("/")[0].replace(/~\d+$/, "");
}

function sum(usages) {
  const total = {};
  for (const usage of usages) {
    for (const [name, number] of Object.entries(usage ?? {})) total[name] = (total[name] ?? 0) + number;
  }
  return total;
}
