// The section of the board that shows what needs attention: its entries, their nodes, and what their buttons do.

import { AttentionList } from "./attention_list.js";
import { AttentionHeading, AttentionRow, renderMore } from "./attention_row.js";
import { formatNumber, titleOf } from "./format.js";
import { HiddenProblems } from "./hidden_problems.js";
import { RowButtons } from "./row_buttons.js";

export class AttentionSection {
  #list;
  #hidden = new HiddenProblems();
  #now;
  #dismissals;
  #toast;
  #onChange;
  /** @type {Map<string, AttentionItemEntry>} */
  #entries = new Map(); // by the id of their item

  /**
   * @param {object} options
   * @param {() => number} options.now
   * @param {import("./dismissal.js").Dismissals} options.dismissals
   * @param {import("./toast.js").Toast} options.toast
   * @param {() => void} options.onChange
   */
  constructor({ now, dismissals, toast, onChange }) {
    this.#list = new AttentionList(this.#hidden);
    this.#now = now;
    this.#dismissals = dismissals;
    this.#toast = toast;
    this.#onChange = onChange;
    this.#hidden.watch(onChange);
  }

  /** The number of items that need attention and are not hidden. */
  get count() {
    return this.#list.count;
  }

  /**
   * Returns the entries of the section.
   *
   * @param {Iterable<WireItem>} items
   * @param {BoardQuery} query
   * @param {(item: WireItem) => boolean} matches
   */
  arrange(items, query, matches) {
    const { group } = query;
    const scope = group === null ? items : Array.from(items).filter((item) => (item.group ?? "") === group);
    const entries = this.#list.arrange(scope, this.#now(), query, matches);
    this.#entries.clear();
    for (const entry of entries) if (entry.kind === "attention") this.#entries.set(entry.item.id, entry);
    return entries;
  }

  /**
   * Takes over a changed item; returns the key of its entry, or null.
   *
   * @param {WireItem} item
   */
  refresh(item) {
    const entry = this.#entries.get(item.id);
    if (entry === undefined) return null;
    entry.item = item;
    return entry.key;
  }

  /**
   * @param {AttentionEntry} entry
   * @param {HTMLElement | null} node
   */
  render(entry, node) {
    if (entry.kind === "attention-more") return renderMore(entry, node);
    if (entry.kind === "attention-heading") {
      const heading = (node === null ? undefined : AttentionHeading.of(node)) ?? new AttentionHeading();
      heading.show(entry, this.#listDismissible().length);
      return heading.node;
    }
    const row = (node === null ? undefined : AttentionRow.of(node)) ?? new AttentionRow();
    row.show(entry, { now: this.#now(), isOpen: this.#list.isOpen(entry.item.id) });
    RowButtons.in(row.actions).show(entry.item, "hide");
    return row.node;
  }

  /** @param {Element} node */
  updateTimes(node) {
    AttentionRow.of(node)?.updateTimes(this.#now());
  }

  /**
   * Hides the problems of an item in this browser; returns whether they were shown.
   *
   * @param {string} id
   */
  hide(id) {
    const attention = this.#list.find(id);
    if (attention === undefined) return false;
    this.#hide([attention], titleOf(attention.item));
    return true;
  }

  /**
   * Shows or hides the whole error of an item.
   *
   * @param {string} id
   */
  toggleError(id) {
    this.#list.toggleError(id);
    this.#onChange();
  }

  /**
   * Does what a button of the section is for; returns whether it was one.
   *
   * @param {Element} target
   */
  handleClick(target) {
    const id = /** @type {HTMLElement | null} */ (target.closest(".attention"))?.dataset.id;
    if (id !== undefined && target.closest(".reason")) this.toggleError(id);
    else if (id !== undefined && target.closest(".hide")) this.hide(id);
    else if (target.closest(".hide-all")) this.#hideAll();
    else if (target.closest(".attention-heading .dismiss-ended")) this.#dismissals.dismiss(this.#listDismissible());
    else if (target.closest(".attention-more button")) {
      this.#list.toggle();
      this.#onChange();
    } else return false;
    return true;
  }

  #hideAll() {
    const { listed } = this.#list;
    this.#hide(listed, listed.length === 1 ? titleOf(listed[0].item) : `${formatNumber(listed.length)} items`);
  }

  /**
   * @param {import("./attention.js").Attention[]} entries
   * @param {string} name
   */
  #hide(entries, name) {
    const undo = this.#list.hide(entries);
    this.#onChange();
    this.#toast.show(`Hid ${name}, until another problem or run.`, {
      undo: () => {
        undo();
        this.#onChange();
      },
    });
  }

  #listDismissible() {
    return this.#list.listed.map(({ item }) => item).filter((item) => this.#dismissals.mayDismiss(item));
  }
}

