// The page put together: what is chosen, what is asked, and which runs are followed.

import * as api from "./api.js";
import { TurnView, skeleton } from "./chat.js";
import { h, put, say } from "./dom.js";
import { Inbox } from "./inbox.js";
import { Inspector } from "./inspector.js";
import { RunView, textOf } from "./run.js";
import { forget, merged, remember, remembered } from "./threads.js";

const NAMES = { running: "running", waiting: "waiting", parked: "parked" };
const TURNS = 50; // of a conversation that are shown
const at = (id) => document.getElementById(id);
const page = {
  title: at("title"), notice: at("notice"), scroll: at("scroll"), welcome: at("welcome"), turns: at("turns"),
  composer: at("composer"), question: at("question"), workflow: at("workflow"), link: at("link"),
  send: at("send"), stop: at("stop"), list: at("thread-list"), key: at("key"), shade: at("shade"),
};

let thread = ""; // the conversation's name; "" where a run stands alone
let turns = []; // [{view, turn}] of the conversation, the oldest first
let selected = null; // the run that the inspector shows
let conversation = new AbortController(); // ends what follows the runs of the one before
let shown = Promise.resolve(); // until what the address names is on the page
let listed = []; // conversations
const models = new Map(); // workflow -> a promise of what the API tells of it
let toShow = new Set(); // turns that changed since the last frame

const inbox = new Inbox({ box: at("inbox"), count: at("inbox-count"), list: at("inbox-list") });
const inspector = new Inspector(at("run"), { close: () => open(""), cancel });

// What is on the screen.

function changed(item) {
  if (!toShow.size) requestAnimationFrame(draw);
  toShow.add(item);
}

function draw() {
  const { scrollHeight, scrollTop, clientHeight } = page.scroll;
  const follows = scrollHeight - scrollTop - clientHeight < 80;
  for (const item of toShow) item.turn.show();
  if (selected && toShow.has(selected)) inspector.show();
  toShow = new Set();
  showComposer();
  if (follows) page.scroll.scrollTop = page.scroll.scrollHeight;
}

/** Whether the newest turn is under way: not where it is old, and only its events are still to come. */
function isBusy() {
  const last = turns.at(-1);
  return Boolean(last?.isNews && last.view.isOpen);
}

function showComposer() {
  const busy = isBusy();
  page.stop.hidden = !busy;
  page.send.hidden = busy;
  page.welcome.hidden = turns.length > 0;
  document.title = turns.length ? `${page.title.textContent} · crew` : "crew";
}

function notice(text) {
  page.notice.hidden = !text;
  say(page.notice, text);
}

function trouble(error) {
  if (error instanceof api.ApiError && error.status === 401) {
    notice("This server needs a key. Enter it below the conversations.");
    open("threads");
    page.key.focus();
  } else {
    notice(error instanceof api.ApiError ? error.message : "The server cannot be reached; try again in a moment.");
  }
}

function link(state) {
  say(page.link, state === "lost" ? "connection lost, trying again …" : "");
}

function open(drawer) {
  document.body.dataset.open = drawer;
  page.shade.hidden = !drawer;
  at("show-threads").setAttribute("aria-expanded", String(drawer === "threads"));
  at("show-run").setAttribute("aria-expanded", String(drawer === "run"));
}

function setHash() {
  const alone = !thread && selected;
  const place = new URLSearchParams();
  if (thread) place.set("thread", thread);
  if (alone || (selected && selected !== turns.at(-1))) place.set("run", selected.view.id);
  const hash = `#${place}`;
  if (hash === location.hash || (hash === "#" && !location.hash)) return;
  const here = new URLSearchParams(location.hash.slice(1)).get("thread") ?? "";
  if (here === thread) history.replaceState(null, "", hash);
  else history.pushState(null, "", hash);
}

// Workflows.

function model(name) {
  if (!models.has(name)) {
    const found = api.get(`models/${encodeURIComponent(name)}`).then((found) => found.crew);
    found.catch(() => models.delete(name));
    models.set(name, found);
  }
  return models.get(name);
}

