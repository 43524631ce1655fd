// The list of the board: headings of groups, rows, and errors below their rows.

import { arrangeItems, createFilter } from "./arrange.js";
import { createElement } from "./dom.js";
import { createErrorText } from "./error_text.js";
import { readFoldedGroups, toggleGroup } from "./folding.js";
import { GroupHeading } from "./group_heading.js";
import { ItemOrder } from "./item_order.js";
import { Row } from "./row.js";
import { summarize } from "./summary.js";
import { VirtualList } from "./virtual_list.js";
import { ColumnWidths } from "./widths.js";

const MAX_PRINTED_ENTRIES = 1000;

export class BoardList {
  /** @type {VirtualList<BoardEntry>} */
  list;
  /** @type {Arrangement} */
  arrangement = { entries: [], groups: new Map(), rows: new Map() };
  #container;
  #now;
  #urlOfGroup;
  #decorate;
  #decorateHeading;
  #section;
  #onChange;
  #isWall;
  #widths;
  #order = new ItemOrder();
  #foldedGroups = readFoldedGroups();
  /** @type {Set<string>} */
  #openErrors = new Set();
  /** @type {Map<string, Summary>} */
  #summaries = new Map();
  /** @type {BoardQuery} */
  #query = { q: "", status: "", sort: "", group: null };
  #rowHeight = 44;
  #headingHeight = 48;

