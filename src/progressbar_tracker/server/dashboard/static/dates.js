// Dates with times, in the viewer's zone and language. The year is shown only if it is another one.

import { createElement } from "./dom.js";

const exactFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
const nearFormat = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "numeric", minute: "2-digit" });
const farFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/**
 * Formats an instant as a date with a time, such as "28 Nov, 17:24"; "" for an invalid one.
 *
 * @param {string | number} instant RFC 3339, or milliseconds
 * @param {Date} [now]
 */
export function formatDate(instant, now = new Date()) {
  const date = new Date(instant);
  if (Number.isNaN(date.getTime())) return "";
  return (date.getFullYear() === now.getFullYear() ? nearFormat : farFormat).format(date);
}

/**
 * Formats an instant in full, with seconds and zone.
 *
 * @param {string | number} instant
 */
export function formatExactDate(instant) {
  const date = new Date(instant);
  return Number.isNaN(date.getTime()) ? "" : exactFormat.format(date);
}

/**
 * Creates a time with the exact instant on hover.
 *
 * @param {string} instant RFC 3339
 */
export function createTime(instant) {
  return createElement("time", { datetime: instant, title: formatExactDate(instant) }, formatDate(instant));
}
