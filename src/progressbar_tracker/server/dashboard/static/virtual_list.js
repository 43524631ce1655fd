// A list of any length. Only the entries near the visible part of the page have nodes. The nodes are in the flow between
// two paddings, so that a printed page breaks between them. Nodes are used again for entries of their kind.

import { setAttribute } from "./dom.js";
import { findIndex } from "./offsets.js";
import { reorderChildren } from "./reorder.js";

const OVERSCAN_PX = 400;
const ASSUMED_HEIGHT_PX = 120; // of an entry whose height is not measured yet

/** @typedef {{ keys: string[], top: number }} Anchor the entries from the first visible one on, and its place on the screen */

/** @template {{ kind: string }} Entry */
export class VirtualList {
  #container;
  #heightOf;
  #keyOf;
  #render;
  /** @type {Entry[]} */
  #entries = [];
  #offsets = new Float64Array(1);
  /** @type {Map<string, number> | null} */
  #indices = null; // of keys, created when it is needed
  /** @type {Map<string, { node: HTMLElement, entry: Entry }>} */
  #shown = new Map();
  /** @type {Map<string, HTMLElement[]>} */
  #spare = new Map();
  /** @type {Map<string, number>} */
  #measured = new Map();
  #first = 0;
  #last = 0;
  #printLimit = 0;
  #observer = new ResizeObserver(() => this.#handleResize());

