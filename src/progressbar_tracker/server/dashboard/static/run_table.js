// A table of ended runs, for the history and the item page. An error has a line of its own, at full width.

import { createTime } from "./dates.js";
import { createElement } from "./dom.js";
import { createErrorText } from "./error_text.js";
import { ICONS, formatCount, formatDuration, formatItemPercent } from "./format.js";
import { formatStop } from "./phrases.js";
import { historyPageUrl, itemPageUrl, runPageUrl } from "./urls.js";

/**
 * Creates a table of runs.
 *
 * @param {string} caption
 * @param {WireItem[]} runs
 * @param {{ hasItems?: boolean }} [options] `hasItems`: with the title, the id and the group of each run
 */
export function createRunTable(caption, runs, { hasItems = true } = {}) {
  const columns = ["Ended as", ...(hasItems ? ["Item", "Group"] : ["Run"]), "Got to", "Took", "Started", "Ended"];
  const heading = (/** @type {string} */ text) => createElement("th", { role: "columnheader", scope: "col" }, text);
  return createElement(
    "table",
    { class: "table run-table", role: "table" },
    createElement("caption", { class: "visually-hidden" }, caption),
    createElement("thead", { role: "rowgroup" }, createElement("tr", { role: "row" }, ...columns.map(heading))),
    createElement("tbody", { role: "rowgroup" }, ...runs.flatMap((run) => createRows(run, hasItems, columns.length))),
  );
}

/** @param {WireItem} run */
export function measureSeconds({ started_at: startedAt, ended_at: endedAt }) {
  return Math.max((Date.parse(endedAt ?? startedAt) - Date.parse(startedAt)) / 1000, 0);
}

/**
 * @param {WireItem} run
 * @param {boolean} hasItems
 * @param {number} columnCount
 */
function createRows(run, hasItems, columnCount) {
  const state = createElement("td", { role: "cell", class: "state" }, icon(run.status), ` ${run.status}`);
  const cells = [state, ...(hasItems ? createItemCells(run) : [createRunCell(run)]), ...createNumberCells(run)];
  const row = createElement("tr", { role: "row", class: run.status, "data-run": run.run_id }, ...cells);
  const stop = formatStop(run);
  if (!run.error && stop === "") return [row];
  row.classList.add("has-error");
  const reason = run.error ? createErrorText(run.error) : createElement("bdi", { class: "stop-request" }, stop);
  const cell = createElement("td", { role: "cell", colspan: columnCount }, reason);
  return [row, createElement("tr", { role: "row", class: `error-row ${run.status}` }, cell)];
}

/** @param {string} status */
function icon(status) {
  return createElement("span", { class: "icon", "aria-hidden": "true" }, ICONS[/** @type {keyof typeof ICONS} */ (status)] ?? "");
}

/** @param {WireItem} run */
function createItemCells(run) {
  const title = run.title || run.id;
  return [
    createElement(
      "td",
      { role: "cell", class: "main" },
      createElement("a", { href: runPageUrl(run.id, run.run_id) }, createElement("bdi", {}, title)),
      title !== run.id && " ",
      title !== run.id && createElement("bdi", { class: "muted" }, run.id),
      run.parent !== null && createElement("span", { class: "muted" }, " part of ", createElement("a", { href: itemPageUrl(run.parent) }, createElement("bdi", {}, run.parent))),
    ),
    createElement("td", { role: "cell", class: "group" }, run.group !== null && createElement("a", { href: historyPageUrl({ group: run.group }) }, createElement("bdi", {}, run.group))),
  ];
}

/** @param {WireItem} run */
function createRunCell(run) {
  return createElement("td", { role: "cell", class: "main" }, createElement("a", { href: runPageUrl(run.id, run.run_id) }, createElement("bdi", {}, run.run_id)));
}

/** @param {WireItem} run */
function createNumberCells(run) {
  const [percent, count] = [formatItemPercent(run), formatCount(run)];
  return [
    createElement(
      "td",
      { role: "cell", class: "got nowrap" },
      percent,
      percent !== "" && count !== "" && " ",
      count !== "" && createElement("span", { class: percent === "" ? "" : "muted" }, count),
    ),
    createElement("td", { role: "cell", "data-label": "Took", class: "took nowrap" }, formatDuration(measureSeconds(run))),
    createElement("td", { role: "cell", class: "started nowrap" }, createTime(run.started_at)),
    createElement("td", { role: "cell", "data-label": "Ended", class: "ended nowrap" }, run.ended_at !== null && createTime(run.ended_at)),
  ];
}
