// Phrases about the time of an item. _phrases.py has the same functions and gives the reasons for the rules; both pass the
// same table of cases. Each takes a serialized item; any field may be absent. `now` is in milliseconds by the server's
// clock. Each returns "" if there is nothing to say.

import { formatClockTime, roundToStep, viewerClock } from "./clock.js";
import {
  MAX_REMAINING_SECONDS, chooseStep, formatClocks, formatRemaining, formatRoughDuration, getStart, isOverdue, isRunning,
  readEstimate, readInstant, readNumber,
} from "./estimate.js";
import { formatAge, formatCount, formatDuration, formatNumber, formatPercent, formatSteps } from "./format.js";

export { formatRoughDuration, getStart, readEstimate };

/** @typedef {import("./estimate.js").Clock} Clock */
/** @typedef {import("./estimate.js").Item} Item */

const MIN_SILENCE_SECONDS = 60;
const SILENCE_FACTOR = 10;
const MIN_PROGRESS_AGE = 60;
const USUAL_START_STEP = 300;
const NO_SILENCE = { text: "", isAlarming: false, at: null };
const BYTE_UNITS = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];

const NO_ESTIMATE = { end: "", range: "" };

/**
 * Returns the parts of an estimate, such as { end: "~30 min left, about 17:24", range: "17:18 to 17:40" }.
 *
 * @param {Item} item
 * @param {number} now
 * @param {Clock} [clock]
 */
export function describeEstimate(item, now, clock = viewerClock) {
  const estimate = readEstimate(item, now);
  if (estimate === null) return NO_ESTIMATE;
  const { finish, low, high } = formatClocks(estimate, now, clock);
  const range = high === "" ? "" : `${low === "" ? "until" : `${low} to`} ${high}`;
  if (isOverdue(estimate)) return finish === "" ? NO_ESTIMATE : { end: `expected about ${finish}`, range };
  const remaining = `${formatRemaining(estimate) || "a few seconds"} left`;
  return finish === "" ? { end: remaining, range: "" } : { end: `${remaining}, about ${finish}`, range };
}

/**
 * Returns when an item ends, such as "~30 min left, about 17:24 (17:18 to 17:40)".
 *
 * @param {Item} item
 * @param {number} now
 * @param {Clock} [clock]
 */
export function formatEstimate(item, now, clock = viewerClock) {
  const { end, range } = describeEstimate(item, now, clock);
  return range === "" ? end : `${end} (${range})`;
}

/**
 * Returns when an item ends, such as "~30 min, 17:24".
 *
 * @param {Item} item
 * @param {number} now
 * @param {Clock} [clock]
 */
export function formatShortEstimate(item, now, clock = viewerClock) {
  const estimate = readEstimate(item, now);
  if (estimate === null) return "";
  const { finish } = formatClocks(estimate, now, clock);
  if (isOverdue(estimate)) return finish === "" ? "" : `due ${finish}`;
  const remaining = formatRemaining(estimate) || "<10 s";
  return finish === "" ? remaining : `${remaining}, ${finish}`;
}

/**
 * Returns the basis of an estimate, such as "from 6 former runs".
 *
 * @param {Item} item
 */
export function formatBasis(item) {
  return typeof item.basis === "string" && item.basis !== "" ? `from ${item.basis}` : "";
}

/**
 * Returns for how long a running item has been silent, such as "no progress for 6 min, usually every 2 s".
 *
 * @param {Item} item
 * @param {number} now
 */
export function formatSilence(item, now) {
  if (!isRunning(item)) return "";
  const updatedAt = readInstant(item.updated_at);
  const gap = readNumber(item.usual_gap_seconds);
  if (item.stalled) return updatedAt === null ? "" : `last heard from ${formatAge(now / 1000 - updatedAt)} ago`;
  if (item.stuck) {
    const progressedAt = readInstant(item.progressed_at);
    if (progressedAt === null) return "no progress";
    const age = now / 1000 - progressedAt;
    return `no progress for ${formatAge(age)}${formatGap(gap, age)}`;
  }
  if (updatedAt === null || (item.heartbeat_timeout ?? null) !== null) return "";
  const age = now / 1000 - updatedAt;
  return age >= Math.max(MIN_SILENCE_SECONDS, SILENCE_FACTOR * (gap ?? 0)) ? `no update for ${formatAge(age)}` : "";
}

