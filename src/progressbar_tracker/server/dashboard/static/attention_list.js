// The section above the groups: entries for the board's list, with what needs attention first.

import { collectAttention } from "./attention.js";
import { formatNumber } from "./format.js";

const MAX_SHOWN = 5; // until the reader wants to see all

/** The keys of the section. The key of an item's entry is `attentionKey(id)`; ids contain no control characters. */
const SECTION_KEY = "\u0003";
const HEADING_KEY = `${SECTION_KEY}${SECTION_KEY}`;
const ERROR_KEY = `${HEADING_KEY}error`;
const MORE_KEY = `${HEADING_KEY}more`;

/** @typedef {import("./attention.js").Attention} Attention */
/** @typedef {import("./hidden_problems.js").HiddenProblems} HiddenProblems */

/** @param {string} id */
export function attentionKey(id) {
  return `${SECTION_KEY}${id}`;
}

export class AttentionList {
  #hidden;
  #isExpanded = false;
  /** @type {Set<string>} */
  #openErrors = new Set();
  /** @type {Attention[]} */
  #all = [];
  /** @type {Attention[]} */
  #listed = [];

  /** @param {HiddenProblems} hidden */
  constructor(hidden) {
    this.#hidden = hidden;
  }

  /** The number of items that need attention and are not hidden, whatever the reader searches for. */
  get count() {
    return this.#all.length;
  }

  /** The entries that the section has, also those that it shows only on demand. */
  get listed() {
    return this.#listed;
  }

  /**
   * Reads items again, and returns the entries of the section. A search leaves out what does not match. With a status, the
   * reader has asked for a list of their own, and there is no section.
   *
   * @param {Iterable<WireItem>} items
   * @param {number} now
   * @param {{ status: string }} query
   * @param {(item: WireItem) => boolean} matches
   * @returns {BoardEntry[]}
   */
  arrange(items, now, { status }, matches) {
    this.#all = collectAttention(items, now, this.#hidden);
    this.#listed = status === "" ? this.#all.filter(({ item }) => matches(item)) : [];
    if (this.#listed.length === 0) return [];
    const isLong = this.#listed.length > MAX_SHOWN + 1; // one more row needs no more room than a button
    const shown = isLong && !this.#isExpanded ? this.#listed.slice(0, MAX_SHOWN) : this.#listed;
    /** @type {BoardEntry[]} */
    const entries = [{ kind: "attention-heading", key: HEADING_KEY, listed: this.#listed }];
    for (const [n, attention] of shown.entries()) {
      const { item } = attention;
      const isLast = !isLong && n === shown.length - 1;
      entries.push({ kind: "attention", key: attentionKey(item.id), item, attention, isFirst: n === 0, isLast });
      if (item.error && this.isOpen(item.id)) entries.push({ kind: "error", key: `${ERROR_KEY}${item.id}`, row: { item } });
    }
    if (isLong) entries.push({ kind: "attention-more", key: MORE_KEY, hiddenCount: this.#listed.length - shown.length });
    return entries;
  }

  /**
   * Returns whether the whole error of an item is shown below its entry.
   *
   * @param {string} id
   */
  isOpen(id) {
    return this.#openErrors.has(id);
  }

  /** @param {string} id */
  toggleError(id) {
    if (!this.#openErrors.delete(id)) this.#openErrors.add(id);
  }

  /** Shows all entries of a long section, or the first ones again. */
  toggle() {
    this.#isExpanded = !this.#isExpanded;
  }

  /**
   * Hides entries; returns a function that undoes it.
   *
   * @param {Attention[]} entries
   */
  hide(entries) {
    return this.#hidden.hide(entries);
  }

  /** @param {string} id */
  find(id) {
    return this.#listed.find(({ item }) => item.id === id);
  }
}

/**
 * Describes how many items have which problem first, such as [["failed", "2 failed"], ["late", "1 late"]].
 *
 * @param {Attention[]} listed
 */
export function countProblems(listed) {
  /** @type {Map<Attention["problem"], number>} */
  const counts = new Map();
  for (const { problem } of listed) counts.set(problem, (counts.get(problem) ?? 0) + 1);
  return Array.from(counts, ([problem, count]) => /** @type {const} */ ([problem, `${formatNumber(count)} ${problem}`]));
}
