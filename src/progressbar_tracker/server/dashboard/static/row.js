// One item's row: the nodes of the first paint or copies of the page's template, and only what has changed is written.

import { ICONS, count, duration, exactly, isOpen, nameOf, pace, pageOf, percent, span, stateOf } from "./words.js";

const SEEN = 40;
const WIDE = 60;
const HIGH = 16;
const SVG = "http://www.w3.org/2000/svg";
const template = document.getElementById("row").content.firstElementChild;
const breaks = document.createNodeIterator(template, NodeFilter.SHOW_TEXT);
// The line breaks of the template's source, which would be a third of all nodes.
for (let node; (node = breaks.nextNode()) !== null; ) if (/^\s*\n\s*$/.test(node.data)) node.remove();

const { dismisses, who } = document.getElementById("board").dataset;

/** Whether who looks may dismiss it, as far as a name tells; two keys may have one. */
export function dismissible(item) {
  return item.status !== "running" && (dismisses === "all" || (dismisses === "own" && item.owner === who));
}

export class Row {
  #parts = new Map();
  #texts = new Map();
  #nodes = new Map();
  #rates = [];
  #line = null;
  #drawn = true;
  #state = "";
  #length = null;
  #depth = 0;

  constructor(node) {
    this.node = node ?? document.importNode(template, true);
    this.item = null;
    this.skipped = false; // out of sight, and the browser does not render it
    for (const part of this.node.querySelectorAll("[data-part]")) this.#parts.set(part.dataset.part, part);
    for (const [name, part] of this.#parts) this.#texts.set(name, part.textContent);
  }

  /** Shows an item; `fresh` when it has just changed, and did not only come to be known. */
  show(item, fresh) {
    const before = this.item;
    this.item = item;
    const state = stateOf(item);
    const title = nameOf(item);
    const open = isOpen(item);
    if (before === null) {
      this.node.dataset.id = item.id;
      this.#parts.get("link").href = pageOf(item.id);
    }
    if (before === null || state !== this.#state) {
      this.#state = state;
      this.#dress();
      this.#write("icon", ICONS[state]);
      this.#write("word", state);
    }
    if (before === null || before.status !== item.status || before.owner !== item.owner) {
      this.#parts.get("dismiss").hidden = !dismissible(item);
    }
    const bar = this.#parts.get("bar");
    if (before === null || title !== nameOf(before)) {
      this.#write("title", title);
      bar.setAttribute("aria-label", title);
      this.#parts.get("dismiss").setAttribute("aria-label", `Dismiss ${title}`);
    }
    // What nobody could see is not drawn: less than a thousandth of a bar.
    const length = open ? null : item.value > 0 && item.value < 1 ? Math.floor(item.value * 1000) / 1000 : item.value;
    if (before === null || length !== this.#length) {
      this.#length = length;
      if (open) bar.removeAttribute("value");
      else bar.value = item.value;
      // The bar that is seen is moved by the compositor; to let the native one grow would lay out every frame anew.
      this.#parts.get("fill").style.transform = open ? "" : `translateX(${(length * 100 - 100).toFixed(1)}%)`;
    }
    this.#write("percent", open ? "" : percent(item.value));
    this.#write("count", count(item));
    this.#write("rate", pace(item));
    this.#write("left", item.eta === null ? "" : `${duration(item.eta)} left`);
    this.#write("description", item.description);
    this.#write("owner", item.owner);
    if (before === null || before.error !== item.error) {
      const error = item.error ?? "";
      this.#parts.get("failure").hidden = error === "";
      this.#write("reason", error.split("\n", 1)[0]);
      this.#write("error", error);
    }
    if (before === null || before.created_at !== item.created_at || before.ended_at !== item.ended_at) {
      const started = `started ${exactly(item.created_at)}`;
      this.#parts.get("age").title = item.ended_at === null ? started : `${started}, ended ${exactly(item.ended_at)}`;
      this.begun = Date.parse(item.created_at);
      this.ended = item.ended_at === null ? null : Date.parse(item.ended_at);
    }
    this.heard = null;
    if (item.stalled) {
      this.heard = Date.parse(item.updated_at);
      this.#parts.get("heard").title = exactly(item.updated_at);
    }
    this.due = null;
    if (item.late) {
      this.due = Date.parse(item.deadline);
      this.#parts.get("late").title = exactly(item.deadline);
    }
    if (before !== null && before.run_id !== item.run_id) this.#rates = [];
    if (fresh && item.rate !== null) {
      this.#rates.push(item.rate);
      if (this.#rates.length > SEEN) this.#rates.shift();
      this.#drawn = false;
      if (!this.skipped) this.draw();
    }
  }

  /** Writes how long ago things are, at an instant in milliseconds. */
  pass(now) {
    const since = this.ended ?? this.begun;
    const past = span((now - since) / 1000);
    this.#write("age", this.ended === null ? `for ${past}` : `${past} ago`);
    this.#write("late", this.due === null ? "" : `${span((now - this.due) / 1000)} late`);
    this.#write("heard", this.heard === null ? "" : `last heard from ${span((now - this.heard) / 1000)} ago`);
  }

  set depth(depth) {
    if (depth === this.#depth) return;
    this.#depth = depth;
    this.#dress();
  }

  #dress() {
    this.node.className = `item live ${this.#state}${this.#depth > 0 ? ` child depth-${this.#depth}` : ""}`;
  }

  #write(name, text) {
    if (this.#texts.get(name) === text) return;
    this.#texts.set(name, text);
    const node = this.#nodes.get(name);
    if (node !== undefined) node.data = text;
    else {
      const part = this.#parts.get(name);
      part.textContent = text;
      if (part.firstChild !== null) this.#nodes.set(name, part.firstChild);
    }
  }

  /** Draws the rates this page has seen, over a ground of zero. */
  draw() {
    if (this.#drawn || this.#rates.length < 2) return;
    this.#drawn = true;
    if (this.#line === null) {
      const picture = document.createElementNS(SVG, "svg");
      picture.setAttribute("viewBox", `0 0 ${WIDE} ${HIGH}`);
      picture.setAttribute("preserveAspectRatio", "none");
      picture.setAttribute("aria-hidden", "true");
      this.#line = document.createElementNS(SVG, "polyline");
      picture.append(this.#line);
      this.#parts.get("spark").replaceChildren(picture);
    }
    const most = Math.max(...this.#rates) || 1;
    const step = WIDE / (this.#rates.length - 1);
    let points = "";
    for (let n = 0; n < this.#rates.length; n++) {
      const high = HIGH - 1 - (Math.max(this.#rates[n], 0) / most) * (HIGH - 2);
      points += `${Math.round(n * step * 10) / 10},${Math.round(high * 10) / 10} `;
    }
    this.#line.setAttribute("points", points);
  }
}
