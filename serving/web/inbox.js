// What runs ask of whoever looks at the page, in all conversations: answered where it is listed.

import * as api from "./api.js";
import { questionCard } from "./chat.js";
import { h, put, say } from "./dom.js";

const PAUSE = 3000; // ms between two looks, while the list is open
const MOST = 50;

export class Inbox {
  #cards = new Map(); // id of a question -> its element

  /** `parts` are elements: box, count, list. */
  constructor(parts) {
    this.parts = parts;
    parts.box.addEventListener("toggle", () => this.refresh());
    setInterval(() => parts.box.open && !document.hidden && this.refresh(), PAUSE);
  }

  async refresh() {
    let page;
    try {
      page = await api.get("questions", { limit: MOST });
    } catch {
      return; // what was listed stays; what is asked next says why
    }
    const { data, has_more: more } = page;
    say(this.parts.count, data.length ? `${data.length}${more ? "+" : ""}` : "");
    this.#show(this.parts.box.open ? data : []);
  }

  /** List questions; an answer that is being written stays. */
  #show(data) {
    const known = this.#cards;
    this.#cards = new Map(data.map((item) => [item.id, known.get(item.id) ?? this.#card(item)]));
    if (known.size && [...this.#cards.keys()].join() === [...known.keys()].join()) return;
    const empty = h("li", { class: "empty" }, "Nothing is asked.");
    put(this.parts.list, data.length ? [...this.#cards.values()] : empty);
  }

  #card(item) {
    const place = new URLSearchParams(item.thread ? { thread: item.thread } : { run: item.run });
    const answer = async (value) => {
      await api.post(`runs/${item.run}/answer`, { key: item.path, value });
      await this.refresh();
    };
    const whom = item.to ? `for ${item.to}` : "for anybody";
    return h("li", { "data-question": item.id }, questionCard(item, answer),
      h("small", {}, `${item.workflow} · ${whom} · `, h("a", { href: `#${place}` }, "see the run")));
  }
}