/**
 * @param {number | null} gap
 * @param {number} age
 */
function formatGap(gap, age) {
  if (gap === null || !(gap > 0 && gap < age)) return "";
  if (gap < 1.5) return gap >= 0.75 ? ", usually every second" : ", usually several a second";
  return `, usually every ${formatRoughDuration(gap)}`;
}

/**
 * Returns when a running item made progress, such as "progress 6 min ago".
 *
 * @param {Item} item
 * @param {number} now
 */
export function formatProgressAge(item, now) {
  const progressedAt = readInstant(item.progressed_at);
  return progressedAt === null || !isRunning(item) ? "" : `progress ${formatAge(now / 1000 - progressedAt)} ago`;
}

/**
 * Returns for how long an item has been silent, or else when it made progress if that is long ago: { text, isAlarming, at }.
 * `at` is the instant of the latest progress or sign of life.
 *
 * @param {Item} item
 * @param {number} now
 */
export function describeSilence(item, now) {
  const text = formatSilence(item, now);
  if (text !== "") return { text, isAlarming: true, at: item.stuck && !item.stalled ? item.progressed_at : item.updated_at };
  const progressedAt = readInstant(item.progressed_at);
  // Without any progress there is nothing to compare with: some items never report any.
  if (progressedAt === null || !((getStart(item) ?? 0) < progressedAt && progressedAt <= now / 1000 - MIN_PROGRESS_AGE)) return NO_SILENCE;
  return { text: formatProgressAge(item, now), isAlarming: false, at: item.progressed_at };
}

/**
 * Returns the basis of an estimate and the usual duration.
 *
 * @param {Item} item
 */
export function describeBasis(item) {
  return [formatBasis(item), formatUsualDuration(item)].filter((text) => text !== "").join(", ");
}

/**
 * Returns the count of an item with its total and unit; "~" marks an estimated total.
 *
 * @param {Item} item
 */
export function formatItemCount(item) {
  const amount = item.status === "running" ? formatEstimatedAmount(item) : "";
  const { completed = null, total = null, unit = "" } = item;
  if (amount === "" || completed === null) return formatCount({ completed, total, unit });
  return `${formatCount({ completed, total: null, unit: unit === "B" ? "B" : "" })} / ~${amount}`;
}

/**
 * Returns who has requested to stop a run; "" without a request, or if the run has ended in another way.
 *
 * @param {Item} item
 */
export function formatStop({ stop_requested_by: name, status = "running" }) {
  if (typeof name !== "string" || name === "" || !["running", "stopped"].includes(status)) return "";
  return `stop requested by ${name}${status === "running" ? ", waiting for the program" : ""}`;
}

/**
 * Returns how slow an item is, such as "slower than usual: ~40 min, usually 25 min".
 *
 * @param {Item} item
 * @param {number} now
 */
export function formatSlowness(item, now) {
  if (!item.slower || !isRunning(item)) return "";
  const start = getStart(item);
  const usual = readNumber(item.usual_duration_seconds);
  if (usual === null || !(usual > 0 && usual < MAX_REMAINING_SECONDS)) return "slower than usual";
  const usually = formatRoughDuration(usual);
  const estimate = readEstimate(item, now);
  if (start !== null) {
    if (estimate !== null && estimate.finishAt !== null && estimate.remaining >= 0) {
      const duration = estimate.finishAt - start;
      const text = formatSteps(roundToStep(duration, chooseStep(duration, estimate.width)));
      if (usual < duration && duration < MAX_REMAINING_SECONDS && text !== usually) return `slower than usual: ~${text}, usually ${usually}`;
    }
    const elapsed = now / 1000 - start;
    const text = formatRoughDuration(elapsed);
    if (usual < elapsed && elapsed < MAX_REMAINING_SECONDS && text !== usually) return `slower than usual: ${text} so far, usually ${usually}`;
  }
  return `slower than usual, usually ${usually}`;
}

