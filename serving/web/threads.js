// The list of conversations: those that this browser remembers, and those that the server has.

const PLACE = "crew.threads";
const MOST = 200;

/** A conversation: {id, run, title, workflow, at, status}; `id` is a thread's, or "" for a run alone. */
export function remembered() {
  try {
    const known = JSON.parse(localStorage.getItem(PLACE) ?? "[]");
    return Array.isArray(known) ? known.filter((item) => typeof item?.id === "string") : [];
  } catch {
    return [];
  }
}

export function remember({ id, title, workflow, at }) {
  keep([{ id, title, workflow, at }, ...remembered().filter((other) => other.id !== id)].slice(0, MOST));
}

/** Leave out a conversation of which the server knows nothing. */
export function forget(id) {
  keep(remembered().filter((other) => other.id !== id));
}

function keep(items) {
  try {
    localStorage.setItem(PLACE, JSON.stringify(items));
  } catch {
    // a browser that keeps nothing: the server's list is left
  }
}

/** Put runs (the newest first) and what is remembered into one list, the newest first. */
export function merged(runs, known, textOf) {
  const found = new Map();
  for (const run of runs) {
    if (run.parent) continue;
    const name = run.thread ?? `\0${run.id}`;
    const newer = found.get(name);
    found.set(name, {
      id: run.thread ?? "",
      run: run.thread ? "" : run.id,
      workflow: newer?.workflow ?? run.workflow,
      at: newer?.at ?? run.created_at,
      status: newer?.status ?? (run.parked ? "parked" : run.status),
      title: textOf(run.input), // of its first turn, in the end
    });
  }
  for (const item of known) {
    const there = found.get(item.id);
    if (there) there.title = item.title;
    else found.set(item.id, { run: "", status: "", ...item });
  }
  return [...found.values()].sort((a, b) => b.at - a.at);
}
