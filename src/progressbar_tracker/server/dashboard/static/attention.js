// What needs attention: failed items, and running items with a condition. Pure.

import { formatClockTime, viewerClock } from "./clock.js";
import { summarizeError } from "./error_text.js";
import { CONDITIONS, formatAge } from "./format.js";
import { formatLateness, formatShortEstimate, formatSilence, formatSlowness } from "./phrases.js";

const OLD_FAILURE_MS = 86400000;

/**
 * The order of the entries, the most urgent first. A failed run has ended: it waits for a person. A stuck run is alive and
 * holds its machine. A stalled run may come back after an outage. A late run still moves, and a slower one may be in time.
 * A failure of more than a day ago comes last, because a day has passed without a reaction to it.
 *
 * @type {(Problem | "old-failure")[]}
 */
const RANKS = ["failed", ...CONDITIONS, "old-failure"];

/** @typedef {"failed" | Condition} Problem */

/**
 * An entry of the list. `problem` is the most urgent of the `problems`, which are separated by spaces; `at` is its
 * instant: of the end, of the last progress or sign of life, of the deadline, or of the start.
 *
 * @typedef {{ item: WireItem, problem: Problem, problems: string, rank: number, at: string }} Attention
 */

/** @typedef {{ isHidden(item: WireItem, problems: string): boolean }} HiddenProblems */

/**
 * Returns why an item needs attention, or null.
 *
 * @param {WireItem} item
 * @param {number} now
 * @returns {Attention | null}
 */
export function findAttention(item, now) {
  if (item.status === "failed") {
    const at = item.ended_at ?? item.updated_at;
    const isOld = now - Date.parse(at) > OLD_FAILURE_MS;
    return { item, problem: "failed", problems: "failed", rank: RANKS.indexOf(isOld ? "old-failure" : "failed"), at };
  }
  if (item.status !== "running") return null;
  const problems = CONDITIONS.filter((condition) => item[condition]);
  if (problems.length === 0) return null;
  const [problem] = problems;
  return { item, problem, problems: problems.join(" "), rank: RANKS.indexOf(problem), at: findInstant(item, problem) };
}

/**
 * Returns what a row says about an item that needs attention: { reason, time }; null for another item.
 *
 * @param {WireItem} item
 * @param {number} now
 * @param {typeof viewerClock} [clock]
 */
export function describeAttention(item, now, clock = viewerClock) {
  const attention = findAttention(item, now);
  if (attention === null) return null;
  const { problem, problems, at, rank } = attention;
  const reasons = problems.split(" ").map((name) => formatReason(item, name, now)).filter((text) => text !== "");
  return { problem, reason: reasons.join(" · "), time: formatTime(item, problem, at, now, clock), at, rank };
}

/**
 * Returns the entries for items, the most urgent first, and within one rank the newest first: it is what the reader has
 * not seen yet. An inner bar whose parent is among the items needs it only if it failed: its parent shows the rest.
 * `hidden` leaves out what the reader has hidden.
 *
 * @param {Iterable<WireItem>} items
 * @param {number} now
 * @param {HiddenProblems | null} [hidden]
 * @returns {Attention[]}
 */
export function collectAttention(items, now, hidden = null) {
  const found = [];
  const all = [...items];
  /** @type {Set<string> | null} */
  let ids = null;
  for (const item of all) {
    const attention = findAttention(item, now);
    if (attention === null || hidden?.isHidden(item, attention.problems)) continue;
    const isInner = item.parent !== null && (ids ??= new Set(all.map(({ id }) => id))).has(item.parent);
    if (!isInner || item.status === "failed") found.push(attention);
  }
  return found.sort(compareAttention);
}

/**
 * @param {Attention} a
 * @param {Attention} b
 */
function compareAttention(a, b) {
  if (a.rank !== b.rank) return a.rank - b.rank;
  if (a.at !== b.at) return a.at > b.at ? -1 : 1; // all instants have the same format
  return a.item.id < b.item.id ? -1 : 1;
}

/**
 * @param {WireItem} item
 * @param {Problem} problem
 */
function findInstant(item, problem) {
  if (problem === "stalled") return item.updated_at;
  if (problem === "stuck") return item.progressed_at;
  return (problem === "late" ? item.deadline : null) ?? item.started_at;
}

/**
 * @param {WireItem} item
 * @param {string} problem
 * @param {number} now
 */
function formatReason(item, problem, now) {
  if (problem === "failed") return summarizeError(item.error ?? "") || "no error was reported";
  if (problem === "late") return formatLateness(item, now);
  if (problem === "slower") return formatSlowness(item, now);
  // An item that is stalled and stuck is described as stalled.
  return formatSilence({ ...item, stalled: problem === "stalled" }, now);
}

/**
 * @param {WireItem} item
 * @param {Problem} problem
 * @param {string} at
 * @param {number} now
 * @param {typeof viewerClock} clock
 */
function formatTime(item, problem, at, now, clock) {
  const instant = Date.parse(at);
  if (problem === "failed") return `failed ${formatAge((now - instant) / 1000)} ago`;
  if (problem === "slower") return formatShortEstimate(item, now, clock);
  return `${problem === "late" ? "due" : "since"} ${formatClockTime(instant, now, clock)}`;
}