/**
 * Returns for how long an item has been late, such as "12 min late".
 *
 * @param {Item} item
 * @param {number} now
 */
export function formatLateness(item, now) {
  if (!item.late) return "";
  const deadlineAt = readInstant(item.deadline);
  return deadlineAt === null ? "late" : `${formatAge(now / 1000 - deadlineAt)} late`;
}

/**
 * Returns the typical duration of the former runs, such as "usual duration 25 min".
 *
 * @param {Item} item
 */
export function formatUsualDuration(item) {
  const usual = readNumber(item.usual_duration_seconds);
  return usual !== null && usual > 0 && usual < MAX_REMAINING_SECONDS ? `usual duration ${formatRoughDuration(usual)}` : "";
}

/**
 * Returns the share of the runs of an id that succeeded, such as "96 % of 50 runs succeeded".
 *
 * @param {Partial<RunStatistics>} statistics
 */
export function formatSuccessRate(statistics) {
  const count = readNumber(statistics.run_count);
  const rate = readNumber(statistics.success_rate);
  if (count === null || rate === null || !(count >= 1 && count < 1e15 && rate >= 0 && rate <= 1)) return "";
  return `${formatPercent(rate)} of ${formatNumber(Math.round(count))} run${count > 1 ? "s" : ""} succeeded`;
}

/**
 * Returns the median duration and the range of most runs of an id, such as "usually 25 min (21 min to 31 min)".
 *
 * @param {Partial<RunStatistics>} statistics
 */
export function formatUsualRange(statistics) {
  const median = readNumber(statistics.median_duration_seconds);
  const low = readNumber(statistics.low_duration_seconds);
  const high = readNumber(statistics.high_duration_seconds);
  if (median === null || !(median >= 0 && median < MAX_REMAINING_SECONDS)) return "";
  if (low === median && median === high) return `usually ${formatDuration(median)}`; // a single run
  const text = `usually ${formatRoughDuration(median)}`;
  if (low === null || high === null || !(low >= 0 && low <= median && median <= high && high < MAX_REMAINING_SECONDS)) return text;
  const [first, last] = [formatRoughDuration(low), formatRoughDuration(high)];
  return first === last ? text : `${text} (${first} to ${last})`;
}

/**
 * Returns the time of day at which the runs of an id begin, such as "usually starts about 02:30".
 *
 * @param {Partial<RunStatistics>} statistics
 * @param {number} now
 * @param {Clock} [clock]
 */
export function formatUsualStart(statistics, now, clock = viewerClock) {
  const start = readNumber(statistics.usual_start_seconds);
  if (start === null || !(start >= 0 && start <= 86400)) return "";
  const at = roundToStep(Math.floor(now / 86400000) * 86400 + start, USUAL_START_STEP) * 1000;
  return `usually starts about ${formatClockTime(at, at, clock)}`;
}

/**
 * Returns the estimated total of an item without a total, such as "about 1,200 rows in total, estimated".
 *
 * @param {Item} item
 */
export function formatEstimatedTotal(item) {
  const amount = formatEstimatedAmount(item);
  return amount === "" ? "" : `about ${amount} in total, estimated`;
}

/**
 * Returns the number and the unit of an estimated total, such as "1,200 rows".
 *
 * @param {Item} item
 */
export function formatEstimatedAmount(item) {
  const estimated = readNumber(item.estimated_total);
  if (estimated === null || !(estimated >= 1 && estimated < 1e15) || (readNumber(item.total) ?? 0) > 0) return "";
  if ((readNumber(item.completed) ?? 0) > estimated) return ""; // the run is larger than the former ones
  let step = 1;
  while (estimated >= 100 * step) step *= 10;
  const rounded = Math.floor(estimated / step + 0.5) * step;
  if (item.unit !== "B") return `${formatNumber(rounded)} ${typeof item.unit === "string" ? item.unit : ""}`.trimEnd();
  let power = 0;
  while (rounded >= 1000 ** (power + 1)) power++;
  return `${rounded / 1000 ** power} ${BYTE_UNITS[power]}`;
}
