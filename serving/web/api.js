// The API: requests with the key, and the events of a run, followed over broken connections.

const KEY = "crew.key";
const SILENCE = 45_000; // ms; the server says within 10 s that a stream lives
const PAUSES = [250, 500, 1000, 2000, 4000, 8000, 15_000]; // ms

export class ApiError extends Error {
  constructor(status, error) {
    super(error.message ?? `the server answered ${status}`);
    this.status = status;
    this.code = error.code;
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

/** An unguessable name for a thread or a request. */
export function newName() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export async function get(path, query = {}) {
  const known = Object.entries(query).filter(([, value]) => value != null);
  const search = new URLSearchParams(known).toString();
  return (await request("GET", search ? `${path}?${search}` : path)).json();
}

export async function post(path, body = {}) {
  return (await request("POST", path, { body })).json();
}

/** Start a run. The same request is sent again where an answer did not come: it is one run. */
export async function start(body) {
  const headers = { "Idempotency-Key": newName() };
  for (let tries = 0; ; tries += 1) {
    try {
      return await (await request("POST", "runs", { body, headers })).json();
    } catch (error) {
      if (error instanceof ApiError ? error.status !== 503 : !(error instanceof TypeError)) throw error;
      if (tries === 3) throw error;
      await pause(PAUSES[tries + 1]);
    }
  }
}

/** Hand every event of a run behind offset `after` to `take`, until its last one or `signal`.
 *
 * Whenever the connection breaks, another one goes on behind the last event that came. `link` is
 * told whether there is one: "open" or "lost".
 */
export async function follow(run, { after, take, link, signal }) {
  let offset = after;
  let failures = 0;
  while (!signal.aborted) {
    try {
      const ended = await connection(run, offset, signal, (events) => {
        failures = 0;
        offset = events.at(-1).offset;
        take(events);
      }, () => link("open"));
      if (ended) return link("open");
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ApiError && error.status < 500 && error.status !== 429) throw error;
    }
    if (signal.aborted) return;
    link("lost");
    await pause(PAUSES[Math.min(failures, PAUSES.length - 1)], signal);
    failures += 1;
  }
}

const ENDS = new Set(["run.completed", "run.failed", "run.cancelled"]);

/** Read one connection to its end; say whether the run has ended. */
async function connection(run, after, signal, take, opened) {
  const watch = new AbortController();
  const leave = () => watch.abort();
  signal.addEventListener("abort", leave);
  let timer = setTimeout(leave, SILENCE);
  try {
    const response = await request("GET", `runs/${run}/events?after=${after}`, { signal: watch.signal });
    opened();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    let last = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return ENDS.has(last) || (await isOver(run, after, last));
      clearTimeout(timer);
      timer = setTimeout(leave, SILENCE);
      const frames = (rest + value).split("\n\n");
      rest = frames.pop();
      const events = frames.map(eventOf).filter(Boolean);
      if (events.length) {
        last = events.at(-1).kind;
        take(events);
      }
    }
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", leave);
    watch.abort();
  }
}

/** A stream that ends with nothing in it was asked for behind the last event. */
async function isOver(run, after, last) {
  if (last) return false;
  const status = (await get(`runs/${run}`)).status;
  return status !== "running" && status !== "waiting";
}

function eventOf(frame) {
  const data = frame.split("\n").filter((line) => line.startsWith("data: "));
  return data.length ? JSON.parse(data.map((line) => line.slice(6)).join("\n")) : null;
}

async function request(method, path, { body, headers = {}, signal } = {}) {
  const sent = { ...headers };
  if (key.get()) sent.Authorization = `Bearer ${key.get()}`;
  if (body) sent["Content-Type"] = "application/json";
  const response = await fetch(`v1/${path}`, {
    method,
    signal,
    headers: sent,
    body: body && JSON.stringify(body),
    cache: "no-store",
    credentials: "omit",
  });
  if (!response.ok) throw new ApiError(response.status, await errorOf(response));
  return response;
}

async function errorOf(response) {
  try {
    return (await response.json()).error ?? {};
  } catch {
    return {};
  }
}

/** Wait; less where the network comes back, the page is looked at again, or nobody waits. */
function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      removeEventListener("online", end);
      document.removeEventListener("visibilitychange", end);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, milliseconds * (0.75 + Math.random() / 2));
    addEventListener("online", end);
    document.addEventListener("visibilitychange", end);
    signal?.addEventListener("abort", end);
  });
}
