// The texts of a timeline: the details of a run, and the sentence about the time since the last visit. Pure.

import { viewerClock } from "./clock.js";
import { ICONS, formatDuration, formatNumber, formatPercent, titleOf } from "./format.js";
import { formatEstimate, formatLateness, formatSilence, formatSlowness } from "./phrases.js";

/** @typedef {import("./timeline_runs.js").TimelineRun} TimelineRun */
/** @typedef {{ day: (at: number) => number, time: (at: number) => string, weekday: (at: number) => string, date: (at: number) => string }} Clock */
/** @typedef {{ title: string, icon: string, status: string, times: string, notes: string[], error: string }} RunDetails */
/** @typedef {{ ended: number, failed: number, late: number, stuck: number, stalled: number, isPartial?: boolean }} Counts `isPartial`: more runs may have ended */

const MAX_WEEKDAY_DAYS = 6;

/**
 * Returns what the page says about a run.
 *
 * @param {TimelineRun} run
 * @param {number} now
 * @param {Clock} [clock]
 * @returns {RunDetails}
 */
export function describeRun(run, now, clock = viewerClock) {
  const { item, start, end } = run;
  const duration = formatDuration(Math.max((end ?? now) - start, 0) / 1000);
  const times = end === null
    ? `since ${formatMoment(start, now, clock)}, for ${duration}`
    : `${formatMoment(start, now, clock)} to ${formatEnd(start, end, now, clock)}, ${duration}`;
  const notes = item === null ? [] : [formatSilence(item, now), formatLateness(item, now), formatSlowness(item, now), formatEstimate(item, now)];
  const share = item === null || item.total === null ? "" : formatPercent(item.value);
  return {
    title: titleOf(run),
    icon: ICONS[/** @type {keyof typeof ICONS} */ (run.state)] ?? "!",
    status: [run.state, share].filter((text) => text !== "").join(", "),
    times,
    notes: [...notes, run.stop].filter((text) => text !== ""),
    error: run.error,
  };
}

/**
 * Returns the same as one text, for screen readers.
 *
 * @param {TimelineRun} run
 * @param {number} now
 * @param {Clock} [clock]
 */
export function formatRun(run, now, clock = viewerClock) {
  const { title, status, times, notes, error } = describeRun(run, now, clock);
  return [title, status, times, ...notes, error].filter((text) => text !== "").join(", ");
}

/**
 * Formats an instant with its day unless it is today, such as "Fri 08:12" or "3 Nov 08:12".
 *
 * @param {number} at
 * @param {number} now
 * @param {Clock} [clock]
 */
export function formatMoment(at, now, clock = viewerClock) {
  const distance = Math.abs(clock.day(at) - clock.day(now));
  if (distance === 0) return clock.time(at);
  return `${distance <= MAX_WEEKDAY_DAYS ? clock.weekday(at) : clock.date(at)} ${clock.time(at)}`;
}

/** @param {number} start @param {number} end @param {number} now @param {Clock} clock */
function formatEnd(start, end, now, clock) {
  return clock.day(start) === clock.day(end) ? clock.time(end) : formatMoment(end, now, clock);
}

/**
 * Counts the ends since an instant, and the running runs that need attention.
 *
 * @param {Iterable<TimelineRun>} runs
 * @param {number} since
 * @returns {Counts}
 */
export function countRuns(runs, since) {
  const counts = { ended: 0, failed: 0, late: 0, stuck: 0, stalled: 0 };
  for (const run of runs) {
    if (run.end !== null) {
      if (run.end <= since) continue;
      counts.ended++;
      if (run.state === "failed") counts.failed++;
    } else if (run.state === "stuck") counts.stuck++;
    else if (run.state === "stalled") counts.stalled++;
    else if (run.isLate) counts.late++;
  }
  return counts;
}

/**
 * Returns the sentence above the timeline, such as "You last looked at 08:12. Since then 14 ended, 2 failed, 1 is late."
 *
 * @param {number | null} lastVisit null at the first visit
 * @param {Counts} counts since the last visit, or of today at the first visit
 * @param {number} now
 * @param {Clock} [clock]
 */
export function formatVisit(lastVisit, counts, now, clock = viewerClock) {
  const texts = [];
  const minimum = counts.isPartial ? "at least " : "";
  if (counts.ended > 0) texts.push(`${minimum}${formatNumber(counts.ended)} ended`);
  if (counts.failed > 0) texts.push(`${minimum}${formatNumber(counts.failed)} failed`);
  for (const condition of /** @type {const} */ (["stuck", "stalled", "late"])) {
    const count = counts[condition];
    if (count > 0) texts.push(`${formatNumber(count)} ${count === 1 ? "is" : "are"} ${condition}`);
  }
  if (counts.ended === 0 && !counts.isPartial) texts.unshift("nothing ended");
  const text = texts.join(", ");
  if (lastVisit === null) return text === "" ? "" : `Today ${text}.`;
  return `You last looked ${formatVisitTime(lastVisit, now, clock)}.${text === "" ? "" : ` Since then ${text}.`}`;
}

/** @param {number} at @param {number} now @param {Clock} clock */
function formatVisitTime(at, now, clock) {
  const distance = clock.day(now) - clock.day(at);
  if (distance <= 0) return `at ${clock.time(at)}`;
  if (distance === 1) return `yesterday at ${clock.time(at)}`;
  return `on ${distance <= MAX_WEEKDAY_DAYS ? clock.weekday(at) : clock.date(at)} at ${clock.time(at)}`;
}