  /**
   * @param {object} options
   * @param {HTMLElement} options.container
   * @param {(entry: Entry) => number | null} options.heightOf Pixels; null if the height has to be measured.
   * @param {(entry: Entry) => string} options.keyOf
   * @param {(entry: Entry, node: HTMLElement | null) => HTMLElement} options.render Fills a node, which may have shown
   *   another entry of the same kind, or creates one.
   */
  constructor({ container, heightOf, keyOf, render }) {
    this.#container = container;
    this.#heightOf = heightOf;
    this.#keyOf = keyOf;
    this.#render = render;
    container.setAttribute("role", "list");
    addEventListener("scroll", () => this.#update(), { passive: true });
    addEventListener("resize", () => this.remeasure());
  }

  get entries() {
    return this.#entries;
  }

  /** The entries that have a node, and the nodes: those in the visible part of the page and near it. */
  *shownEntries() {
    for (const { entry, node } of this.#shown.values()) yield /** @type {[Entry, HTMLElement]} */ ([entry, node]);
  }

  /** @param {string} key */
  nodeOf(key) {
    return this.#shown.get(key)?.node ?? null;
  }

  /**
   * Replaces the entries. The first visible entry keeps its place on the screen.
   *
   * @param {Entry[]} entries
   */
  setEntries(entries) {
    const anchor = this.#findAnchor();
    const focused = this.#focusedNode();
    const focusedIndex = focused === null ? -1 : this.#indexOf(focused.dataset.key ?? "");
    this.#entries = entries;
    this.#indices = null;
    this.#computeOffsets();
    this.#show(anchor);
    if (focusedIndex >= 0 && this.#focusedNode() === null) this.#focusNear(focusedIndex);
  }

  /**
   * Renders an entry again if it has a node.
   *
   * @param {string} key
   */
  refresh(key) {
    const shown = this.#shown.get(key);
    if (shown !== undefined) this.#render(shown.entry, shown.node);
  }

  /**
   * Scrolls until an entry is visible; returns its node, or null without such an entry.
   *
   * @param {string} key
   */
  scrollTo(key) {
    const index = this.#indexOf(key);
    if (index < 0) return null;
    const top = this.#top() + this.#offsets[index];
    const bottom = this.#top() + this.#offsets[index + 1];
    const margin = Math.min(innerHeight / 8, 80);
    if (top < margin) scrollBy({ top: top - margin, behavior: "instant" });
    else if (bottom > innerHeight - margin) scrollBy({ top: bottom - innerHeight + margin, behavior: "instant" });
    this.#update();
    return this.nodeOf(key);
  }

  /** Reads all heights again: the window, the fonts or the density has changed. */
  remeasure() {
    const anchor = this.#findAnchor();
    this.#computeOffsets();
    this.#show(anchor);
  }

  /**
   * Runs a function that changes the height of something above the list; the first visible entry keeps its place.
   *
   * @param {() => void} change
   */
  holdPosition(change) {
    const anchor = this.#findAnchor();
    change();
    if (anchor !== null) this.#show(anchor);
  }

  /**
   * Renders up to a number of entries for a printed page, wherever they are; 0 for those near the visible part again.
   *
   * @param {number} limit
   */
  setPrintLimit(limit) {
    this.#printLimit = limit;
    this.#update(true);
  }

  #top() {
    return this.#container.getBoundingClientRect().top;
  }

  /** @param {string} key */
  #indexOf(key) {
    this.#indices ??= new Map(this.#entries.map((entry, n) => [this.#keyOf(entry), n]));
    return this.#indices.get(key) ?? -1;
  }

  #computeOffsets() {
    const offsets = new Float64Array(this.#entries.length + 1);
    for (let n = 0; n < this.#entries.length; n++) {
      const entry = this.#entries[n];
      offsets[n + 1] = offsets[n] + (this.#heightOf(entry) ?? this.#measured.get(this.#keyOf(entry)) ?? ASSUMED_HEIGHT_PX);
    }
    this.#offsets = offsets;
  }

  /** @param {number} distance */
  #indexAt(distance) {
    return findIndex(this.#offsets, distance);
  }

  // Returns null if the top of the list is visible: new entries appear there.
  /** @returns {Anchor | null} */
  #findAnchor() {
    const top = this.#top();
    if (top >= 0 || this.#printLimit > 0) return null;
    const first = this.#indexAt(-top);
    return { keys: this.#entries.slice(first, Math.max(this.#last, first)).map(this.#keyOf), top: top + this.#offsets[first] };
  }

  /** @param {Anchor | null} anchor whose first entry that still exists is brought to its place */
  #show(anchor) {
    const key = anchor?.keys.find((candidate) => this.#indexOf(candidate) >= 0);
    if (anchor === null || key === undefined) return this.#update(true);
    const target = () => anchor.top - this.#offsets[this.#indexOf(key)]; // the place of the top of the list
    this.#update(true, target());
    const distance = this.#top() - target();
    if (Math.abs(distance) >= 0.5) scrollBy({ top: distance, behavior: "instant" });
  }

  #update(isForced = false, top = this.#top()) {
    const count = this.#entries.length;
    const first = this.#printLimit > 0 ? 0 : this.#indexAt(-top - OVERSCAN_PX);
    const last = Math.min(this.#printLimit > 0 ? this.#printLimit : this.#indexAt(innerHeight - top + OVERSCAN_PX) + 1, count);
    if (!isForced && first === this.#first && last === this.#last) return;
    this.#first = first;
    this.#last = last;
    this.#placeNodes(isForced);
    this.#setPadding();
    if (this.#measure()) {
      this.#computeOffsets();
      this.#setPadding();
    }
  }

  #setPadding() {
    this.#container.style.paddingBlockStart = `${this.#offsets[this.#first]}px`;
    this.#container.style.paddingBlockEnd = this.#printLimit > 0 ? "0" : `${this.#offsets[this.#entries.length] - this.#offsets[this.#last]}px`;
  }

  /** @param {boolean} isForced whether entries that have a node are rendered again */
  #placeNodes(isForced) {
    const focused = this.#focusedNode();
    // The row with the focus and its neighbours keep nodes where they belong, even far away, so that Tab works.
    const at = focused === null ? -1 : this.#indexOf(focused.dataset.key ?? "");
    const neighbours = at < 0 ? [] : [at - 1, at, at + 1].filter((n) => n >= 0 && n < this.#entries.length);
    const before = neighbours.filter((n) => n < this.#first);
    const after = neighbours.filter((n) => n >= this.#last);
    const indices = [...before, ...Array.from({ length: this.#last - this.#first }, (_, n) => this.#first + n), ...after];
    const keys = new Set(indices.map((n) => this.#keyOf(this.#entries[n])));
    for (const key of this.#shown.keys()) if (!keys.has(key)) this.#release(key);
    const nodes = indices.map((n) => this.#place(this.#entries[n], n, isForced));
    reorderChildren(this.#container, nodes, focused !== null && nodes.includes(focused) ? focused : null);
  }

  /**
   * Returns the node of an entry.
   *
   * @param {Entry} entry
   * @param {number} index
   * @param {boolean} isForced
   */
  #place(entry, index, isForced) {
    const key = this.#keyOf(entry);
    let shown = this.#shown.get(key);
    if (shown === undefined) {
      const node = this.#render(entry, this.#spare.get(entry.kind)?.pop() ?? null);
      node.setAttribute("role", "listitem");
      node.dataset.key = key;
      if (this.#heightOf(entry) === null) this.#observer.observe(node);
      this.#shown.set(key, (shown = { node, entry }));
    } else if (isForced || shown.entry !== entry) {
      shown.entry = entry;
      this.#render(entry, shown.node);
    }
    const { node } = shown;
    const isPinned = index < this.#first || index >= this.#last;
    node.classList.toggle("pinned", isPinned);
    node.style.top = isPinned ? `${this.#offsets[index]}px` : "";
    setAttribute(node, "aria-posinset", String(index + 1));
    setAttribute(node, "aria-setsize", String(this.#entries.length));
    return node;
  }

  /** @param {string} key */
  #release(key) {
    const shown = this.#shown.get(key);
    if (shown === undefined) return;
    this.#shown.delete(key);
    this.#observer.unobserve(shown.node);
    shown.node.classList.remove("pinned");
    shown.node.style.top = "";
    shown.node.remove();
    const spare = this.#spare.get(shown.entry.kind);
    if (spare === undefined) this.#spare.set(shown.entry.kind, [shown.node]);
    else spare.push(shown.node);
  }

  // Reads the heights that are not fixed; returns whether one has changed.
  #measure() {
    let hasChanged = false;
    for (const [key, { node, entry }] of this.#shown) {
      if (this.#heightOf(entry) !== null) continue;
      const height = node.getBoundingClientRect().height;
      if (Math.abs((this.#measured.get(key) ?? -1) - height) < 0.5) continue;
      this.#measured.set(key, height);
      hasChanged = true;
    }
    return hasChanged;
  }

  #handleResize() {
    if (!this.#measure()) return;
    const anchor = this.#findAnchor();
    this.#computeOffsets();
    this.#show(anchor);
  }

  // Returns the child of the container that has the focus.
  #focusedNode() {
    const focused = document.activeElement;
    if (focused === null || focused === this.#container || !this.#container.contains(focused)) return null;
    return /** @type {HTMLElement | null} */ (focused.closest("[data-key]"));
  }

  // Moves the focus of an entry that is gone to the one that took its place.
  /** @param {number} index */
  #focusNear(index) {
    const entry = this.#entries[Math.min(index, this.#entries.length - 1)];
    const node = entry === undefined ? null : this.nodeOf(this.#keyOf(entry));
    /** @type {HTMLElement | null | undefined} */ (node?.querySelector("a, button"))?.focus({ preventScroll: true });
  }
}
