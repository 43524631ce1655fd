// Remembers the order of the board, because items that are nearly in order are sorted with few comparisons.

import { sortItems } from "./arrange.js";

export class ItemOrder {
  #sort = "";
  /** @type {Set<string>} */
  #ids = new Set();

  /**
   * Returns all items in an order.
   *
   * @param {Iterable<WireItem>} items
   * @param {string} sort
   */
  apply(items, sort) {
    const isKnown = sort === this.#sort;
    const sorted = sortItems(isKnown ? this.#arrangeAsBefore(items) : [...items], sort, { isNearlySorted: isKnown });
    this.#sort = sort;
    this.#ids = new Set(sorted.map(({ id }) => id));
    return sorted;
  }

  /** @param {Iterable<WireItem>} items */
  #arrangeAsBefore(items) {
    const byId = new Map(Array.from(items, (item) => [item.id, item]));
    const arranged = [];
    for (const id of this.#ids) {
      const item = byId.get(id);
      if (item !== undefined) arranged.push(item);
    }
    if (arranged.length < byId.size) for (const item of byId.values()) if (!this.#ids.has(item.id)) arranged.push(item);
    return arranged;
  }
}
