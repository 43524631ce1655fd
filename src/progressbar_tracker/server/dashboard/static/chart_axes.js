// Scales and ticks of the charts. Pure.

import { formatRoughDuration } from "./phrases.js";

const DURATION_STEPS = [
  1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 345600, 604800, 1209600, 2592000,
];

/** @typedef {{ value: number, text: string }} Tick */

/**
 * Returns ticks of a duration from 0 on.
 *
 * @param {number} seconds the end of the axis
 * @param {number} maxCount
 * @returns {Tick[]}
 */
export function createDurationTicks(seconds, maxCount) {
  const least = seconds / Math.max(maxCount, 1);
  const step = DURATION_STEPS.find((candidate) => candidate >= least) ?? chooseStep(seconds, maxCount);
  return listMultiples(step, seconds).map((value) => ({ value, text: value === 0 ? "0" : formatRoughDuration(value) }));
}

/**
 * Returns ticks of a number from 0 on.
 *
 * @param {number} top the end of the axis
 * @param {number} maxCount
 * @param {(value: number) => string} format
 * @returns {Tick[]}
 */
export function createNumberTicks(top, maxCount, format) {
  return listMultiples(chooseStep(top, maxCount), top).map((value) => ({ value, text: format(value) }));
}

/**
 * Returns a step of 1, 2 or 5 and zeros.
 *
 * @param {number} top
 * @param {number} maxCount
 */
function chooseStep(top, maxCount) {
  const least = top / Math.max(maxCount, 1);
  if (!(least > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(least));
  return power * (/** @type {number} */ ([1, 2, 5, 10].find((factor) => factor * power >= least * 0.999999)));
}

/**
 * @param {number} step
 * @param {number} top
 */
function listMultiples(step, top) {
  const count = Math.floor(top / step + 1e-9);
  return Array.from({ length: count + 1 }, (_, n) => n * step);
}

/**
 * Returns a function from values to pixels.
 *
 * @param {number} top the value at `end`; at `start` is 0
 * @param {number} start
 * @param {number} end
 */
export function createScale(top, start, end) {
  /** @param {number} value */
  const scale = (value) => start + (top > 0 ? Math.min(Math.max(value / top, 0), 1) : 0) * (end - start);
  return scale;
}
