// The runs of a timeline as a table: for screen readers, for copying, and for print.

import { createElement } from "./dom.js";
import { describeRun } from "./timeline_texts.js";

/** @typedef {import("./timeline_runs.js").TimelineRun} TimelineRun */

const MAX_ROWS = 200;
const HEADINGS = ["Run", "Group", "Status", "Time", "Note"];

/**
 * Fills a container with the table of the newest runs of an interval.
 *
 * @param {HTMLElement} container
 * @param {TimelineRun[]} runs
 * @param {number} now
 * @param {(run: TimelineRun) => string | null} urlOf
 */
export function renderTable(container, runs, now, urlOf) {
  const sorted = [...runs].sort((a, b) => Number(a.end !== null) - Number(b.end !== null) || b.start - a.start);
  const head = createElement("tr", {}, ...HEADINGS.map((text) => createElement("th", { scope: "col" }, text)));
  const rows = sorted.slice(0, MAX_ROWS).map((run) => createRow(run, now, urlOf(run)));
  const caption = sorted.length > MAX_ROWS ? `The ${MAX_ROWS} newest of ${sorted.length.toLocaleString()} runs` : `${sorted.length} runs`;
  container.replaceChildren(
    createElement(
      "table",
      { class: "table" },
      createElement("caption", {}, sorted.length === 1 ? "1 run" : caption),
      createElement("thead", {}, head),
      createElement("tbody", {}, ...rows),
    ),
  );
}

/** @param {TimelineRun} run @param {number} now @param {string | null} url */
function createRow(run, now, url) {
  const { title, icon, status, times, notes, error } = describeRun(run, now);
  const name = createElement("bdi", {}, title);
  return createElement(
    "tr",
    {},
    createElement("td", { class: "main" }, url === null ? name : createElement("a", { href: url }, name)),
    createElement("td", { "data-label": "Group" }, run.group),
    createElement("td", { class: `state ${run.state}` }, `${icon} ${status}`),
    createElement("td", {}, times),
    createElement("td", { class: "wrap" }, [...notes, error].filter((text) => text !== "").join(" ")),
  );
}
