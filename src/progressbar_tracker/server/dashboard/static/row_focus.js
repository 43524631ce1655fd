// The focus that moves from row to row of the board's list.

const SKIPPED_KINDS = new Set(["error", "attention-heading"]); // their controls are reached by Tab
const MAIN_CONTROLS = ".title, .fold, button";

/**
 * @template {{ kind: string, key: string }} Entry
 * @typedef {Pick<import("./virtual_list.js").VirtualList<Entry>, "entries" | "scrollTo" | "nodeOf" | "shownEntries">} List
 */

/** @template {{ kind: string, key: string }} Entry */
export class RowFocus {
  #list;

  /** @param {List<Entry>} list */
  constructor(list) {
    this.#list = list;
  }

  /** The entry that has the focus, or null. */
  get entry() {
    const key = document.activeElement?.closest(/** @type {"div"} */ ("[data-key]"))?.dataset.key;
    return key === undefined ? null : (this.#list.entries.find((entry) => entry.key === key) ?? null);
  }

  /** The node of the entry that has the focus, or null. */
  get node() {
    const { entry } = this;
    return entry === null ? null : this.#list.nodeOf(entry.key);
  }

  /**
   * Moves the focus by a row: 1 to the next, -1 to the previous one. Without a focus, the first visible row gets it.
   *
   * @param {1 | -1} step
   */
  move(step) {
    const { entries } = this.#list;
    const { entry } = this;
    let at = entry === null ? this.#findVisible() : entries.indexOf(entry) + step;
    while (at >= 0 && at < entries.length && SKIPPED_KINDS.has(entries[at].kind)) at += step;
    return this.#focus(entries[at]);
  }

  /** Moves the focus to the first row. */
  moveToFirst() {
    return this.#focus(this.#list.entries.find(({ kind }) => !SKIPPED_KINDS.has(kind)));
  }

  /** Moves the focus to the last row. */
  moveToLast() {
    return this.#focus(this.#list.entries.findLast(({ kind }) => !SKIPPED_KINDS.has(kind)));
  }

  #findVisible() {
    for (const [entry, node] of this.#list.shownEntries()) {
      if (node.getBoundingClientRect().top >= 0 && !SKIPPED_KINDS.has(entry.kind)) return this.#list.entries.indexOf(entry);
    }
    return 0;
  }

  /** @param {Entry | undefined} entry */
  #focus(entry) {
    if (entry === undefined) return false;
    const node = this.#list.scrollTo(entry.key);
    /** @type {HTMLElement | null | undefined} */ (node?.querySelector(MAIN_CONTROLS))?.focus({ preventScroll: true });
    return node !== null;
  }
}
