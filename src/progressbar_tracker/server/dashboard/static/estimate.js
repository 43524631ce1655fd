// Reads the estimate of an item, and formats durations and clock times with its uncertainty. _phrases.py has the same
// functions and gives the reasons for the rules.

import { formatClockTime, roundToStep } from "./clock.js";
import { formatSteps } from "./format.js";

/** @typedef {Partial<WireItem>} Item */
/** @typedef {ReturnType<typeof import("./clock.js").createClock>} Clock */

/**
 * @typedef {object} Estimate
 * @property {number} remaining seconds, negative if overdue
 * @property {number | null} finishAt instants are in seconds since the epoch
 * @property {number | null} lowAt
 * @property {number | null} highAt
 * @property {number} width seconds of the interval, 0 without one
 */

const MIN_CLOCK_SECONDS = 60;
const OVERDUE_SECONDS = 10;
const MAX_OVERDUE_SECONDS = 7 * 86400;
export const MAX_REMAINING_SECONDS = 730 * 86400;
const WIDE_INTERVAL_SECONDS = 6 * 3600;
const STEPS_SECONDS = [10, 30, 60, 120, 300, 600, 1800, 3600, 10800, 21600, 43200, 86400, 172800, 432000, 864000, 2592000];
const SMALLEST_STEPS = [
  [60 * 86400, 864000], [7 * 86400, 86400], [3 * 86400, 21600], [86400, 3600], [36000, 1800], [10800, 600], [3600, 300], [600, 60], [0, 10],
];

/**
 * Formats a duration that is not exact anyway, without seconds above ten minutes.
 *
 * @param {number} seconds
 */
export function formatRoughDuration(seconds) {
  return formatSteps(roundToStep(Math.max(seconds, 0), seconds < 60 ? 1 : chooseStep(seconds, 0)));
}

/**
 * Returns the instant at which the run of an item began, in seconds since the epoch; null if it is unknown.
 *
 * @param {Item} item
 */
export function getStart(item) {
  return readInstant(item.started_at) ?? readInstant(item.created_at);
}

/**
 * Returns seconds left, and the instants of the predicted finish and its interval in seconds; null without an estimate.
 *
 * @param {Item} item
 * @param {number} now
 * @returns {Estimate | null}
 */
export function readEstimate(item, now) {
  if (!isRunning(item) || item.stalled || item.stuck) return null;
  const eta = readNumber(item.eta);
  const finishAt = readInstant(item.finish_at);
  const withoutInterval = { remaining: 0, finishAt, lowAt: null, highAt: null, width: 0 };
  if (finishAt === null) return eta === null || eta < 0 ? null : { ...withoutInterval, remaining: eta };
  const remaining = finishAt - now / 1000;
  if (remaining < -MAX_OVERDUE_SECONDS) return null;
  const low = readNumber(item.eta_low);
  const high = readNumber(item.eta_high);
  const isValid = eta !== null && low !== null && high !== null && eta > 0 && low <= eta && eta <= high && high < MAX_REMAINING_SECONDS;
  if (!isValid) return { ...withoutInterval, remaining };
  const highAt = finishAt + (high - eta);
  return { remaining, finishAt, lowAt: finishAt - (eta - low), highAt, width: 2 * (highAt - finishAt) };
}

/** @param {Pick<Estimate, "remaining" | "finishAt">} estimate */
export function isOverdue({ remaining, finishAt }) {
  return finishAt !== null && remaining < -OVERDUE_SECONDS;
}

/**
 * Returns the rounded time that is left; "" for a few seconds.
 *
 * @param {Estimate} estimate
 */
export function formatRemaining({ remaining, width }) {
  if (remaining >= MAX_REMAINING_SECONDS) return "years";
  const seconds = Math.max(remaining, 0);
  const rounded = roundToStep(seconds, chooseStep(seconds, width));
  return rounded > 0 ? `~${formatSteps(rounded)}` : "";
}

/**
 * Returns the step of rounding: an eighth to a quarter of the width, but at most half of the duration.
 *
 * @param {number} seconds
 * @param {number} width
 */
export function chooseStep(seconds, width) {
  const [, smallest] = SMALLEST_STEPS.find(([limit]) => seconds >= limit) ?? [0, STEPS_SECONDS[0]];
  const limit = Math.min(width / 4, seconds / 2);
  return Math.max(smallest, STEPS_SECONDS.findLast((step) => step <= limit) ?? 0);
}

/**
 * @param {Estimate} estimate
 * @param {number} now
 * @param {Clock} clock
 */
export function formatClocks({ remaining, finishAt, lowAt, highAt, width }, now, clock) {
  const none = { finish: "", low: "", high: "" };
  if (finishAt === null || remaining >= MAX_REMAINING_SECONDS) return none;
  if (Math.max(remaining, width / 2) < MIN_CLOCK_SECONDS && !isOverdue({ remaining, finishAt })) return none;
  const step = width >= WIDE_INTERVAL_SECONDS ? 900 : 60;
  const finish = formatClockTime(finishAt * 1000, now, clock, step);
  if (lowAt === null || highAt === null || highAt <= now / 1000 || width < MIN_CLOCK_SECONDS) return { ...none, finish };
  const hasBegun = lowAt <= now / 1000;
  const low = hasBegun ? "" : formatClockTime(lowAt * 1000, now, clock, step, finishAt * 1000);
  const high = formatClockTime(highAt * 1000, now, clock, step, (hasBegun ? finishAt : lowAt) * 1000);
  return high === finish || high === low ? { ...none, finish } : { finish, low, high };
}

/** @param {Item} item */
export function isRunning(item) {
  return (item.status ?? "running") === "running";
}

/** @param {unknown} value */
export function readNumber(value) {
  return typeof value === "number" && Math.abs(value) <= 1e300 ? value : null;
}

/** @param {unknown} value */
export function readInstant(value) {
  const instant = typeof value === "string" ? Date.parse(value) : NaN;
  return Number.isNaN(instant) ? null : instant / 1000;
}
