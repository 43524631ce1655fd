// The summary above the board. Each count is a button that shows these items only.

import { createElement, setAttribute } from "./dom.js";
import { describeCounts } from "./summary.js";

export class SummaryFilter {
  #node;
  #form;
  #text = "";

  /**
   * @param {HTMLElement} node
   * @param {import("./query.js").QueryForm} form
   */
  constructor(node, form) {
    this.#node = node;
    this.#form = form;
    node.addEventListener("click", (event) => {
      const status = /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest(".count-of"))?.dataset.status;
      if (status !== undefined) form.set({ status: form.query.status === status ? "" : status });
    });
  }

  /** @param {Summary | null} summary null for an empty board */
  show(summary) {
    const counts = summary === null ? [] : describeCounts(summary);
    const text = counts.map(([, count]) => count).join(", ");
    if (text !== this.#text) this.#showCounts(counts);
    this.#text = text;
    for (const button of this.#node.querySelectorAll("button")) {
      setAttribute(button, "aria-pressed", String(button.dataset.status === this.#form.query.status));
    }
  }

  // The buttons are kept while they show the same counts, so that one with the focus keeps it.
  /** @param {ReturnType<typeof describeCounts>} counts */
  #showCounts(counts) {
    const former = Array.from(this.#node.querySelectorAll("button"));
    if (former.map(({ dataset }) => dataset.status).join() === counts.map(([status]) => status).join()) {
      for (const [n, [, count]] of counts.entries()) former[n].textContent = count;
      return;
    }
    const nodes = counts.flatMap(([status, count], n) => [
      n > 0 ? ", " : "",
      createElement("button", { type: "button", class: `count-of ${status}`, "data-status": status, "aria-pressed": "false" }, count),
    ]);
    this.#node.replaceChildren(...nodes);
  }
}
