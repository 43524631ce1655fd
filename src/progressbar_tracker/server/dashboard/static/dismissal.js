// Dismissing ended items: they disappear at once, and are deleted on the server when the time to undo is over.

import { formatNumber, titleOf } from "./format.js";

const MAX_BATCH_OPS = 500;

/** @typedef {import("./toast.js").Toast} Toast */
/** @typedef {{ id: string, run_id: string }} RunKey */

export class Dismissals {
  /** @type {Map<string, WireItem>} */
  #pending = new Map(); // can be undone
  /** @type {Map<string, string>} */
  #sent = new Map(); // ids to runs that the server is deleting
  #toast;
  #rights;
  #onChange;
  #actions = { undo: () => this.#undo(), expire: () => void this.flush() };

  /**
   * Owners are compared by name, so the server may still refuse.
   *
   * @param {{ toast: Toast, rights: { dismissible?: string, userName?: string }, onChange: () => void }} options
   */
  constructor({ toast, rights, onChange }) {
    this.#toast = toast;
    this.#rights = rights;
    this.#onChange = onChange;
    addEventListener("pagehide", () => void this.flush(true));
  }

  /**
   * Returns whether the reader may dismiss an item.
   *
   * @param {WireItem} item
   */
  mayDismiss(item) {
    const { dismissible, userName } = this.#rights;
    return item.status !== "running" && (dismissible === "all" || (dismissible === "own" && item.owner === userName));
  }

  /**
   * Returns whether a run is not to be shown any more. A newer run of the item is.
   *
   * @param {WireItem} item
   */
  isDismissed({ id, run_id }) {
    return this.#pending.get(id)?.run_id === run_id || this.#sent.get(id) === run_id;
  }

  /**
   * Dismisses the items of a list that the reader may dismiss; returns how many.
   *
   * @param {Iterable<WireItem>} items
   */
  dismiss(items) {
    const dismissed = [...items].filter((item) => this.mayDismiss(item) && !this.isDismissed(item));
    if (dismissed.length === 0) return 0;
    for (const item of dismissed) this.#pending.set(item.id, item);
    this.#onChange();
    const [first] = this.#pending.values();
    const text = this.#pending.size === 1 ? titleOf(first) : `${formatNumber(this.#pending.size)} items`;
    this.#toast.show(`Dismissed ${text}.`, this.#actions);
    return dismissed.length;
  }

  /**
   * Forgets items that have left the board.
   *
   * @param {Iterable<string>} ids
   */
  forget(ids) {
    for (const id of ids) {
      this.#pending.delete(id);
      this.#sent.delete(id);
    }
  }

  /**
   * Deletes what was dismissed. `isLeaving`: the page is being left, so that only the first batch is certain to be sent;
   * what is left stays on the board.
   */
  async flush(isLeaving = false) {
    // Each with its run, so that a newer run is not deleted.
    const ops = Array.from(this.#pending.values(), ({ id, run_id }) => ({ op: "delete", id, run_id }));
    this.#pending.clear();
    for (const { id, run_id } of ops) this.#sent.set(id, run_id);
    if (isLeaving && ops.length > 0) this.#toast.expire();
    let failedCount = 0;
    for (let n = 0; n < ops.length; n += MAX_BATCH_OPS) {
      const failedIds = await sendDeletes(ops.slice(n, n + MAX_BATCH_OPS), isLeaving);
      failedCount += failedIds.filter((id) => this.#sent.delete(id)).length;
      if (failedIds.length > 0) this.#onChange();
    }
    if (failedCount === 0) return;
    this.#toast.show(`${failedCount === 1 ? "One item" : `${formatNumber(failedCount)} items`} could not be dismissed.`);
  }

  #undo() {
    this.#pending.clear();
    this.#onChange();
  }
}

/**
 * Returns the ids of the items that could not be deleted.
 *
 * @param {RunKey[]} ops
 * @param {boolean} keepalive
 * @returns {Promise<string[]>}
 */
async function sendDeletes(ops, keepalive) {
  try {
    const response = await fetch("api/v1/items:batch", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ ops }),
      keepalive,
    });
    if (!response.ok) throw new Error(`${response.status}`);
    /** @type {{ results: { id: string, status: number }[] }} */
    const { results } = await response.json();
    // 404 and 409 are no failures: the item is gone, or belongs to another run now.
    return results.filter(({ status }) => ![200, 404, 409].includes(status)).map(({ id }) => id);
  } catch {
    return ops.map(({ id }) => id);
  }
}
