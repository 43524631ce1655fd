// The parts of a run: how much each process has counted.

import { createElement, setText } from "./dom.js";
import { formatCount } from "./format.js";

const MAX_PARTS = 100;

/** The list of the parts of a run. */
export class PartList {
  constructor() {
    this.rows = createElement("ul", { class: "parts" });
    this.heading = createElement("h2", {}, "Parts");
    this.section = createElement("section", { class: "item-parts", hidden: true }, this.heading, this.rows);
    this.count = 0;
  }

  /**
   * Shows the parts of a run.
   *
   * @param {Record<string, number>} parts names to counts
   * @param {string} unit
   */
  show(parts, unit) {
    const names = Object.keys(parts).sort((a, b) => a.localeCompare(b, undefined, { numeric: true }));
    this.count = names.length;
    this.section.hidden = this.count === 0;
    setText(this.heading, `Parts (${this.count})`);
    const highest = Math.max(...Object.values(parts), 1);
    this.rows.replaceChildren(...names.slice(0, MAX_PARTS).map((name) => createRow(name, parts[name] ?? 0, highest, unit)));
    if (this.count > MAX_PARTS) this.rows.append(createElement("li", { class: "muted" }, `And ${this.count - MAX_PARTS} more.`));
  }
}

/**
 * @param {string} name
 * @param {number} completed
 * @param {number} highest
 * @param {string} unit
 */
function createRow(name, completed, highest, unit) {
  return createElement(
    "li",
    {},
    createElement("bdi", {}, name),
    createElement("progress", { max: highest, value: Math.max(completed, 0), "aria-label": name }),
    createElement("span", { class: "muted" }, formatCount({ completed, total: null, unit })),
  );
}
