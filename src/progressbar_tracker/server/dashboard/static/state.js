// The items of the board as the stream reports them, and the clock of the server. Knows no elements.

import { ServerClock } from "./clock.js";

export class ItemStore {
  /** @type {Map<string, WireItem>} */
  items = new Map();
  clock = new ServerClock();

  /**
   * Applies a message of the stream and returns what it changed. Items are never changed in place: each change is a new
   * object, so that a text or a sort key may be cached for an object.
   *
   * @param {StreamMessage} message
   * @returns {StoreChanges}
   */
  apply(message) {
    /** @type {StoreChanges} */
    const changes = { added: [], changed: [], removed: [], ended: [], isSnapshot: message.type === "snapshot" };
    if (message.type === "offline") this.clock.stop(message.time);
    else if ("time" in message) this.clock.set(message.time);
    if (message.type === "snapshot") {
      const ids = new Set(message.items.map((item) => item.id));
      for (const id of [...this.items.keys()]) if (!ids.has(id)) this.#remove(id, changes);
      for (const item of message.items) this.#put(item, changes);
    } else if (message.type === "change") {
      changes.ended = message.ended;
      for (const id of message.gone) this.#remove(id, changes);
      for (const item of message.items) this.#put(item, changes);
    }
    return changes;
  }

  /**
   * @param {WireItem} item
   * @param {StoreChanges} changes
   */
  #put(item, changes) {
    const before = this.items.get(item.id);
    this.items.set(item.id, item);
    if (before === undefined) changes.added.push(item);
    else changes.changed.push([before, item]);
  }

  /**
   * @param {string} id
   * @param {StoreChanges} changes
   */
  #remove(id, changes) {
    const before = this.items.get(id);
    if (before === undefined) return;
    this.items.delete(id);
    changes.removed.push(before);
  }
}