  /**
   * @param {HTMLElement} container
   * @param {object} options
   * @param {() => number} options.now The server's time in milliseconds.
   * @param {(group: string) => string} options.urlOfGroup
   * @param {(row: Row, item: WireItem) => void} options.decorate Fills the places of a row for runs and buttons.
   * @param {(heading: GroupHeading, items: WireItem[]) => void} options.decorateHeading Fills that of a heading for buttons.
   * @param {import("./attention_section.js").AttentionSection} options.section What is above the groups.
   * @param {() => void} options.onChange Arranges the board again: the reader has folded a group or opened an error.
   * @param {boolean} [options.isWall] Whether to show rows only, all of them.
   */
  constructor(container, { now, urlOfGroup, decorate, decorateHeading, section, onChange, isWall = false }) {
    this.#container = container;
    this.#now = now;
    this.#urlOfGroup = urlOfGroup;
    this.#decorate = decorate;
    this.#decorateHeading = decorateHeading;
    this.#section = section;
    this.#onChange = onChange;
    this.#isWall = isWall;
    this.#widths = new ColumnWidths(container, ["finish", "percent", "count", "rate"]);
    this.#readHeights();
    addEventListener("resize", () => this.#readHeights()); // before the list measures its entries
    this.list = new VirtualList({
      container,
      heightOf: ({ kind }) => (kind === "error" ? null : kind.endsWith("heading") ? this.#headingHeight : this.#rowHeight),
      keyOf: (entry) => entry.key,
      render: (entry, node) => this.#render(entry, node),
    });
    container.addEventListener("click", (event) => this.#handleClick(/** @type {Element} */ (event.target)));
    addEventListener("beforeprint", () => this.list.setPrintLimit(MAX_PRINTED_ENTRIES));
    addEventListener("afterprint", () => this.list.setPrintLimit(0));
  }

  /**
   * Shows items in the order of a query.
   *
   * @param {Iterable<WireItem>} items
   * @param {BoardQuery} query
   */
  arrange(items, query) {
    const isNew = query !== this.#query;
    this.#query = query;
    const opened = this.#isWall ? {} : { foldedGroups: this.#foldedGroups, openErrors: this.#openErrors };
    this.arrangement = arrangeItems(this.#order.apply(items, query.sort), query, opened);
    this.#summaries.clear();
    const urgent = this.#isWall ? [] : this.#section.arrange(items, query, createFilter(query));
    this.#widths.collect(isNew, () => this.list.setEntries([...urgent, ...this.arrangement.entries]));
  }

  /**
   * Shows changed items where they are.
   *
   * @param {Iterable<WireItem>} items
   */
  refresh(items) {
    for (const item of items) {
      const urgentKey = this.#section.refresh(item);
      if (urgentKey !== null) this.list.refresh(urgentKey);
      const row = this.arrangement.rows.get(item.id);
      if (row === undefined) continue;
      row.item = item;
      this.list.refresh(item.id);
    }
    this.#summaries.clear();
    for (const { heading } of this.arrangement.groups.values()) this.list.refresh(heading.key);
  }

  /**
   * Finds an item that matches the query.
   *
   * @param {string} id
   */
  find(id) {
    return this.arrangement.rows.get(id)?.item;
  }

  /**
   * Returns the items of a group that match the query.
   *
   * @param {string} group
   */
  itemsOf(group) {
    return this.arrangement.groups.get(group)?.rows.map(({ item }) => item) ?? [];
  }

  /** Updates the texts that depend on the time. */
  updateTimes() {
    const now = this.#now();
    for (const [entry, node] of this.list.shownEntries()) {
      if (entry.kind === "item") Row.of(node)?.updateTimes(now);
      else if (entry.kind === "attention") this.#section.updateTimes(node);
    }
  }

  /** Returns where the rows begin in the window, and the height of one. */
  measure() {
    return { top: this.#container.getBoundingClientRect().top, rowHeight: this.#rowHeight };
  }

  /** Reads the heights of the rows again: the density has changed. */
  remeasure() {
    this.#readHeights();
    this.#widths.collect(true, () => this.list.remeasure());
  }

  /**
   * Folds or unfolds a group.
   *
   * @param {string} group
   */
  toggleGroup(group) {
    toggleGroup(this.#foldedGroups, group);
    this.#onChange();
  }

  /**
   * Shows or hides the whole error of an item below its row.
   *
   * @param {string} id
   */
  toggleError(id) {
    if (!this.#openErrors.delete(id)) this.#openErrors.add(id);
    this.#onChange();
  }

  // The style sheet sets the heights in rem, because they differ between screens and densities. Whole pixels leave no gaps.
  #readHeights() {
    const style = getComputedStyle(this.#container);
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const read = (/** @type {"row" | "heading"} */ name) => {
      const pixels = Math.round(parseFloat(style.getPropertyValue(`--${name}-height`)) * rem);
      this.#container.style.setProperty(`--${name}-pixels`, `${pixels}px`);
      return pixels;
    };
    this.#rowHeight = read("row");
    this.#headingHeight = read("heading");
  }

  /**
   * @param {BoardEntry} entry
   * @param {HTMLElement | null} node
   */
  #render(entry, node) {
    if (entry.kind === "item") return this.#renderRow(entry, node);
    if (entry.kind === "heading") return this.#renderHeading(entry, node);
    if (entry.kind !== "error") return this.#section.render(entry, node);
    const place = node ?? createElement("div", { class: "error-entry" });
    const error = entry.row.item.error ?? "";
    if (place.dataset.error !== error) {
      place.dataset.error = error;
      place.replaceChildren(createErrorText(error, { isOpen: true }));
    }
    return place;
  }

  /**
   * @param {ItemEntry} entry
   * @param {HTMLElement | null} node
   */
  #renderRow(entry, node) {
    const row = (node === null ? undefined : Row.of(node)) ?? new Row();
    row.show(entry, { now: this.#now(), isOpen: this.#openErrors.has(entry.key) });
    for (const [name, text] of row.columnTexts()) this.#widths.fit(name, text);
    this.#decorate(row, entry.item);
    return row.node;
  }

  /**
   * @param {HeadingEntry} entry
   * @param {HTMLElement | null} node
   */
  #renderHeading(entry, node) {
    const heading = (node === null ? undefined : GroupHeading.of(node)) ?? new GroupHeading();
    const items = this.itemsOf(entry.group);
    const summary = this.#summaries.get(entry.group) ?? summarize(items);
    this.#summaries.set(entry.group, summary);
    heading.show(entry, summary, { url: this.#query.group === null ? this.#urlOfGroup(entry.group) : null });
    this.#decorateHeading(heading, items);
    return heading.node;
  }

  /** @param {Element} target */
  #handleClick(target) {
    const group = target.closest(".fold")?.closest(/** @type {"div"} */ (".group"))?.dataset.group;
    if (group !== undefined) this.toggleGroup(group);
    const id = target.closest(".reason")?.closest(/** @type {"div"} */ (".item"))?.dataset.id;
    if (id !== undefined) this.toggleError(id);
  }
}