async function loadModels() {
  const { data } = await api.get("models");
  const chosen = page.workflow.value;
  put(page.workflow, data.map(({ id }) => h("option", { value: id }, id)));
  if (data.some(({ id }) => id === chosen)) page.workflow.value = chosen;
  await showInput();
}

async function showInput() {
  const name = page.workflow.value;
  if (!name) return;
  const { input, graph } = await model(name);
  if (page.workflow.value !== name) return;
  page.question.placeholder = takesText(input) ? `Ask ${name} …` : skeleton(input);
  const steps = graph.nodes.filter((node) => node.kind !== "input" && node.kind !== "output");
  put(page.welcome, h("h2", {}, "What do you want to know?"),
    h("p", {}, `${name} answers in ${steps.length === 1 ? "one step" : `${steps.length} steps`}: ${steps.map((node) => node.name).join(", ")}. You see each of them at work, and what every answer rests on.`));
  if (!turns.length) inspector.select(null, null);
}

function takesText(input) {
  return input.type === "string" || input.properties?.text?.type === "string";
}

/** What is written becomes the workflow's input: its text, or the JSON that it must be. */
function inputOf(schema, text) {
  if (schema.type === "string") return text;
  if (schema.properties?.text?.type === "string" && !text.startsWith("{")) return { text };
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${page.workflow.value} takes JSON such as ${skeleton(schema)}: ${error.message}`);
  }
}

// Runs.

function add(run) {
  const view = new RunView(run);
  const item = { view, turn: null, isNews: run.status === "running" || run.status === "waiting" };
  item.turn = new TurnView(view, {
    select: () => {
      select(item);
      open("run");
    },
    answer: (key, value) => api.post(`runs/${view.id}/answer`, { key, value }),
  });
  turns.push(item);
  page.turns.append(item.turn.element);
  return item;
}

async function select(item) {
  selected = item;
  for (const other of turns) other.turn.mark(other === item);
  setHash();
  const graph = await model(item.view.workflow).then((found) => found.graph, () => null);
  if (selected === item) inspector.select(item.view, graph);
}

/** Read all of a run's events there are, and then those that come. */
async function followed(item, signal) {
  const take = (events) => {
    for (const event of events) item.view.add(event);
    changed(item);
    if (item.isNews && !item.view.isOpen) refresh();
    else if (item.isNews && events.some(({ kind }) => kind.startsWith("ask."))) inbox.refresh();
  };
  try {
    await api.follow(item.view.id, { after: item.view.offset, take, link, signal });
  } catch (error) {
    if (!signal.aborted) trouble(error);
  }
}

async function ask() {
  const text = page.question.value.trim();
  const name = page.workflow.value;
  if (!text || !name || page.send.disabled) return;
  page.send.disabled = true;
  notice("");
  try {
    // The page may still be on its way to what the address names, and would leave this run for it.
    await shown;
    if (isBusy()) return;
    const { input } = await model(name);
    if (!thread && turns.length) leave();
    thread ||= api.newName();
    const { signal } = conversation;
    const run = await api.start({ workflow: name, input: inputOf(input, text), thread });
    if (signal.aborted) return;
    page.question.value = "";
    grow();
    asked(run, signal);
  } catch (error) {
    if (error instanceof api.ApiError || error instanceof TypeError) trouble(error);
    else notice(error.message);
  } finally {
    page.send.disabled = false;
  }
}

function asked(run, signal) {
  const item = add(run);
  const title = turns.length === 1 ? textOf(run.input) : page.title.textContent;
  say(page.title, title);
  remember({ id: thread, title, workflow: run.workflow, at: run.created_at });
  select(item);
  showComposer();
  page.scroll.scrollTop = page.scroll.scrollHeight;
  followed(item, signal);
  refresh();
}

async function cancel(view) {
  try {
    await api.post(`runs/${view.id}/cancel`);
  } catch (error) {
    trouble(error);
  }
}

// Conversations.

function leave() {
  conversation.abort();
  conversation = new AbortController();
  thread = "";
  turns = [];
  selected = null;
  toShow = new Set();
  put(page.turns);
  link("open");
  notice("");
  say(page.title, "New conversation");
  inspector.select(null, null);
}

function begin() {
  leave();
  open("");
  history.pushState(null, "", "#");
  showComposer();
  showList();
  page.question.focus();
}

/** Show the conversation that the address names: its runs from the server, each with its events. */
async function show() {
  const place = new URLSearchParams(location.hash.slice(1));
  const wanted = { thread: place.get("thread") ?? "", run: place.get("run") ?? "" };
  leave();
  thread = wanted.thread;
  const { signal } = conversation;
  try {
    const runs = await runsOf(wanted);
    if (signal.aborted) return;
    for (const run of runs) add(run);
    if (runs.length) opened(wanted);
    else forget(thread);
    showComposer();
    showList();
    followTurns(signal);
  } catch (error) {
    if (!signal.aborted) trouble(error);
  }
}

/** Read the events of every turn; the newest first: it is looked at, and may still be under way. */
async function followTurns(signal) {
  const [newest, ...older] = [...turns].reverse();
  if (newest) followed(newest, signal);
  for (const item of older) await followed(item, signal);
}

function opened(wanted) {
  const known = remembered().find((item) => item.id === thread);
  say(page.title, known?.title ?? textOf(turns[0].view.input));
  const { workflow } = turns.at(-1).view;
  if ([...page.workflow.options].some((option) => option.value === workflow)) page.workflow.value = workflow;
  showInput();
  select(turns.find((item) => item.view.id === wanted.run) ?? turns.at(-1));
  requestAnimationFrame(() => (page.scroll.scrollTop = page.scroll.scrollHeight));
}

async function runsOf({ thread: name, run }) {
  if (name) return (await api.get("runs", { thread: name, limit: TURNS })).data.reverse();
  return run ? [await api.get(`runs/${run}`)] : [];
}

async function refresh() {
  inbox.refresh();
  try {
    const { data } = await api.get("runs", { limit: 100 });
    listed = merged(data, remembered(), textOf);
    showList();
  } catch {
    // the list is old for a while; what is asked next says why
  }
}

function showList() {
  const here = (item) => (thread ? item.id === thread : item.run && item.run === turns[0]?.view.id);
  put(page.list, listed.map((item) => {
    const place = new URLSearchParams(item.id ? { thread: item.id } : { run: item.run });
    return h("li", {}, h("a", { href: `#${place}`, "aria-current": here(item) ? "page" : null, onclick: () => open("") },
      h("span", { class: "words" }, item.title || "(nothing)"),
      h("small", {}, item.workflow, NAMES[item.status] ? h("b", { "data-state": item.status }, NAMES[item.status]) : null)));
  }));
}

