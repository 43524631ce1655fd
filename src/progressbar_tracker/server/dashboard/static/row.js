// One row of the board: takes over a row of the first paint or copies the template, and writes only changed values.

import {
  ICONS, formatAge, formatCount, formatDuration, formatInstant, formatPercent, formatRate, isOpenEnded, itemUrl, stateOf, titleOf,
} from "./format.js";

const MAX_RATES = 40;
const SPARK_WIDTH = 60;
const SPARK_HEIGHT = 16;
const SVG_NAMESPACE = "http://www.w3.org/2000/svg";
const template = document.getElementById("row-template").content.firstElementChild;
const textNodes = document.createNodeIterator(template, NodeFilter.SHOW_TEXT);
// Remove the line breaks of the template's source, which would be a third of all nodes.
for (let node; (node = textNodes.nextNode()) !== null; ) if (/^\s*\n\s*$/.test(node.data)) node.remove();

const { dismissible, userName } = document.getElementById("board").dataset;

/** Whether the reader may dismiss an item; compares owners by name, so the server may still refuse. */
export function mayDismiss(item) {
  return item.status !== "running" && (dismissible === "all" || (dismissible === "own" && item.owner === userName));
}

export class Row {
  #parts = new Map();
  #texts = new Map();
  #textNodes = new Map();
  #rates = [];
  #line = null;
  #ratesDrawn = true;
  #state = "";
  #barValue = null;
  #depth = 0;

  constructor(node) {
    this.node = node ?? document.importNode(template, true);
    this.item = null;
    this.skipped = false; // true while the row is off screen and the browser does not render it
    for (const part of this.node.querySelectorAll("[data-part]")) this.#parts.set(part.dataset.part, part);
    for (const [name, part] of this.#parts) this.#texts.set(name, part.textContent);
  }

  /** Shows an item; `isUpdate` if the item has just changed, so that its rate is a new sample. */
  update(item, isUpdate) {
    const before = this.item;
    this.item = item;
    const state = stateOf(item);
    const title = titleOf(item);
    const isOpen = isOpenEnded(item);
    if (before === null) {
      this.node.dataset.id = item.id;
      this.#parts.get("link").href = itemUrl(item.id);
    }
    if (before === null || state !== this.#state) {
      this.#state = state;
      this.#updateClass();
      this.#setText("icon", ICONS[state]);
      this.#setText("state", state);
    }
    if (before === null || before.status !== item.status || before.owner !== item.owner) {
      this.#parts.get("dismiss").hidden = !mayDismiss(item);
    }
    const bar = this.#parts.get("bar");
    if (before === null || title !== titleOf(before)) {
      this.#setText("title", title);
      bar.setAttribute("aria-label", title);
      this.#parts.get("dismiss").setAttribute("aria-label", `Dismiss ${title}`);
    }
    // Steps below a thousandth of the bar are invisible, and not drawn.
    const barValue = isOpen ? null : item.value > 0 && item.value < 1 ? Math.floor(item.value * 1000) / 1000 : item.value;
    if (before === null || barValue !== this.#barValue) {
      this.#barValue = barValue;
      if (isOpen) bar.removeAttribute("value");
      else bar.value = item.value;
      // The compositor moves the visible bar; growing the native one would cause a layout in every frame.
      this.#parts.get("fill").style.transform = isOpen ? "" : `translateX(${(barValue * 100 - 100).toFixed(1)}%)`;
    }
    this.#setText("percent", isOpen ? "" : formatPercent(item.value));
    this.#setText("count", formatCount(item));
    this.#setText("rate", formatRate(item));
    this.#setText("eta", item.eta === null ? "" : `${formatDuration(item.eta)} left`);
    this.#setText("description", item.description);
    this.#setText("owner", item.owner);
    if (before === null || before.error !== item.error) {
      const error = item.error ?? "";
      this.#parts.get("failure").hidden = error === "";
      this.#setText("reason", error.split("\n", 1)[0]);
      this.#setText("error", error);
    }
    if (before === null || before.created_at !== item.created_at || before.ended_at !== item.ended_at) {
      const started = `started ${formatInstant(item.created_at)}`;
      this.#parts.get("age").title = item.ended_at === null ? started : `${started}, ended ${formatInstant(item.ended_at)}`;
      this.startedAt = Date.parse(item.created_at);
      this.endedAt = item.ended_at === null ? null : Date.parse(item.ended_at);
    }
    this.heardAt = null;
    if (item.stalled) {
      this.heardAt = Date.parse(item.updated_at);
      this.#parts.get("last-heard").title = formatInstant(item.updated_at);
    }
    this.deadlineAt = null;
    if (item.late) {
      this.deadlineAt = Date.parse(item.deadline);
      this.#parts.get("late").title = formatInstant(item.deadline);
    }
    if (before !== null && before.run_id !== item.run_id) this.#rates = [];
    if (isUpdate && item.rate !== null) {
      this.#rates.push(item.rate);
      if (this.#rates.length > MAX_RATES) this.#rates.shift();
      this.#ratesDrawn = false;
      if (!this.skipped) this.drawRates();
    }
  }

  /** Updates the texts that depend on the current time, in milliseconds. */
  updateAges(now) {
    const age = formatAge((now - (this.endedAt ?? this.startedAt)) / 1000);
    this.#setText("age", this.endedAt === null ? `for ${age}` : `${age} ago`);
    this.#setText("late", this.deadlineAt === null ? "" : `${formatAge((now - this.deadlineAt) / 1000)} late`);
    this.#setText("last-heard", this.heardAt === null ? "" : `last heard from ${formatAge((now - this.heardAt) / 1000)} ago`);
  }

  set depth(depth) {
    if (depth === this.#depth) return;
    this.#depth = depth;
    this.#updateClass();
  }

  #updateClass() {
    this.node.className = `item live ${this.#state}${this.#depth > 0 ? ` child depth-${this.#depth}` : ""}`;
  }

  #setText(name, text) {
    if (this.#texts.get(name) === text) return;
    this.#texts.set(name, text);
    const node = this.#textNodes.get(name);
    if (node !== undefined) node.data = text;
    else {
      const part = this.#parts.get(name);
      part.textContent = text;
      if (part.firstChild !== null) this.#textNodes.set(name, part.firstChild);
    }
  }

  /** Draws the rates that this page has received, on an axis that starts at zero. */
  drawRates() {
    if (this.#ratesDrawn || this.#rates.length < 2) return;
    this.#ratesDrawn = true;
    if (this.#line === null) {
      const svg = document.createElementNS(SVG_NAMESPACE, "svg");
      svg.setAttribute("viewBox", `0 0 ${SPARK_WIDTH} ${SPARK_HEIGHT}`);
      svg.setAttribute("preserveAspectRatio", "none");
      svg.setAttribute("aria-hidden", "true");
      this.#line = document.createElementNS(SVG_NAMESPACE, "polyline");
      svg.append(this.#line);
      this.#parts.get("spark").replaceChildren(svg);
    }
    const maximum = Math.max(...this.#rates) || 1;
    const step = SPARK_WIDTH / (this.#rates.length - 1);
    let points = "";
    for (let n = 0; n < this.#rates.length; n++) {
      const y = SPARK_HEIGHT - 1 - (Math.max(this.#rates[n], 0) / maximum) * (SPARK_HEIGHT - 2);
      points += `${Math.round(n * step * 10) / 10},${Math.round(y * 10) / 10} `;
    }
    this.#line.setAttribute("points", points);
  }
}
