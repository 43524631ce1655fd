// The last runs of an item as small columns: the height is the duration, and colour and shape are the status.

import { createElement, createSvg } from "./dom.js";
import { formatDuration, itemUrl } from "./format.js";
import { formatRoughDuration } from "./phrases.js";

export const MAX_COLUMNS = 20;

const WIDTH = 4;
const GAP = 1;
const THIN_WIDTH = 1.5; // of a stopped run
const OUTLINE = 1; // of the current run
const BASELINE = 18;
const MIN_HEIGHT = 2;
const MARK_HEIGHT = 2.5; // below a failed run
const VIEW_BOX = `0 0 ${(MAX_COLUMNS + 1) * (WIDTH + GAP) - GAP} ${BASELINE + 1 + MARK_HEIGHT}`;

/** @typedef {{ run_id: string, status: Status | "deleted", duration_seconds: number | null }} ColumnRun */
/** @typedef {{ x: number, height: number, status: "succeeded" | "failed" | "stopped" | "running" }} Column */

/**
 * Returns the columns, the oldest run first and the current one in the last place. Heights are relative to the longest run.
 * There are none without a former run to compare with.
 *
 * @param {WireItem} item
 * @param {ColumnRun[]} runs newest first
 * @param {number} now
 * @returns {Column[]}
 */
export function layoutColumns(item, runs, now) {
  const ended = listEndedRuns(item, runs);
  if (ended.length === 0) return [];
  const elapsed = item.status === "running" ? Math.max(now - Date.parse(item.started_at), 0) / 1000 : null;
  const longest = Math.max(...ended.map(({ duration_seconds }) => duration_seconds ?? 0), elapsed ?? 0) || 1;
  const scale = (/** @type {number} */ seconds) => Math.max(Math.round((seconds / longest) * BASELINE * 2) / 2, MIN_HEIGHT);
  /** @type {Column[]} */
  const columns = ended.map(({ status, duration_seconds }, n) => ({
    x: (MAX_COLUMNS - 1 - n) * (WIDTH + GAP),
    height: scale(duration_seconds ?? 0),
    status: status === "succeeded" || status === "failed" ? status : "stopped",
  }));
  columns.reverse();
  if (elapsed !== null) columns.push({ x: MAX_COLUMNS * (WIDTH + GAP), height: scale(elapsed), status: "running" });
  return columns;
}

/**
 * Describes the runs in words, such as "last 20 runs: 18 succeeded, 2 failed, usually 25 min".
 *
 * @param {WireItem} item
 * @param {ColumnRun[]} runs newest first
 */
export function describeColumns(item, runs) {
  const ended = listEndedRuns(item, runs);
  if (ended.length === 0) return "";
  const counts = ["succeeded", "failed", "stopped", "deleted"]
    .map((status) => [ended.filter((run) => run.status === status).length, status])
    .filter(([count]) => count !== 0)
    .map((parts) => parts.join(" "));
  const durations = ended.filter((run) => run.status === "succeeded").map((run) => run.duration_seconds ?? 0).sort((a, b) => a - b);
  const middle = durations.length / 2;
  const median = (durations[Math.ceil(middle) - 1] + durations[Math.floor(middle)]) / 2;
  const usually = durations.length > 0 ? [`usually ${(durations.length === 1 ? formatDuration : formatRoughDuration)(median)}`] : [];
  const name = ended.length === 1 ? "last run" : `last ${ended.length} runs`;
  return `${name}: ${[...counts, ...usually].join(", ")}`;
}

/** The columns of a row: a link to the page of the item. */
export class Columns {
  node = createElement("a", { class: "columns", tabindex: "-1", hidden: true }); // the title is the link for the keyboard
  /** @type {Map<string, SVGPathElement>} */
  #paths = new Map();
  #shape = "";
  #text = "";

  /**
   * @param {WireItem} item
   * @param {ColumnRun[] | undefined} runs newest first; undefined while they are not known
   * @param {number} now
   */
  update(item, runs, now) {
    const columns = layoutColumns(item, runs ?? [], now);
    const shape = JSON.stringify(columns);
    if (shape !== this.#shape) this.#draw(columns, shape);
    const text = describeColumns(item, runs ?? []);
    const href = itemUrl(item.id);
    if (this.node.getAttribute("href") !== href) this.node.setAttribute("href", href);
    if (text === this.#text) return;
    this.#text = text;
    this.node.hidden = text === "";
    this.node.title = text;
    this.node.setAttribute("aria-label", text);
  }

  /**
   * @param {Column[]} columns
   * @param {string} shape
   */
  #draw(columns, shape) {
    this.#shape = shape;
    if (this.node.firstChild === null) this.node.append(createSvg("svg", { viewBox: VIEW_BOX, "aria-hidden": "true" }));
    /** @type {Record<string, string>} */
    const outlines = { succeeded: "", failed: "", stopped: "", running: "" };
    for (const column of columns) outlines[column.status] += drawColumn(column);
    for (const [status, outline] of Object.entries(outlines)) {
      let path = this.#paths.get(status);
      if (path === undefined && outline === "") continue;
      if (path === undefined) {
        this.#paths.set(status, (path = createSvg("path", { class: status })));
        this.node.firstElementChild?.append(path);
      }
      path.setAttribute("d", outline);
    }
  }
}

/**
 * Returns the ended runs, newest first; none without a former run. The run of an ended item is in the history only after the
 * item has left the board.
 *
 * @param {WireItem} item
 * @param {ColumnRun[]} runs
 */
function listEndedRuns(item, runs) {
  const former = runs.filter(({ run_id }) => run_id !== item.run_id);
  if (former.length === 0 || item.ended_at === null) return former.slice(0, MAX_COLUMNS);
  const duration_seconds = Math.max(Date.parse(item.ended_at) - Date.parse(item.started_at), 0) / 1000;
  return [{ run_id: item.run_id, status: item.status, duration_seconds }, ...former].slice(0, MAX_COLUMNS);
}

/** @param {Column} column */
function drawColumn({ x, height, status }) {
  const y = BASELINE - height;
  if (status === "running") {
    return drawRectangle(x + OUTLINE / 2, y + OUTLINE / 2, WIDTH - OUTLINE, Math.max(height - OUTLINE, OUTLINE));
  }
  if (status === "stopped") return drawRectangle(x + (WIDTH - THIN_WIDTH) / 2, y, THIN_WIDTH, height);
  const column = drawRectangle(x, y, WIDTH, height);
  return status === "failed" ? column + drawRectangle(x, BASELINE + 1, WIDTH, MARK_HEIGHT) : column;
}

/**
 * @param {number} x
 * @param {number} y
 * @param {number} width
 * @param {number} height
 */
function drawRectangle(x, y, width, height) {
  return `M${x} ${y}h${width}v${height}h${-width}z`;
}
