// Counts the items of the board or of a group by condition. Pure.

import { CONDITIONS, estimatedShareOf, formatNumber, isOpenEnded } from "./format.js";

/**
 * Returns counts, and `meanValue`: the mean value of the running items whose share is known, or null.
 *
 * @param {Iterable<WireItem>} items
 * @returns {Summary}
 */
export function summarize(items) {
  const summary = { running: 0, stuck: 0, stalled: 0, late: 0, slower: 0, failed: 0, meanValue: /** @type {number | null} */ (null) };
  let total = 0;
  let known = 0;
  for (const item of items) {
    if (item.status === "failed") summary.failed++;
    if (item.status !== "running") continue;
    summary.running++;
    if (item.stuck) summary.stuck++;
    if (item.stalled) summary.stalled++;
    if (item.late) summary.late++;
    if (item.slower) summary.slower++;
    if (isOpenEnded(item) || estimatedShareOf(item) !== null) continue;
    total += item.value;
    known++;
  }
  if (known > 0) summary.meanValue = total / known;
  return summary;
}

/**
 * Returns the counts that are not zero, such as [["running", "4 running"], ["failed", "1 failed"]], or "0 running" alone.
 *
 * @param {Summary} summary
 * @returns {["running" | "failed" | Condition, string][]}
 */
export function describeCounts(summary) {
  const names = /** @type {const} */ (["running", ...CONDITIONS, "failed"]);
  const shown = names.filter((name) => summary[name] > 0);
  return (shown.length > 0 ? shown : [names[0]]).map((name) => [name, `${formatNumber(summary[name])} ${name}`]);
}

/** @param {Summary} summary */
export function summaryText(summary) {
  return describeCounts(summary).map(([, text]) => text).join(", ");
}