// What a person does.

function grow() {
  page.question.style.height = "auto";
  page.question.style.height = `${page.question.scrollHeight + 2}px`;
}

function listen() {
  page.composer.addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  page.question.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    ask();
  });
  page.question.addEventListener("input", grow);
  page.workflow.addEventListener("change", () => showInput().catch(trouble));
  page.stop.addEventListener("click", () => cancel(turns.at(-1).view));
  at("new").addEventListener("click", begin);
  at("show-threads").addEventListener("click", () => open("threads"));
  at("show-run").addEventListener("click", () => open("run"));
  page.shade.addEventListener("click", () => open(""));
  at("key-form").addEventListener("submit", (event) => event.preventDefault());
  page.key.addEventListener("change", () => {
    api.key.set(page.key.value.trim());
    models.clear();
    load();
  });
  addEventListener("popstate", () => (shown = show()));
  addEventListener("keydown", (event) => event.key === "Escape" && open(""));
  document.addEventListener("visibilitychange", () => document.hidden || refresh());
  setInterval(() => {
    for (const { view, turn } of turns) if (view.isOpen) turn.tick();
    if (selected?.view.isOpen) inspector.tick();
  }, 500);
}

async function load() {
  notice("");
  try {
    shown = loadModels().then(show);
    await Promise.all([shown, refresh()]);
  } catch (error) {
    trouble(error);
  }
}

page.key.value = api.key.get();
listen();
load();
