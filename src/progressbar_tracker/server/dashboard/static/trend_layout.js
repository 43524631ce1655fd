// How long the runs of an id took: which of them a trend shows, and in which place. Pure.

import { createScale } from "./chart_axes.js";
import { formatDate } from "./dates.js";
import { formatDuration } from "./format.js";

const MIN_RUNS = 20;
const MIN_COLUMNS = 8; // that fill the width; fewer runs are not further apart
const MAX_RUNS = 100;
const MIN_COLUMN = 12; // pixels a run
const CLIP_FACTOR = 2; // the axis ends there, in multiples of the longest usual duration

/**
 * Returns how many runs have room.
 *
 * @param {number} width pixels
 */
export function countColumns(width) {
  return Math.min(Math.max(Math.floor(width / MIN_COLUMN), MIN_RUNS), MAX_RUNS);
}

/**
 * Returns the runs of a trend, oldest first: the ended ones, and the run on the board if it is not among them.
 *
 * @param {PastRun[]} ended newest first
 * @param {WireItem | null} item the item on the board
 * @param {number} now the server's time in milliseconds
 * @returns {PastRun[]}
 */
export function mergeRuns(ended, item, now) {
  const runs = [...ended].reverse();
  if (item === null || runs.some((run) => run.run_id === item.run_id)) return runs;
  const endedAt = item.ended_at ?? new Date(now).toISOString();
  const seconds = Math.max((Date.parse(endedAt) - Date.parse(item.started_at)) / 1000, 0);
  const status = (item.status);
  return [...runs, { run_id: item.run_id, status, started_at: item.started_at, ended_at: endedAt, duration_seconds: seconds }];
}

/**
 * Returns the end of the vertical axis. One run of ten times the usual duration would flatten all others.
 *
 * @param {PastRun[]} runs
 * @param {RunStatistics} statistics
 */
export function findTop(runs, { high_duration_seconds: high }) {
  const longest = Math.max(...runs.map((run) => run.duration_seconds), 1);
  return high !== null && high > 0 ? Math.min(longest, Math.max(high * CLIP_FACTOR, 1)) : longest;
}

/**
 * Returns the places of runs.
 *
 * @param {PastRun[]} runs oldest first
 * @param {number} top the end of the vertical axis, in seconds
 * @param {{ left: number, right: number, top: number, bottom: number }} box
 */
export function placeRuns(runs, top, box) {
  const step = (box.right - box.left) / Math.max(runs.length, MIN_COLUMNS);
  const y = createScale(top, box.bottom, box.top);
  return runs.map((run, n) => ({
    run, step, x: box.left + (n + 0.5) * step, y: y(run.duration_seconds), isClipped: run.duration_seconds > top,
  }));
}

/**
 * Describes a run in words, such as "failed after 5 min 2 s, started 28 Nov, 02:30".
 *
 * @param {PastRun} run
 */
export function describeRun({ status, duration_seconds: seconds, started_at: startedAt }) {
  const duration = formatDuration(seconds);
  const verb = { running: "running for", succeeded: "succeeded in" }[/** @type {string} */ (status)] ?? `${status} after`;
  return `${verb} ${duration}, started ${formatDate(startedAt)}`;
}
