// One large bar, of the item page, the run page and the share pages: title, state, bar, expected finish, numbers, error.

import { formatDate } from "./dates.js";
import { createElement, setText } from "./dom.js";
import { showError } from "./error_text.js";
import {
  ICONS, describeStateChange, estimatedShareOf, formatDuration, formatEstimatedShare, formatItemPercent, formatRate, isOpenEnded, stateOf,
  titleOf,
} from "./format.js";
import { describeEstimate, describeSilence, formatBasis, formatItemCount, formatLateness, formatSlowness, formatStop } from "./phrases.js";

/** @type {WeakMap<HTMLElement, WireItem>} */
const shownItems = new WeakMap();

/**
 * Creates a bar without an item.
 *
 * @param {"h1" | "h2" | "h3"} heading the level of its title
 */
export function createBar(heading) {
  /** @param {string} name @param {string} [className] */
  const field = (name, className) => createElement("span", { class: className, "data-field": name });
  return createElement(
    "article",
    { class: "bar" },
    createElement(
      "div",
      { class: "line" },
      createElement(heading, {}, createElement("bdi", { "data-field": "title" })),
      createElement(
        "span",
        { class: "state" },
        createElement("span", { class: "icon", "aria-hidden": "true", "data-field": "icon" }), " ", field("state"), " ",
        createElement("strong", { class: "late", "data-field": "late" }),
      ),
    ),
    createElement("div", { class: "gauge" }, createElement("progress", { max: 1 }), field("percent", "percent")),
    createElement(
      "p",
      { class: "numbers" },
      createElement("span", { class: "expected" }, createElement("strong", { "data-field": "eta" }), " ", field("range")), field("basis"), field("ended"), field("count"), field("estimated"),
      field("rate"),
    ),
    createElement("p", { class: "alerts" }, field("silence", "silence"), field("slowness", "slowness"),
      createElement("bdi", { class: "stop-request", role: "status", "data-field": "stop" })),
    createElement("p", { class: "description" }, createElement("bdi", { "data-field": "description" })),
    createElement("div", { "data-error": true }),
  );
}

/**
 * Shows an item in a bar.
 *
 * @param {HTMLElement} node
 * @param {WireItem} item
 * @param {number} now the server's time in milliseconds
 * @returns {string} an announcement if the state has changed and that matters, else ""
 */
export function renderBar(node, item, now) {
  const state = stateOf(item);
  const share = estimatedShareOf(item);
  const title = titleOf(item);
  const before = node.dataset.state;
  shownItems.set(node, item);
  node.dataset.id = item.id;
  node.dataset.state = state;
  node.className = `bar ${state}${share === null ? "" : " estimated"}`;
  showProgress(/** @type {HTMLProgressElement} */ (node.querySelector("progress")), item, share);
  setFields(node, {
    title, icon: ICONS[/** @type {keyof typeof ICONS} */ (state)], state, percent: formatItemPercent(item, share), estimated: share === null ? "" : "share estimated",
    ended: describeEnd(item), count: formatItemCount(item), rate: formatRate(item), description: item.description,
    stop: formatStop(item),
  });
  const error = node.querySelector("[data-error]");
  if (error !== null) showError(error, item.error, { isOpen: true });
  updateBarTimes(node, now);
  const change = before === undefined ? "" : describeStateChange(before, state);
  return change === "" ? "" : `${title}: ${change}`;
}

/**
 * Updates the texts of a bar that depend on the time.
 *
 * @param {HTMLElement} node
 * @param {number} now the server's time in milliseconds
 */
export function updateBarTimes(node, now) {
  const item = shownItems.get(node);
  if (item === undefined) return;
  const { end, range } = describeEstimate(item, now);
  const silence = describeSilence(item, now);
  node.querySelector("[data-field=silence]")?.classList.toggle("mild", !silence.isAlarming);
  setFields(node, {
    eta: end, range: range === "" ? "" : `(${range})`, basis: end === "" ? "" : formatBasis(item), silence: silence.text,
    slowness: formatSlowness(item, now), late: formatLateness(item, now),
  });
}

/**
 * @param {HTMLProgressElement} progress
 * @param {WireItem} item
 * @param {number | null} share the estimated share
 */
function showProgress(progress, item, share) {
  const value = share ?? item.value;
  progress.setAttribute("aria-label", titleOf(item));
  if (share === null) progress.removeAttribute("aria-valuetext");
  else progress.setAttribute("aria-valuetext", formatEstimatedShare(share));
  if (share === null && isOpenEnded(item)) progress.removeAttribute("value");
  else if (!progress.hasAttribute("value") || progress.value !== value) progress.value = value;
}

/**
 * Returns how long an ended run took, and when it ended, in the viewer's time zone.
 *
 * @param {WireItem} item
 */
function describeEnd(item) {
  if (item.status === "running" || !item.ended_at) return "";
  const seconds = (Date.parse(item.ended_at) - Date.parse(item.started_at)) / 1000;
  return `took ${formatDuration(Math.max(seconds, 0))}, ended ${formatDate(item.ended_at)}`;
}

/**
 * @param {HTMLElement} node
 * @param {Record<string, string>} texts
 */
function setFields(node, texts) {
  for (const [name, text] of Object.entries(texts)) {
    const field = node.querySelector(`[data-field=${name}]`);
    if (field !== null) setText(field, text);
  }
}
