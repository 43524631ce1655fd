// The large bars of a share: in the order of the list, with inner bars below the bar that they are part of.

import { arrangeItems, mayReorder } from "./arrange.js";
import { createBar, renderBar, updateBarTimes } from "./bar.js";
import { createElement, setText } from "./dom.js";
import { formatNumber } from "./format.js";
import { reorderChildren } from "./reorder.js";

const SHOWN_STEP = 100; // bars that are shown at first, and by each press of the button
/** @type {BoardQuery} */
const QUERY = { q: "", status: "", sort: "weight", group: null };

export class ShareBars {
  #container;
  #more;
  #now;
  #limit = SHOWN_STEP;
  /** @type {ItemEntry[]} */
  #entries = [];
  /** @type {Map<string, HTMLElement>} */
  #bars = new Map(); // by id, the shown ones
  /** @type {Map<string, HTMLElement>} */
  #families = new Map(); // by the id of their first bar

  /**
   * @param {HTMLElement} container
   * @param {HTMLElement} more a text and a button, for bars that are not shown
   * @param {() => number} now the server's time in milliseconds
   */
  constructor(container, more, now) {
    this.#container = container;
    this.#more = more;
    this.#now = now;
    more.querySelector("button")?.addEventListener("click", () => this.#showMore());
  }

  /**
   * Shows all items.
   *
   * @param {Iterable<WireItem>} items
   */
  arrange(items) {
    this.#entries = [...arrangeItems(items, QUERY).rows.values()];
    this.#draw();
  }

  /**
   * Shows what changed of known items; returns false if the bars have to be arranged again.
   *
   * @param {[before: WireItem, after: WireItem][]} changed
   */
  refresh(changed) {
    if (changed.some(([before, after]) => mayReorder(before, after, QUERY))) return false;
    for (const [, item] of changed) {
      const bar = this.#bars.get(item.id);
      if (bar !== undefined) renderBar(bar, item, this.#now());
    }
    return true;
  }

  /** Returns where the bars begin in the window, and the height of one, divided by the number of columns. */
  measure() {
    const { top } = this.#container.getBoundingClientRect();
    const style = getComputedStyle(this.#container);
    const [family] = this.#families.values();
    const columns = style.gridTemplateColumns.split(" ").length;
    return { top, rowHeight: ((family?.offsetHeight ?? 0) + parseFloat(style.rowGap)) / columns };
  }

  updateTimes() {
    for (const bar of this.#bars.values()) updateBarTimes(bar, this.#now());
  }

  #showMore() {
    const first = this.#entries[this.#limit];
    this.#limit += SHOWN_STEP;
    this.#draw();
    // The button may be gone: the keyboard continues at the first new bar.
    const heading = /** @type {HTMLElement | null | undefined} */ (this.#bars.get(first?.key ?? "")?.querySelector("h2, h3"));
    if (!heading) return;
    heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
  }

  #draw() {
    const shown = this.#entries.slice(0, this.#limit);
    const bars = new Map(shown.map((entry) => [entry.key, this.#drawBar(entry)]));
    const families = new Map();
    /** @type {HTMLElement[][]} */
    const members = [];
    for (const { key, depth } of shown) {
      if (depth === 0) {
        families.set(key, this.#families.get(key) ?? createElement("div", { class: "family" }));
        members.push([]);
      }
      members[members.length - 1].push(/** @type {HTMLElement} */ (bars.get(key)));
    }
    this.#bars = bars;
    this.#families = families;
    reorder(this.#container, [...families.values()]);
    [...families.values()].forEach((family, n) => reorder(family, members[n]));
    this.#more.hidden = shown.length === this.#entries.length;
    const label = this.#more.querySelector("span");
    if (label !== null) setText(label, `${formatNumber(shown.length)} of ${formatNumber(this.#entries.length)} bars are shown.`);
  }

  /** @param {ItemEntry} entry */
  #drawBar({ key, item, depth }) {
    const heading = depth === 0 ? "h2" : "h3";
    const known = this.#bars.get(key);
    const bar = known?.querySelector(heading) ? known : createBar(heading);
    bar.dataset.depth = `${depth}`;
    renderBar(bar, item, this.#now());
    return bar;
  }
}

/**
 * Makes nodes the children of a parent, and keeps the focus.
 *
 * @param {HTMLElement} parent
 * @param {HTMLElement[]} nodes
 */
function reorder(parent, nodes) {
  const wanted = new Set(nodes);
  for (const child of [...parent.children]) if (!wanted.has(/** @type {HTMLElement} */ (child))) child.remove();
  const focused = nodes.find((node) => node.parentNode === parent && node.contains(document.activeElement));
  reorderChildren(parent, nodes, focused ?? null);
}
