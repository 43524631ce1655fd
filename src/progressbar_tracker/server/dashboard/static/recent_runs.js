// The runs that ended most recently, below the board. Inner bars are left out unless they failed.

import { formatClockTime } from "./clock.js";
import { createElement } from "./dom.js";
import { summarizeError } from "./error_text.js";
import { formatDuration, formatInstant, isInner, itemUrl, titleOf } from "./format.js";
import { createStateIcon, setStateIcon } from "./icons.js";

const MAX_RUNS = 8;
const MAX_READ_RUNS = 200; // from which those without a group are chosen: the server has no such filter
const MAX_TITLE_LENGTH = 500; // characters
const FETCH_TIMEOUT_MS = 10000;

/** @typedef {WireItem & { ended_at: string }} Run */

export class RecentRuns {
  #section;
  #list;
  #now;
  #group;
  #url;
  #urlOfRun;
  /** @type {Run[]} */
  #runs = [];

  /**
   * @param {HTMLElement} section is hidden without runs.
   * @param {HTMLElement} list
   * @param {object} options
   * @param {() => number} options.now The clock.
   * @param {string | null} [options.group] The only group to show; empty for runs without one.
   * @param {string} [options.url] The list of runs.
   * @param {((run: Run) => string) | null} [options.urlOfRun] Null if readers have no page of a run.
   */
  constructor(section, list, { now, group = null, url = "api/v1/history", urlOfRun = runUrl }) {
    this.#section = section;
    this.#list = list;
    this.#now = now;
    this.#group = group;
    const query = new URLSearchParams({ limit: `${group === "" ? MAX_READ_RUNS : MAX_RUNS}`, inner: "false", ...(group ? { group } : {}) });
    this.#url = `${url}?${query}`;
    this.#urlOfRun = urlOfRun;
  }

  /** Reads the runs from the history. */
  async fetch() {
    try {
      const response = await fetch(this.#url, { signal: AbortSignal.timeout(FETCH_TIMEOUT_MS) });
      if (response.ok) this.#show((await response.json()).items);
    } catch {
      // The stream reports the lost connection, and the runs are read again after the next snapshot.
    }
  }

  /**
   * Adds runs that have just ended, in the order of their ends.
   *
   * @param {WireItem[]} ended
   */
  add(ended) {
    const runs = this.#select(ended);
    if (runs.length > 0) this.#show([...runs.toReversed(), ...this.#runs]);
  }

  /** Updates the times: a time without a day is of today. */
  update() {
    for (const [n, run] of this.#runs.entries()) {
      const time = this.#list.children[n]?.querySelector("time");
      const text = this.#formatEnd(run);
      if (time && time.textContent !== text) time.textContent = text;
    }
  }

  /** @param {Run[]} runs */
  #show(runs) {
    this.#runs = this.#select(runs).slice(0, MAX_RUNS);
    this.#section.hidden = this.#runs.length === 0;
    this.#list.replaceChildren(...this.#runs.map((run) => this.#createRow(run)));
  }

  /** @param {WireItem[]} runs */
  #select(runs) {
    return runs.filter(isListed).filter((run) => this.#group === null || (run.group ?? "") === this.#group);
  }

  /** @param {Run} run */
  #createRow(run) {
    const seconds = Math.max(Date.parse(run.ended_at) - Date.parse(run.started_at), 0) / 1000;
    const error = run.error ?? "";
    const title = createElement("bdi", {}, titleOf(run));
    const url = this.#urlOfRun?.(run);
    const icon = createStateIcon();
    setStateIcon(icon, run.status);
    icon.setAttribute("aria-hidden", "true"); // the status is a text of the row
    return createElement("li", { class: `run ${run.status}` },
      icon,
      url === undefined ? createElement("span", { class: "title" }, title) : createElement("a", { class: "title", href: url }, title),
      createElement("span", { class: "state" }, run.status),
      createElement("span", { class: "muted" }, `after ${formatDuration(seconds)}`),
      error !== "" && createElement("bdi", { class: "reason-text", title: error.slice(0, MAX_TITLE_LENGTH) }, summarizeError(error)),
      createElement("time", { class: "muted", datetime: run.ended_at, title: formatInstant(run.ended_at) }, this.#formatEnd(run)));
  }

  /** @param {Run} run */
  #formatEnd(run) {
    return formatClockTime(Date.parse(run.ended_at), this.#now());
  }
}

/**
 * Returns the URL of the page of a run.
 *
 * @param {{ id: string, run_id: string }} run
 */
export function runUrl({ id, run_id }) {
  const url = itemUrl(id);
  return `${url}${url.includes("?") ? "&" : "?"}run=${encodeURIComponent(run_id)}`;
}

/**
 * @param {WireItem} run
 * @returns {run is Run}
 */
function isListed(run) {
  return run.ended_at !== null && !isInner(run);
}
