// What the curve of a run shows: its own progress, that of former runs, their median, and the predicted finish. Pure.

import { isIndeterminate } from "./format.js";
import { readEstimate } from "./phrases.js";

const MEDIAN_LEVELS = 50;
const MIN_MEDIAN_RUNS = 3;
const MIN_MEDIAN_SHARE = 0.75; // of the curves, which reach a height; the slow ones would be missing
const MIN_PAST_SHARE = 0.05; // of the width; with less, the predicted finish is not drawn
const MAX_FORMER_FACTOR = 3; // the axis ends there, in multiples of the longest other curve
const MIN_AXIS_SECONDS = 1;

/** @typedef {[number, number]} Point seconds since the start, and a height */

/**
 * @typedef {object} CurveModel
 * @property {boolean} isShare Whether heights are shares of the work, 0 to 1, instead of counts.
 * @property {string} unit Of counts.
 * @property {number} top The end of the vertical axis.
 * @property {number} seconds The end of the horizontal axis.
 * @property {Point[]} current
 * @property {Point[][]} former
 * @property {Point[]} median Empty without enough former runs.
 * @property {{ at: number, low: number | null, high: number | null, level: number } | null} finish
 */

/**
 * Returns the model of a curve.
 *
 * @param {RunCurve} run
 * @param {RunCurve[]} formerRuns
 * @param {WireItem} item the current or last state of the run
 * @param {number} now the server's time in milliseconds
 * @returns {CurveModel}
 */
export function buildCurve(run, formerRuns, item, now) {
  const isShare = !isIndeterminate(item);
  const scale = isShare ? (item.completed === null ? 1 : run.total || item.total || 1) : 1;
  const current = scalePoints(run.points, scale);
  const former = formerRuns.map((other) => scalePoints(other.points, isShare ? findTotal(other) : 1)).filter((points) => points.length > 1);
  const median = findMedian(former);
  const last = current.at(-1)?.[0] ?? 0;
  const estimatedTotal = estimateTotal(item, median);
  const highest = Math.max(...[current, ...former].flat().map(([, height]) => height), 0);
  const top = isShare ? 1 : Math.max(highest, estimatedTotal, 1);
  const finish = findFinish(item, now, last, isShare ? 1 : estimatedTotal);
  const own = Math.max(last, finish === null ? 0 : Math.max(finish.at, finish.high ?? 0), median.at(-1)?.[0] ?? 0, MIN_AXIS_SECONDS);
  const longest = Math.max(...former.map((points) => points.at(-1)?.[0] ?? 0), own);
  return { isShare, unit: run.unit, top, seconds: Math.min(longest, own * MAX_FORMER_FACTOR), current, former, median, finish };
}

/**
 * Adds the latest state of a running item to its curve.
 *
 * @param {RunCurve} run
 * @param {WireItem} item
 * @returns {RunCurve}
 */
export function extendCurve(run, item) {
  const seconds = (Date.parse(item.ended_at ?? item.updated_at) - Date.parse(run.started_at)) / 1000;
  const last = run.points.at(-1);
  if (!(seconds > (last?.[0] ?? -1))) return run;
  return { ...run, status: (item.status), total: item.total, points: thin([...run.points, [seconds, item.completed ?? item.value]]) };
}

const MAX_POINTS = 600;

/**
 * Drops every other point of a curve with too many, except the last one.
 *
 * @param {Point[]} points
 */
function thin(points) {
  return points.length <= MAX_POINTS ? points : points.filter((_, n) => n % 2 === 0 || n === points.length - 1);
}

/**
 * Returns the height of a curve at an instant; null outside of it.
 *
 * @param {Point[]} points
 * @param {number} seconds
 */
export function findHeight(points, seconds) {
  const next = points.findIndex(([at]) => at >= seconds);
  if (next < 0) return null;
  const [at, height] = /** @type {Point} */ (points[next]);
  const before = points[next - 1];
  if (before === undefined) return at === seconds ? height : null;
  return before[1] + ((height - before[1]) * (seconds - before[0])) / (at - before[0] || 1);
}

/**
 * Returns the median of curves: for each height, the time at which half of them had reached it.
 *
 * @param {Point[][]} curves
 * @returns {Point[]}
 */
export function findMedian(curves) {
  if (curves.length < MIN_MEDIAN_RUNS) return [];
  const top = findMiddle(curves.map((points) => Math.max(...points.map(([, height]) => height))));
  /** @type {Point[]} */
  const median = [];
  for (let n = 0; n <= MEDIAN_LEVELS; n++) {
    const level = (top * n) / MEDIAN_LEVELS;
    const times = curves.map((points) => findTime(points, level)).filter((seconds) => seconds !== null);
    if (times.length >= MIN_MEDIAN_SHARE * curves.length) median.push([findMiddle(times), level]);
  }
  // Curves that end below the level leave the sample, which could turn the line back.
  for (let n = 1; n < median.length; n++) {
    const [before, point] = [/** @type {Point} */ (median[n - 1]), /** @type {Point} */ (median[n])];
    point[0] = Math.max(point[0], before[0]);
  }
  return median;
}

/**
 * Returns the first time at which a curve reaches a height; null if it never does.
 *
 * @param {Point[]} points
 * @param {number} level
 */
function findTime(points, level) {
  const next = points.findIndex(([, height]) => height >= level);
  if (next < 0) return null;
  const [at, height] = /** @type {Point} */ (points[next]);
  const before = points[next - 1];
  if (before === undefined || height === before[1]) return at;
  return before[0] + ((at - before[0]) * (level - before[1])) / (height - before[1]);
}

/** @param {number[]} values */
function findMiddle(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const half = Math.floor(sorted.length / 2);
  const upper = /** @type {number} */ (sorted[half]);
  return sorted.length % 2 === 1 ? upper : (/** @type {number} */ (sorted[half - 1]) + upper) / 2;
}

/**
 * Returns the total of a former run, all of which succeeded: without a known one it is where the run ended.
 *
 * @param {RunCurve} run
 */
function findTotal(run) {
  return run.total || run.points.at(-1)?.[1] || 1;
}

/**
 * @param {Point[]} points
 * @param {number} scale
 * @returns {Point[]}
 */
function scalePoints(points, scale) {
  return points.map(([at, position]) => [Math.max(at, 0), position / scale]);
}

/**
 * Returns the count at which a run without a total may end; 0 if that is unknown.
 *
 * @param {WireItem} item
 * @param {Point[]} median that of former runs
 */
function estimateTotal({ completed, estimated_total: total, estimated_value: share }, median) {
  if (total !== null && total > 0) return total;
  if (completed !== null && share !== null && share > 0 && share <= 1) return completed / share;
  return median.at(-1)?.[1] ?? 0;
}

/**
 * @param {WireItem} item
 * @param {number} now
 * @param {number} last seconds from the start to the latest point
 * @param {number} level the height at the finish
 */
function findFinish(item, now, last, level) {
  const estimate = readEstimate(item, now);
  if (estimate === null || estimate.finishAt === null || level <= 0) return null;
  const start = Date.parse(item.started_at) / 1000;
  const at = estimate.finishAt - start;
  const low = estimate.lowAt === null ? null : Math.max(estimate.lowAt - start, last);
  const high = estimate.highAt === null ? null : estimate.highAt - start;
  if (at <= last || last < MIN_PAST_SHARE * Math.max(at, high ?? 0)) return null;
  return { at, low, high, level };
}
