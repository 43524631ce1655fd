// What screen readers hear: ends and conditions of items, and the connection. One live region for all.

import { describeStateChange, stateOf, titleOf } from "./format.js";

const MAX_ANNOUNCED = 3;

/** @typedef {[title: string, change: string]} Announcement */
/** @typedef {{ changed: [before: WireItem, after: WireItem][], removed: WireItem[], ended: WireItem[] }} BoardChanges */

/**
 * Returns what to announce of the changes of the board. An inner bar is announced only if it failed.
 *
 * @param {BoardChanges} changes
 * @returns {Announcement[]}
 */
export function describeChanges({ changed, removed, ended }) {
  /** @type {Announcement[]} */
  const announcements = [];
  if (ended.length > 0) {
    // Runs that left the board with their end, or that a newer run replaced.
    const running = [...removed, ...changed.map(([before]) => before)].filter((item) => item.status === "running");
    const runs = new Map(running.map((item) => [item.id, item.run_id]));
    for (const run of ended) {
      if (run.status === "deleted" || runs.get(run.id) !== run.run_id || !isAnnounced(run, run.status)) continue;
      announcements.push([titleOf(run), run.status]);
    }
  }
  for (const [before, after] of changed) {
    if (before.run_id !== after.run_id) continue;
    const change = describeChange(before, after);
    if (change !== "" && isAnnounced(after, change)) announcements.push([titleOf(after), change]);
  }
  return announcements;
}

/**
 * Returns a sentence with a few of the titles, so that a screen reader can keep up.
 *
 * @param {Announcement[]} announcements
 */
export function formatAnnouncements(announcements) {
  const parts = announcements.slice(0, MAX_ANNOUNCED).map(([title, change]) => `${title}: ${change}`);
  if (announcements.length > MAX_ANNOUNCED) parts.push(`and ${announcements.length - MAX_ANNOUNCED} more`);
  return parts.join(". ");
}

/**
 * Makes screen readers say a text.
 *
 * @param {string} text
 */
export function announce(text) {
  const region = document.getElementById("announcement");
  if (region !== null && text !== "") region.textContent = text;
}

/**
 * @param {WireItem} before
 * @param {WireItem} after
 */
function describeChange(before, after) {
  const change = describeStateChange(stateOf(before), stateOf(after));
  if (change !== "" || before.late || !after.late || after.status !== "running") return change;
  return "late";
}

/**
 * @param {WireItem} item
 * @param {string} change
 */
function isAnnounced(item, change) {
  return item.parent === null || change === "failed";
}
