// The nodes of the section of what needs attention: its heading, its rows, and the button for the rest.

import { describeAttention } from "./attention.js";
import { countProblems } from "./attention_list.js";
import { createElement, setText } from "./dom.js";
import { formatInstant, formatNumber, titleOf } from "./format.js";
import { createStateIcon, setStateIcon } from "./icons.js";
import { runUrl } from "./recent_runs.js";
import { createCross } from "./row_buttons.js";

/** @type {WeakMap<Element, AttentionRow>} */
const rows = new WeakMap();

export class AttentionRow {
  /**
   * Returns the row of a node.
   *
   * @param {Element} node
   */
  static of(node) {
    return rows.get(node);
  }

  icon = createStateIcon();
  title = createElement("bdi");
  link = createElement("a", { class: "title" }, this.title);
  group = createElement("bdi", { class: "group-name" });
  reason = createElement("bdi");
  /** Shows the whole error. */
  errorButton = createElement("button", { type: "button", class: "reason", "aria-expanded": "false" });
  time = createElement("time", { class: "attention-time" });
  /** The place for buttons. */
  actions = createElement("div", { class: "actions" });
  node = createElement("div", { class: "attention" }, this.icon, createElement("div", { class: "attention-name" }, this.link, this.group),
    createElement("div", { class: "attention-reason" }, this.reason, this.errorButton), this.time, this.actions);
  /** @type {AttentionItemEntry | null} */
  #entry = null;

  constructor() {
    rows.set(this.node, this);
  }

  /**
   * Shows an entry.
   *
   * @param {AttentionItemEntry} entry
   * @param {{ now: number, isOpen: boolean }} view the server's time in milliseconds, and whether the whole error is shown
   */
  show(entry, { now, isOpen }) {
    this.#entry = entry;
    const { item, attention } = entry;
    const { problem, at } = attention;
    this.time.className = `attention-time of-${problem}`;
    this.node.className = `attention is-${problem}${entry.isFirst ? " first" : ""}${entry.isLast ? " last" : ""}`;
    this.node.dataset.id = item.id;
    setStateIcon(this.icon, problem);
    this.link.href = runUrl(item);
    this.link.title = titleOf(item);
    setText(this.title, titleOf(item));
    setText(this.group, item.group ?? "");
    const hasError = item.status === "failed" && (item.error ?? "") !== "";
    this.reason.hidden = hasError;
    this.errorButton.hidden = !hasError;
    this.errorButton.setAttribute("aria-expanded", String(isOpen));
    this.time.dateTime = at;
    this.time.title = formatInstant(at);
    this.updateTimes(now);
  }

  /**
   * Updates the texts that depend on the time.
   *
   * @param {number} now
   */
  updateTimes(now) {
    if (this.#entry === null) return;
    const described = describeAttention(this.#entry.item, now);
    if (described === null) return;
    const { reason, time } = described;
    const place = this.errorButton.hidden ? this.reason : this.errorButton;
    setText(place, reason);
    place.title = reason;
    setText(this.time, time);
  }
}

/** @type {WeakMap<Element, AttentionHeading>} */
const headings = new WeakMap();

export class AttentionHeading {
  /** @param {Element} node */
  static of(node) {
    return headings.get(node);
  }

  #counts = createElement("span", { class: "counts" });
  #dismiss = createElement("button", { type: "button", class: "secondary dismiss-ended" });
  #hide = createElement("button", { type: "button", class: "secondary hide-all" }, "Hide all");
  node = createElement("div", { class: "attention-heading" }, createElement("h2", {}, "Needs attention"), this.#counts,
    createElement("span", { class: "actions" }, this.#dismiss, this.#hide));

  constructor() {
    headings.set(this.node, this);
    this.#hide.title = "In this browser, until an item has another problem or another run";
  }

  /**
   * @param {AttentionHeadingEntry} entry
   * @param {number} dismissibleCount
   */
  show({ listed }, dismissibleCount) {
    const counts = countProblems(listed).map(([problem, text]) => createElement("span", { class: `count-of ${problem}` }, text));
    this.#counts.replaceChildren(...counts.flatMap((node, n) => (n === 0 ? [node] : [", ", node])));
    showDismissButton(this.#dismiss, dismissibleCount, "what needs attention");
  }
}

/**
 * Shows a button that dismisses ended items, or hides it if there is none.
 *
 * @param {HTMLButtonElement} button
 * @param {number} count
 * @param {string} place
 */
export function showDismissButton(button, count, place) {
  button.hidden = count === 0;
  const ended = ` ${formatNumber(count)} ended`;
  if (button.firstChild === null) {
    button.append(createCross(), createElement("span", { class: "word" }, "Dismiss"), createElement("span", { class: "long-label" }));
  }
  setText(/** @type {Element} */ (button.lastElementChild), ended);
  button.setAttribute("aria-label", `Dismiss${ended} of ${place}`);
}

/**
 * Shows the button for the rest of a long section.
 *
 * @param {AttentionMoreEntry} entry
 * @param {HTMLElement | null} node
 */
export function renderMore({ hiddenCount }, node) {
  const place = node ?? createElement("div", { class: "attention-more" }, createElement("button", { type: "button", class: "secondary" }));
  const button = /** @type {Element} */ (place.firstElementChild);
  setText(button, hiddenCount > 0 ? `Show ${formatNumber(hiddenCount)} more` : "Show fewer");
  button.setAttribute("aria-expanded", String(hiddenCount === 0));
  return place;
}
