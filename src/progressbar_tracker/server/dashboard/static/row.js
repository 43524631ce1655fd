// One row of the board. A row shows one item after the other as the list scrolls, and writes only what has changed.

import { createElement, setAttribute } from "./dom.js";
import { summarizeError } from "./error_text.js";
import {
  estimatedShareOf, formatAge, formatDuration, formatEstimatedShare, formatInstant, formatItemPercent, formatRate, isOpenEnded, itemUrl,
  stateOf, titleOf,
} from "./format.js";
import { createStateIcon, setStateIcon } from "./icons.js";
import { describeBasis, describeEstimate, describeSilence, formatItemCount, formatLateness, formatShortEstimate, formatSlowness, formatStop } from "./phrases.js";

const PHRASE_INTERVAL_MS = 5000; // between two phrases without seconds
const MAX_DESCRIPTION_LENGTH = 300; // characters that one line may show

/** @type {WeakMap<Element, Row>} */
const rows = new WeakMap();

export class Row {
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
  reason = createElement("button", { type: "button", class: "reason", "aria-expanded": "false" });
  late = createElement("span", { class: "late" });
  silence = createElement("span", { class: "silence" });
  slowness = createElement("span", { class: "slowness" });
  stop = createElement("bdi", { class: "stop-request" });
  description = createElement("bdi", { class: "description" });
  /** The place for the last runs. */
  runs = createElement("div", { class: "last-runs" });
  fill = createElement("span", { class: "fill" });
  bar = createElement("div", { class: "meter", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100" }, this.fill);
  finish = createElement("span", { class: "finish-text" });
  hint = createElement("span", { class: "hint" });
  percent = createElement("span", { class: "percent" });
  count = createElement("span", { class: "count" });
  rate = createElement("span", { class: "rate" });
  /** The place for buttons. */
  actions = createElement("div", { class: "actions" });
  node = createElement(
    "div",
    { class: "item" },
    this.icon,
    createElement(
      "div",
      { class: "name" },
      this.link,
      createElement("div", { class: "about" }, this.reason, this.stop, this.late, this.silence, this.slowness, this.description),
    ),
    this.runs,
    this.bar,
    createElement("div", { class: "finish" }, this.finish, this.hint),
    this.percent,
    this.count,
    this.rate,
    this.actions,
  );
  /** @type {WireItem | null} */
  item = null;
  #className = "";
  /** @type {number | null | undefined} */
  #barValue = undefined;
  #phrasedAt = 0;
  #phraseInterval = 0;
  /** @type {Map<Element, string>} */
  #texts = new Map();

  constructor() {
    rows.set(this.node, this);
  }

  /**
   * Shows the item of an entry.
   *
   * @param {ItemEntry} entry
   * @param {{ now: number, isOpen: boolean }} view the server's time in milliseconds, and whether the whole error is shown
   */
  show(entry, { now, isOpen }) {
    const { item } = entry;
    const before = this.item;
    const isSame = before !== null && before.id === item.id;
    this.item = item;
    this.#showClass(entry);
    if (item !== before) {
      if (!isSame) {
        this.node.dataset.id = item.id;
        this.link.href = itemUrl(item.id);
      }
      const title = titleOf(item);
      if (this.#setText(this.title, title)) {
        this.bar.setAttribute("aria-label", title);
        this.link.title = title;
      }
      this.#setText(this.description, item.description.slice(0, MAX_DESCRIPTION_LENGTH));
      this.#setText(this.stop, formatStop(item));
      this.#showError(before);
      this.#showProgress(isSame);
    }
    setAttribute(this.reason, "aria-expanded", String(isOpen));
    this.#updatePhrases(now);
  }

  /**
   * Updates the texts that depend on the time.
   *
   * @param {number} now the server's time in milliseconds
   */
  updateTimes(now) {
    if (this.item !== null && Math.abs(now - this.#phrasedAt) >= this.#phraseInterval) this.#updatePhrases(now);
  }

  /** The texts of the columns that are as wide as their widest text. */
  columnTexts() {
    const text = (/** @type {Element} */ element) => this.#texts.get(element) ?? "";
    return /** @type {[string, string][]} */ ([
      ["finish", text(this.finish)], ["percent", text(this.percent)], ["count", text(this.count)], ["rate", text(this.rate)],
    ]);
  }

  /** @param {ItemEntry} entry */
  #showClass({ item, depth, isFirst, isLast }) {
    const state = stateOf(item);
    const isLate = item.status === "running" && item.late;
    const className =
      `item ${state}${isLate ? " is-late" : ""}${estimatedShareOf(item) === null ? "" : " estimated"}` +
      `${depth > 0 ? ` child depth-${depth}` : ""}${isFirst ? " first" : ""}${isLast ? " last" : ""}`;
    setStateIcon(this.icon, state === "running" && isLate ? "late" : state);
    if (className === this.#className) return;
    this.#className = className;
    const isPinned = this.node.classList.contains("pinned");
    this.node.className = `${className}${isPinned ? " pinned" : ""}`;
  }

  /** @param {WireItem | null} before */
  #showError(before) {
    const error = this.item?.error ?? "";
    if (before !== null && (before.error ?? "") === error) return;
    this.#setText(this.reason, error === "" ? "" : summarizeError(error));
    this.reason.hidden = error === "";
  }

  /** @param {boolean} isMoving whether the bar has shown this item before, and moves to the new value */
  #showProgress(isMoving) {
    const item = /** @type {WireItem} */ (this.item);
    const share = estimatedShareOf(item);
    const isOpen = share === null && isOpenEnded(item);
    const value = share ?? item.value;
    // Steps below a thousandth of the bar are invisible, and not drawn.
    const barValue = isOpen ? null : value > 0 && value < 1 ? Math.floor(value * 1000) / 1000 : Math.min(Math.max(value, 0), 1);
    const percent = formatItemPercent(item, share);
    if (barValue !== this.#barValue) {
      this.#barValue = barValue;
      this.fill.classList.toggle("moving", isMoving);
      this.bar.classList.toggle("open-ended", isOpen);
      // The compositor moves the bar; its width would cause a layout in every frame.
      this.fill.style.transform = barValue === null ? "" : `translateX(calc(var(--direction, 1) * ${(barValue * 100 - 100).toFixed(1)}%))`;
      if (barValue === null) this.bar.removeAttribute("aria-valuenow");
      else this.bar.setAttribute("aria-valuenow", String(Math.floor(barValue * 100)));
    }
    const valueText = share !== null ? formatEstimatedShare(share) : percent;
    if (this.#setText(this.percent, percent) || valueText !== this.bar.getAttribute("aria-valuetext")) {
      if (valueText === "") this.bar.removeAttribute("aria-valuetext");
      else this.bar.setAttribute("aria-valuetext", valueText);
      this.percent.title = share === null ? "" : valueText;
    }
    const count = formatItemCount(item);
    if (this.#setText(this.count, count)) this.count.title = count;
    this.#setText(this.rate, item.status === "running" ? formatRate(item) : "");
  }

  /** @param {number} now */
  #updatePhrases(now) {
    const item = /** @type {WireItem} */ (this.item);
    const estimate = formatShortEstimate(item, now);
    const finish = estimate !== "" ? estimate : describeAge(item, now);
    this.#setText(this.finish, finish);
    this.finish.classList.toggle("is-age", estimate === "");
    this.#setText(this.hint, describeHint(item, now, estimate !== ""));
    const silence = describeSilence(item, now);
    this.#setText(this.silence, silence.text);
    this.silence.classList.toggle("mild", !silence.isAlarming);
    const slowness = formatSlowness(item, now);
    const late = item.status === "running" ? formatLateness(item, now) : "";
    this.#setText(this.slowness, slowness);
    this.#setText(this.late, late);
    // Texts without seconds change once a minute.
    const isFine = [finish, silence.text, slowness, late].some((text) => /\d s\b/.test(text));
    this.#phrasedAt = now;
    this.#phraseInterval = isFine ? 0 : PHRASE_INTERVAL_MS;
  }

  /**
   * Returns whether the text of an element has changed. A text node is written without a layout of its element's children.
   *
   * @param {Element} element
   * @param {string} text
   */
  #setText(element, text) {
    if ((this.#texts.get(element) ?? "") === text) return false;
    this.#texts.set(element, text);
    if (element.firstChild instanceof Text && text !== "") element.firstChild.data = text;
    else element.textContent = text;
    return true;
  }
}

/**
 * Returns for how long an item has been running, or when it ended.
 *
 * @param {WireItem} item
 * @param {number} now
 */
function describeAge(item, now) {
  const age = formatAge((now - Date.parse(item.ended_at ?? item.started_at)) / 1000);
  return item.ended_at === null ? `for ${age}` : `${item.status} ${age} ago`;
}

/**
 * Returns what is shown while the pointer or the focus is on a row: the range and basis of its estimate, and its times.
 *
 * @param {WireItem} item
 * @param {number} now
 * @param {boolean} hasEstimate
 */
function describeHint(item, now, hasEstimate) {
  const range = hasEstimate ? describeEstimate(item, now).range : "";
  const basis = hasEstimate ? describeBasis(item) : "";
  const duration = item.ended_at === null ? "" : `took ${formatDuration(Math.max(Date.parse(item.ended_at) - Date.parse(item.started_at), 0) / 1000)}`;
  const times = `started ${formatInstant(item.started_at)}${item.ended_at === null ? "" : `, ended ${formatInstant(item.ended_at)}`}`;
  return [range, basis, duration, times, item.owner === "" ? "" : `by ${item.owner}`].filter((text) => text !== "").join(" · ");
}
