// The heading of a group: folds it, counts its items, and shows the mean of those that run.

import { createElement, setText } from "./dom.js";
import { formatPercent } from "./format.js";
import { describeCounts, summaryText } from "./summary.js";

/** @type {WeakMap<Element, GroupHeading>} */
const headings = new WeakMap();

export class GroupHeading {
  /**
   * Returns the heading of a node.
   *
   * @param {Element} node
   */
  static of(node) {
    return headings.get(node);
  }

  #name = createElement("bdi");
  #button = createElement("button", { type: "button", class: "fold" }, this.#name);
  #only = createElement("a", { class: "only" }, "Only this group");
  #counts = createElement("span", { class: "counts" });
  #fill = createElement("span", { class: "fill" });
  #bar = createElement("div", { class: "meter", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100" }, this.#fill);
  #percent = createElement("span", { class: "percent" });
  /** The place for buttons. */
  actions = createElement("span", { class: "actions" });
  node = createElement(
    "div",
    { class: "group" },
    createElement("h2", {}, this.#button),
    this.#counts,
    this.#only,
    this.actions,
    createElement("span", { class: "mean" }, this.#bar, this.#percent),
  );
  #text = "";

  constructor() {
    headings.set(this.node, this);
  }

  /**
   * @param {HeadingEntry} entry
   * @param {Summary} summary
   * @param {{ url: string | null }} options `url`: of the board with this group alone; null if it is alone already
   */
  show({ group, isFolded }, summary, { url }) {
    const name = group || "Without a group";
    this.node.dataset.group = group;
    setText(this.#name, name);
    this.#button.setAttribute("aria-expanded", String(!isFolded));
    this.#only.hidden = url === null;
    if (url !== null) this.#only.href = url;
    const text = summaryText(summary);
    if (text !== this.#text) {
      this.#text = text;
      const counts = describeCounts(summary);
      // The comma belongs to its count: a narrow page hides the running ones, if there are problems.
      this.#counts.replaceChildren(...counts.map(([state, count], n) =>
        createElement("span", { class: `count-of ${state}` }, n < counts.length - 1 ? `${count}, ` : count)));
    }
    const { meanValue } = summary;
    this.#bar.hidden = meanValue === null;
    setText(this.#percent, meanValue === null ? "" : formatPercent(meanValue));
    if (meanValue === null) return;
    this.#bar.setAttribute("aria-label", `${name}: mean of the running items`);
    this.#bar.setAttribute("aria-valuenow", String(Math.floor(meanValue * 100)));
    this.#fill.style.transform = `translateX(calc(var(--direction, 1) * ${(Math.floor(meanValue * 1000) / 10 - 100).toFixed(1)}%))`;
  }
}
