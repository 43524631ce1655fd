// The inner bars of a run: those on the board, and those that have left it.

import { formatDate } from "./dates.js";
import { createElement, setText } from "./dom.js";
import { showError } from "./error_text.js";
import { ICONS, estimatedShareOf, formatDuration, formatItemPercent, formatNumber, isOpenEnded, stateOf, titleOf } from "./format.js";
import { formatItemCount, formatShortEstimate, formatSilence } from "./phrases.js";
import { measureSeconds } from "./run_table.js";
import { historyPageUrl, itemPageUrl, runPageUrl } from "./urls.js";

const MAX_CHILDREN = 100;

/** The list of the inner bars of a run. */
export class ChildList {
  /** @param {string} id the parent */
  constructor(id) {
    this.rows = createElement("ul", { class: "children" });
    this.heading = createElement("h2", {}, "Inner bars");
    this.more = createElement("p", { hidden: true }, createElement("a", { href: historyPageUrl({ parent: id }) }, "All inner bars that have ended"));
    this.short = createElement("p", { class: "muted", hidden: true });
    this.section = createElement("section", { class: "item-children", hidden: true }, this.heading, this.rows, this.more, this.short);
    /** @type {Map<string, WireItem>} on the board, by id */
    this.live = new Map();
    /** @type {WireItem[]} */
    this.ended = [];
    this.hasMore = false; // whether others have ended
    /** @type {Map<string, HTMLElement>} */
    this.nodes = new Map();
  }

  /**
   * Shows the children of a run.
   *
   * @param {WireItem} run
   * @param {number} now the server's time in milliseconds
   */
  show(run, now) {
    const children = selectChildren(run, [...this.live.values()], this.ended);
    const shortRuns = run.short_runs ?? 0; // an older server has no such count
    this.section.hidden = children.length === 0 && shortRuns === 0;
    setText(this.heading, children.length === 0 ? "Inner bars" : `Inner bars (${this.hasMore ? "more than " : ""}${children.length})`);
    this.short.hidden = shortRuns === 0;
    setText(this.short, formatShortRuns(shortRuns, children.length > 0));
    this.more.hidden = children.length <= MAX_CHILDREN && !this.hasMore;
    const shown = children.slice(0, MAX_CHILDREN);
    const nodes = shown.map((child) => {
      const key = JSON.stringify([child.id, child.run_id]);
      const node = this.nodes.get(key) ?? createRow();
      this.nodes.set(key, node);
      showChild(node, child, now);
      return node;
    });
    for (const [key, node] of this.nodes) if (!nodes.includes(node)) this.nodes.delete(key);
    // Moving an element would take its focus away.
    if (nodes.length !== this.rows.children.length || nodes.some((node, n) => this.rows.children[n] !== node)) this.rows.replaceChildren(...nodes);
  }
}

/**
 * Returns the children that overlap a run: running ones first, then failed ones, each newest first.
 *
 * @param {WireItem} run
 * @param {WireItem[]} live
 * @param {WireItem[]} ended
 */
export function selectChildren(run, live, ended) {
  const [start, end] = [Date.parse(run.started_at), run.ended_at === null ? Infinity : Date.parse(run.ended_at)];
  /** @type {Map<string, WireItem>} */
  const byRun = new Map();
  for (const child of [...ended, ...live]) {
    const childEnd = child.ended_at === null ? Infinity : Date.parse(child.ended_at);
    if (Date.parse(child.started_at) <= end && childEnd >= start) byRun.set(JSON.stringify([child.id, child.run_id]), child);
  }
  return [...byRun.values()].sort((a, b) => rank(a) - rank(b) || Date.parse(b.started_at) - Date.parse(a.started_at) || (a.id < b.id ? -1 : 1));
}

/**
 * Formats the number of inner bars that were too short to be listed.
 *
 * @param {number} count
 * @param {boolean} hasOthers whether other inner bars are listed
 */
function formatShortRuns(count, hasOthers) {
  return `${formatNumber(count)} ${hasOthers ? "more " : ""}inner ${count === 1 ? "bar" : "bars"} ended too soon to be listed.`;
}

/** @param {WireItem} child */
function rank({ status }) {
  return status === "running" ? 0 : status === "failed" ? 1 : 2;
}

function createRow() {
  /** @param {string} name */
  const part = (name) => createElement("span", { class: name, "data-part": name });
  return createElement(
    "li",
    { class: "child-row" },
    createElement("span", { class: "icon", role: "img" }),
    createElement("a", { class: "title" }, createElement("bdi", {})),
    createElement("progress", { max: 1 }),
    part("percent"), part("count"), part("when"),
    createElement("div", { class: "child-error" }),
  );
}

/**
 * @param {HTMLElement} node
 * @param {WireItem} child
 * @param {number} now
 */
function showChild(node, child, now) {
  const [state, share] = [stateOf(child), estimatedShareOf(child)];
  node.className = `child-row ${state}${share === null ? "" : " estimated"}`;
  const [icon, link, progress] = /** @type {[HTMLElement, HTMLAnchorElement, HTMLProgressElement]} */ ([...node.children]);
  setText(icon, ICONS[/** @type {keyof typeof ICONS} */ (state)]);
  icon.setAttribute("aria-label", state);
  const url = child.status === "running" ? itemPageUrl(child.id) : runPageUrl(child.id, child.run_id);
  if (link.href !== url) link.href = url;
  setText(/** @type {Element} */ (link.firstElementChild), titleOf(child));
  progress.setAttribute("aria-label", titleOf(child));
  if (share === null && isOpenEnded(child)) progress.removeAttribute("value");
  else progress.value = share ?? child.value;
  const when =
    child.status === "running"
      ? formatSilence(child, now) || formatShortEstimate(child, now)
      : `${formatDuration(measureSeconds(child))}, ended ${formatDate(child.ended_at ?? "")}`;
  const texts = { percent: formatItemPercent(child, share), count: formatItemCount(child), when };
  for (const [name, text] of Object.entries(texts)) setText(/** @type {Element} */ (node.querySelector(`[data-part=${name}]`)), text);
  showError(/** @type {Element} */ (node.lastElementChild), child.error);
}
